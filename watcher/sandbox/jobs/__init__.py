"""Runs training jobs and their rules: the processes, their logs, and what the profiler sees of them."""
