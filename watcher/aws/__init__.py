"""AWS at the edge: each module asks one service and answers in Watcher's own values and errors."""
