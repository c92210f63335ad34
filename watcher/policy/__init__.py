"""What is done about a finding, and why. Pure: no I/O, and time is an argument."""
