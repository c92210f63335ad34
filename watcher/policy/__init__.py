"""Decides what to do about a finding, and which rules to evaluate. Pure: no I/O, and time is an argument."""
