"""Runs rules on what a job saves, while it trains or afterwards."""
