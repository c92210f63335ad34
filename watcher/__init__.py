"""Watches Amazon SageMaker training jobs and tells people what went wrong."""

__version__ = "0.1.0"

USER_AGENT = f"debugger-watcher/{__version__}"
"""How Watcher appears in AWS's logs. It is set as a whole, because botocore builds a user agent of its own
twice for each request, which takes a tenth of the request's time."""
