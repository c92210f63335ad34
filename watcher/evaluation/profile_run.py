"""Shows the profiler rules of a job what is new in one look, and isolates those that fail from the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from rules import Status
from rules.profiler import Batch, ProfilerRule, SeriesKey, Verdict
from watcher.errors import WatcherError
from watcher.evaluation import rule_states

log = structlog.get_logger(__name__)


class ProfileRun:
    """The profiler rules of one job during one look. A rule that has fired is over: there is no recovery.

    A rule that raises ends only its own evaluation, with the verdict `error`.
    """

    def __init__(self, rules: Mapping[str, ProfilerRule], states: Mapping[str, str]) -> None:
        """`rules` and their `states` are by the names of their configurations."""
        self.rules = dict(rules)
        self.batches = 0
        """The number of batches with data."""
        self._over: dict[str, Verdict] = {}
        for name, rule in rules.items():
            if name in states:
                with self._isolated(name):
                    rule.restore(json.loads(states[name]))

    @contextmanager
    def _isolated(self, name: str) -> Iterator[None]:
        try:
            yield
        except WatcherError:  # the data could not be read: the next look may succeed
            raise
        except Exception as error:
            log.exception("rule_failed", rule=name)
            failure = f"Watcher's own evaluation failed with {type(error).__name__}: {error}"
            self._over[name] = Verdict(Status.ERROR, reason="failed", explanation=failure)

    def wants(self, key: SeriesKey) -> bool:
        """Whether any rule reads this series."""
        for name, rule in self._unfinished():
            with self._isolated(name):
                if rule.wants(key):
                    return True
        return False

    def observe(self, batch: Batch) -> None:
        self.batches += bool(batch.series or batch.spans)
        for name, rule in self._unfinished():
            with self._isolated(name):
                if verdict := rule.observe(batch):
                    self._over[name] = verdict

    def verdict(self, name: str, *, ended: bool) -> Verdict:
        """The verdict so far. `ended`: nothing will follow."""
        if name not in self._over:
            with self._isolated(name):
                verdict = self.rules[name].verdict(ended=ended)
                if verdict.status is Status.IN_PROGRESS:
                    return verdict
                self._over[name] = verdict
        return self._over[name]

    def states(self) -> dict[str, str]:
        """The states of the rules that go on. While they are too large together, the rule with the largest
        state ends with an error."""
        states = {}
        for name, rule in self._unfinished():
            with self._isolated(name):
                states[name] = json.dumps(rule.state())
        kept, dropped = rule_states.within_bounds(states)
        for name, size in dropped.items():
            failure = (
                f"{self.rules[name].name} would have to remember {size} about this job: use a smaller "
                "window or scan_interval_us"
            )
            self._over[name] = Verdict(Status.ERROR, reason="too_much_data", explanation=failure)
        return kept

    def _unfinished(self) -> list[tuple[str, ProfilerRule]]:
        return [(name, rule) for name, rule in self.rules.items() if name not in self._over]
