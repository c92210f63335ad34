"""Reads what SageMaker's profiler saved of a job: system metrics and framework events."""
