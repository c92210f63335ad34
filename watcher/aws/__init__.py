"""AWS: sessions, accounts, and one module for each service. Turns botocore's errors into Watcher's own."""
