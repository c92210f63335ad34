"""Training jobs: which to look at, and one job end to end (fetch, detect, decide, commit)."""
