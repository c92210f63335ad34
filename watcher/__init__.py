"""Watches Amazon SageMaker training jobs and tells people what went wrong."""

__version__ = "0.1.0"

USER_AGENT = f"debugger-watcher/{__version__}"
"""What AWS's logs know Watcher by. botocore's own would be put together anew, twice for each request: a tenth
of what a request costs."""
