"""`watcher run`: `app` wires the daemon, `threads` starts its loops, and each other module is one of them."""
