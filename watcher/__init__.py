"""Watches Amazon SageMaker training jobs and tells people what went wrong."""

__version__ = "0.1.0"
