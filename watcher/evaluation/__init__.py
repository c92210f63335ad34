"""Runs rules on what a job saved: while it trains, or afterwards."""
