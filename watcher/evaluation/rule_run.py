"""Shows the rules of a job what is new in one look, and isolates those that fail from the others.

A rule that fired is not over: its successor judges the steps that follow, so that the evaluation notices when
the rule recovers, and when it fires again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from rules import Collection, Recovered, Rule, Status, Verdict
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput
from watcher.errors import WatcherError
from watcher.evaluation import feed, rule_states
from watcher.evaluation.steps import Steps

log = structlog.get_logger(__name__)

MAX_CHANGES_PER_LOOK = 20
"""Of one rule, that are kept for the evaluation's log: a look may read thousands of steps."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rule that has fired stands now."""

    recovered: bool
    step: int | None
    """The global step at which it last fired anew, or recovered."""
    explanation: str
    reported: bool = True
    """False if the look reported something else, namely that the rule fired for the first time."""


Change = Verdict | Recovered
"""A rule fired, for the first time or after it had recovered; or it recovered."""


class RuleRun:
    """The rules of one job during one look: `read`, perhaps `tick`, then `states` and `verdict`.

    A rule that raises ends only its own evaluation, with the verdict `error`: it may come from another
    distribution. If it has fired before, it stands as it did.
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
        self.rules, self._source, self._other_trial = dict(rules), steps, other_trial
        self._others: dict[str, DebugOutput] = {}
        self._ended: dict[str, Verdict] = {}
        self._wanted: dict[str, bool] = {}
        self._collections: Mapping[str, Collection] = {}
        self._standings: dict[str, Standing] = {}
        self._opened: dict[str, Verdict] = {}
        """The verdicts of the rules that fired for the first time in this look."""
        self._late: set[str] = set()
        """The rules with a standing that the look before could not report."""
        self._changes: dict[str, list[Change]] = {}
        self.steps = 0
        """The number of new steps that were read."""
        for name, rule in rules.items():
            with self._isolated(name):
                if name in states:
                    self._restore(name, rule, json.loads(states[name]))

    def _restore(self, name: str, rule: Rule, stored: Any) -> None:
        # A rule that has not fired has only its own state, which is never a list.
        if isinstance(stored, list):
            fields, stored = stored
            standing = Standing(**fields)
            if not standing.reported:
                self._late.add(name)
            self._standings[name] = replace(standing, reported=True)
        rule.restore(stored)

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
        self._collections = collections
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
                    if seen := _at(self._source, number, rule):
                        rule.recall(feed.as_step(seen), seen.tensors)
        for saved in feed.for_rules(self._source.read(self.wants)):
            self.steps += 1
            if saved.begins_again:
                self._begin_again()
            for name, rule in self._unfinished():
                with self._isolated(name):
                    self._compare(name, rule, saved.step)
                    self._judged(name, rule, feed.observe(rule, saved))

        if self._source.saved_again:
            for name, rule in self._unfinished():
                with self._isolated(name):
                    rule.saved_again()

    def _begin_again(self) -> None:
        """The steps come again, from the beginning or a checkpoint: no rule may compare across that."""
        log.info("steps_begin_again", place=self._source.place)
        for name, rule in self._unfinished():
            with self._isolated(name):
                self.rules[name] = rule.anew()
                self.rules[name].learn(self._collections)

    def tick(self, began: datetime, trained: timedelta) -> None:
        """Tell the rules the time, in a job that first trained at `began`, and for so long since.

        Their clock stands still while the job does not train, for example while a managed spot job waits for
        an instance. It follows from the job's record, so a restart of this process does not change it.
        """
        for name, rule in self._unfinished():
            with self._isolated(name):
                rule.training_began(began.timestamp())
                self._judged(name, rule, rule.tick((began + trained).timestamp()))

    def _judged(self, name: str, rule: Rule, verdict: Verdict | None) -> None:
        if verdict:
            self._fired(name, rule, verdict)
        elif name in self._standings and (recovered := rule.recovered()):
            self._change(name, recovered, Standing(True, recovered.step, recovered.explanation))

    def _fired(self, name: str, rule: Rule, verdict: Verdict) -> None:
        before = self._standings.get(name)
        if before is None:
            self._opened[name] = verdict
        if before is None or before.recovered:  # else it is the same issue, and not news
            self._change(name, verdict, Standing(False, verdict.step, verdict.explanation))
        successor = rule.successor(verdict)
        if successor is None:
            self._ended[name] = verdict
        else:
            successor.learn(self._collections)
            self.rules[name] = successor

    def _change(self, name: str, change: Change, standing: Standing) -> None:
        changes = self._changes.setdefault(name, [])
        changes.append(change)
        if len(changes) > MAX_CHANGES_PER_LOOK:
            del changes[1]
        self._standings[name] = replace(standing, reported=name not in self._opened or len(changes) == 1)

    def changes(self, name: str) -> list[Change]:
        """What happened to the rule in this look, oldest first: the first change and the newest ones."""
        return self._changes.get(name, [])

    def opening(self, name: str) -> Verdict | None:
        """The verdict with which the rule fired for the first time, if it was in this look."""
        return self._opened.get(name)

    def has_news(self, name: str) -> bool:
        """Whether the standing is not the one that the look before reported."""
        return name in self._late or name in self._changes

    def has_more_to_report(self, name: str) -> bool:
        """Whether more happened in this look than that the rule fired for the first time."""
        return name in self._standings and not self._standings[name].reported

    def standing(self, name: str) -> Standing | None:
        """How a rule stands that has fired, whether in this look or before."""
        return self._standings.get(name)

    def verdict(self, name: str) -> Verdict:
        """The verdict on a rule that has not fired."""
        if name not in self._ended:
            with self._isolated(name):
                return self.rules[name].verdict(ended=self._source.ended)
        return self._ended[name]

    def states(self) -> dict[str, str]:
        """The states of the unfinished rules, with the standing of those that have fired. While they are too
        large together, the rule with the largest state ends with an error."""
        states = {}
        for name, rule in self._unfinished():
            with self._isolated(name):
                standing = self._standings.get(name)
                states[name] = json.dumps([asdict(standing), rule.state()] if standing else rule.state())
        kept, dropped = rule_states.within_bounds(states)
        for name, size in dropped.items():
            failure = (
                f"{self.rules[name].name} would have to remember {size} about what it selects: select fewer "
                "tensors, by collection_names or tensor_regex"
            )
            self._ended[name] = Verdict(Status.ERROR, reason="too_many_tensors", explanation=failure)
        return kept

    def _unfinished(self) -> list[tuple[str, Rule]]:
        return [(name, rule) for name, rule in self.rules.items() if name not in self._ended]

    def _compare(self, name: str, rule: Rule, step: int) -> None:
        other = self._others.get(name)
        if other and (saved := _at(other, step, rule)):
            rule.compare_with(step, saved.tensors)


def _at(source: Steps | DebugOutput, step: int, rule: Rule) -> SavedStep | None:
    """What was saved at a step, of all workers; None if it cannot be read (any more)."""
    return next(feed.for_rules(source.at(step, rule.wants), unreadable=lambda _: None), None)
