"""Shows the rules of a job what is new in one look, and isolates those that fail from the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import structlog

from rules import Collection, Rule, Status, Verdict
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput
from watcher.errors import WatcherError
from watcher.evaluation import feed
from watcher.evaluation.steps import Steps

log = structlog.get_logger(__name__)

MAX_STATE_CHARS = 2_000_000
"""Characters of JSON that the states of all rules of a job may have together. A rule needs a few hundred for
each tensor. All of it is read and written at every look."""


class RuleRun:
    """The rules of one job during one look: `read`, perhaps `tick`, then `states` and `verdict`.

    A rule that raises ends only its own evaluation, with the verdict `error`: it may come from another
    distribution.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        steps: Steps,
        states: Mapping[str, str],
        other_trial: Callable[[str], DebugOutput | None],
    ) -> None:
        """`rules` and their `states` are by the names of their configurations.

        `other_trial` finds the job of this name that a rule compares with; None if there is nothing to read.
        """
        self.rules, self._source, self._other_trial = rules, steps, other_trial
        self._others: dict[str, DebugOutput] = {}
        self._ended: dict[str, Verdict] = {}
        self._wanted: dict[str, bool] = {}
        self.steps = 0
        """The number of new steps that were read."""
        for name, rule in rules.items():
            with self._isolated(name):
                if name in states:
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
            self._ended[name] = Verdict(Status.ERROR, reason="failed", explanation=failure)

    def learn(self, collections: Mapping[str, Collection]) -> None:
        """Show the rules what the job's collections hold; until then, `wants` is not right."""
        self._wanted.clear()
        for name, rule in self._unfinished():
            with self._isolated(name):
                rule.learn(collections)

    def wants(self, tensor: str) -> bool:
        """Whether any rule reads this tensor. Called from several threads, for each tensor of each step, so
        each tensor's answer is kept for this look."""
        if (wanted := self._wanted.get(tensor)) is None:
            self._wanted[tensor] = wanted = self._any_wants(tensor)
        return wanted

    def _any_wants(self, tensor: str) -> bool:
        for name, rule in self._unfinished():
            with self._isolated(name):
                if rule.wants(tensor):
                    return True
        return False

    @property
    def counts_every_step(self) -> bool:
        """Whether any rule has to know of every step, also of those without a tensor that it wants."""
        return any(rule.counts_every_step for _, rule in self._unfinished())

    def read(self, collections: Mapping[str, Collection]) -> None:
        """Show the rules what is new."""
        self.learn(collections)
        for name, rule in self._unfinished():
            with self._isolated(name):
                if rule.compares_runs and (other := self._other_trial(rule.other_trial)):
                    self._others[name] = other
                for number in rule.recalls():
                    if seen := _first(self._source, number, rule):
                        rule.recall(feed.as_step(seen), seen.tensors)
        for saved in feed.for_rules(self._source.read(self.wants)):
            self.steps += 1
            for name, rule in self._unfinished():
                with self._isolated(name):
                    self._compare(name, rule, saved.step)
                    if verdict := feed.observe(rule, saved):
                        self._ended[name] = verdict

    def tick(self, now: datetime, began: datetime) -> None:
        """Tell the rules the time, in a job that has been training since `began`."""
        for name, rule in self._unfinished():
            with self._isolated(name):
                rule.training_began(began.timestamp())
                if verdict := rule.tick(now.timestamp()):
                    self._ended[name] = verdict

    def verdict(self, name: str) -> Verdict:
        if name not in self._ended:
            with self._isolated(name):
                return self.rules[name].verdict(ended=self._source.ended)
        return self._ended[name]

    def states(self) -> dict[str, str]:
        """The states of the unfinished rules. While they are too large together, the rule with the largest
        state ends with an error."""
        states = {}
        for name, rule in self._unfinished():
            with self._isolated(name):
                states[name] = json.dumps(rule.state())
        while sum(map(len, states.values())) > MAX_STATE_CHARS:
            name = max(states, key=lambda name: len(states[name]))
            failure = (
                f"{self.rules[name].name} would have to remember {len(states[name]) / 1e6:.1f} MB about what "
                "it selects: select fewer tensors, by collection_names or tensor_regex"
            )
            self._ended[name] = Verdict(Status.ERROR, reason="too_many_tensors", explanation=failure)
            del states[name]
        return states

    def _unfinished(self) -> list[tuple[str, Rule]]:
        return [(name, rule) for name, rule in self.rules.items() if name not in self._ended]

    def _compare(self, name: str, rule: Rule, step: int) -> None:
        other = self._others.get(name)
        if other and (saved := _first(other, step, rule)):
            rule.compare_with(step, saved.tensors)


def _first(source: Steps | DebugOutput, step: int, rule: Rule) -> SavedStep | None:
    """What the first worker saved at a step; None if it cannot be read (any more)."""
    return next((one for one in source.at(step, rule.wants) if isinstance(one, SavedStep)), None)
