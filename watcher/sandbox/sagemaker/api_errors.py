"""The errors with which SageMaker refuses a request: a code and a sentence."""

from __future__ import annotations


class ApiError(Exception):
    """`code` is the name that botocore shows as `Error.Code`; SageMaker sends these with HTTP 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def not_found() -> ApiError:
    """SageMaker's answer if a job does not exist. (It is not the `ResourceNotFound` of its API reference.)"""
    return invalid("Requested resource not found.")


def missing(kind: str, name: str) -> ApiError:
    """The answer if an entity of an experiment or of a lineage does not exist."""
    return ApiError("ResourceNotFound", f"{kind} '{name}' does not exist.")


def already_exists(kind: str, name: str, arn: str) -> ApiError:
    """The SDKs look for `already exists` in the message."""
    return invalid(
        f"{kind} names must be unique within an AWS account. {kind} {name} ({arn}) already exists."
    )


def in_use(kind: str, arn: str, by: str) -> ApiError:
    return invalid(f"{kind} '{arn}' is linked to 1 or more {by} and cannot be deleted.")
