"""Which runs the configuration asks to watch. Pure."""

from __future__ import annotations

from watcher.config.settings import Watch
from watcher.model import JobSnapshot


def matches(job: JobSnapshot, watch: Watch) -> bool:
    """Whether the configuration asks to watch this job."""
    return watch.names(job.name) and watch.tags.items() <= (job.tags or {}).items()
