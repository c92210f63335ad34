"""What the daemon serves over HTTP: status page, health, metrics. Read only."""
