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
