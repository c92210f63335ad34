"""`watcher run`: wiring, threads and the bodies of the loops."""
