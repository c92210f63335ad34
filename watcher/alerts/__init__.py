"""What an alert says, in every channel: `message` composes it, `evidence` gathers the log and the values."""
