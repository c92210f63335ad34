"""What the daemon tells over HTTP. It is read only: nothing can be stopped or changed this way."""
