"""Training jobs: finds out which to look at, and handles each: fetch, detect, decide, commit."""
