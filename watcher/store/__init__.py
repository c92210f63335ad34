"""Where Watcher's state lives. `base` holds the promises, one module each keeps them."""
