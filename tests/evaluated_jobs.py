"""Jobs whose evaluations a test advances."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from watcher.aws.accounts import Accounts
from watcher.config.settings import Rules
from watcher.evaluation.evaluator import Evaluator
from watcher.model import Evaluation, JobSnapshot, RuleFamily
from watcher.policy import evaluated_rules
from watcher.store.base import JobRecord
from watcher.store.documents import EVALUATION


class Watched:
    """Jobs as the store has them, evaluated when the test calls `look`."""

    def __init__(self, *attached: str | dict[str, Any], now: datetime, local: str = "attach") -> None:
        attach = [{"rule": one} if isinstance(one, str) else one for one in attached]
        self.now = now
        self.settings = Rules.model_validate({"local": local, "attach": attach})
        self.accounts = Accounts()
        self.evaluator = Evaluator(self.accounts, self.settings, lambda: self.now)
        self.records: dict[str, JobRecord] = {}

    def know(self, *jobs: JobSnapshot) -> None:
        for one in jobs:
            first = evaluated_rules.first_reads(one, self.settings)
            begin = tuple(Evaluation(due_at=self.now, reads=reads) for reads in first)
            known = self.records.get(one.name)
            evaluations = known.evaluations if known else begin
            self.records[one.name] = JobRecord(
                one, self.now, self.now, watching=True, evaluations=evaluations
            )

    def look(self) -> dict[str, Evaluation]:
        """Advance all evaluations once, through JSON as in a store. Returns those of profiler rules."""
        stored = [(record, each) for record in self.records.values() for each in record.evaluations]
        together = [pair for pair in stored if pair[1].reads.together]
        for record, evaluation in self.evaluator.advance_together(self.accounts.home, together):
            self._keep(record, evaluation)
        for record, evaluation in stored:
            if not evaluation.reads.together:
                self._keep(record, self.evaluator.advance(record, evaluation))
        profiles = {name: record.evaluation(RuleFamily.PROFILER) for name, record in self.records.items()}
        return {name: evaluation for name, evaluation in profiles.items() if evaluation}

    def _keep(self, record: JobRecord, evaluation: Evaluation) -> None:
        name = record.snapshot.name
        kept = EVALUATION.validate_json(EVALUATION.dump_json(evaluation))
        self.records[name] = self.records[name].with_evaluations([kept])

    def restart(self) -> None:
        self.evaluator = Evaluator(self.accounts, self.settings, lambda: self.now)
