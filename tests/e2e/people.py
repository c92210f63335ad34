"""People who stop jobs and acknowledge incidents while daemons run."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.daemon import Command, Daemons
from tests.waiting import WAIT_LIMIT_S
from watcher.config.settings import Config

NAMES = ("alice", "bob")
PATIENCE = 0.8
"""The probability that a command that still runs is not killed when somebody loses patience."""
FINE = frozenset({0, 1, 2, -signal.SIGKILL})
"""Exit codes of commands that did not crash."""


@dataclass
class People:
    """Each command is a process of its own, with the store of `config`."""

    config: Config
    daemons: Daemons
    folder: Path
    rng: random.Random
    commands: list[Command] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        settings = (
            f'store.url = "{self.config.store.url}"\nstop.max_per_hour = {self.config.stop.max_per_hour}\n'
        )
        (self.folder / "watcher.toml").write_text(settings)

    def acknowledge(self, job: str) -> None:
        self.type("ack", job)

    def stop(self, job: str) -> None:
        self.type("stop", job, "--yes")

    def type(self, *words: str) -> Command:
        output = self.folder / f"command-{len(self.commands)}.txt"
        words = (*words, "-c", str(self.folder / "watcher.toml"))
        command = self.daemons.command(output, *words, user=self.rng.choice(NAMES))
        self.commands.append(command)
        return command

    def lose_patience(self) -> None:
        """Kill some of the commands that still run."""
        for command in self.commands:
            if command.is_alive() and self.rng.random() > PATIENCE:
                command.kill()
                self.killed += 1

    def finish(self) -> list[str]:
        """Wait for what still runs. Returns the output of commands that crashed."""
        for command in self.commands:
            command.join(WAIT_LIMIT_S)
        return [command.output.read_text() for command in self.commands if command.exitcode not in FINE]
