"""Creates the AWS clients for one account and region, and turns AWS's errors into Watcher's own.

The clients are botocore's. boto3 would add nothing but the time and memory that importing its S3 transfers
takes.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config as ClientConfig
from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectionClosedError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    LoginError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)
from botocore.exceptions import ConnectionError as AwsConnectionError
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from watcher import USER_AGENT
from watcher.config.destination import public_url
from watcher.errors import (
    AccessDenied,
    AwsError,
    ConfigError,
    CredentialsError,
    NotFound,
    Unavailable,
    WatcherError,
)

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sagemaker import SageMakerClient
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient
    from types_boto3_sts import STSClient

CLIENT_CONFIG = ClientConfig(
    retries={"mode": "adaptive", "max_attempts": 5},
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=64,
    user_agent=USER_AGENT,
)
IMPATIENT = CLIENT_CONFIG.merge(
    ClientConfig(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=10)
)
"""For a command that has something to show without AWS."""
PUBLISH_ONCE = CLIENT_CONFIG.merge(ClientConfig(retries={"total_max_attempts": 1}))
ASSUME_ROLE = "sts:AssumeRole"


Answered = Callable[[str, str, str], None]
"""Called after each request, retries included, with the service, the operation and the result: `ok`, or the
code of the error."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume. `external_id` is what its trust policy requires, or empty."""

    arn: str
    external_id: str
    source: Aws
    """Its credentials are used to assume the role."""


class Aws:
    """Creates each client when it is first used. Safe to use from several threads."""

    def __init__(
        self,
        region: str = "",
        role: Role | None = None,
        answered: Answered | None = None,
        config: ClientConfig = CLIENT_CONFIG,
    ) -> None:
        self._region = region
        self._config = config
        self._role = role
        self._answered = answered
        self._lock = threading.RLock()
        self._session: botocore.session.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def name(self) -> str:
        """For people: the region, and the role if it is in another account."""
        try:
            region = self.region
        except (ConfigError, CredentialsError):  # it names what is refused, so it must not be refused itself
            region = "the default region"
        return f"{region} as {self._role.arn}" if self._role else region

    @property
    def region(self) -> str:
        with self._lock:
            region = self._region
            if not region:
                with translate("region"):
                    region = self._botocore().get_config_variable("region")
        if not region:
            raise ConfigError('region is not set: write region = "us-east-1" or export AWS_REGION')
        return str(region)

    @property
    def sagemaker(self) -> SageMakerClient:
        return self.client("sagemaker")  # type: ignore[no-any-return]

    @property
    def cloudwatch(self) -> CloudWatchClient:
        return self.client("cloudwatch")  # type: ignore[no-any-return]

    @property
    def logs(self) -> CloudWatchLogsClient:
        return self.client("logs")  # type: ignore[no-any-return]

    @property
    def s3(self) -> S3Client:
        return self.client("s3")  # type: ignore[no-any-return]

    @property
    def sts(self) -> STSClient:
        return self.client("sts")  # type: ignore[no-any-return]

    def sqs(self, region: str) -> SQSClient:
        return self.client("sqs", region)  # type: ignore[no-any-return]

    def sns(self, region: str) -> SNSClient:
        """Does not retry: the outbox does, because it tracks whether a message may have arrived."""
        return self.client("sns", region, PUBLISH_ONCE)  # type: ignore[no-any-return]

    def client(self, service: str, region: str = "", config: ClientConfig | None = None) -> Any:
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                self._clients[key] = self._make(service, region or self.region, config or self._config)
            return self._clients[key]

    def renew(self) -> None:
        """Go through the credential chain again, for example because a person has signed in again: botocore
        does so only once for a session. A role is assumed again, with the renewed credentials."""
        if self._role:
            self._role.source.renew()
        with self._lock:
            self._session = None
            self._clients.clear()

    def _make(self, service: str, region: str, config: ClientConfig) -> Any:
        try:
            with translate(f"{service} client"):
                return self._botocore().create_client(service, region_name=region, config=config)
        except ValueError as error:  # how botocore reports an invalid address
            endpoint = public_url(os.environ.get("AWS_ENDPOINT_URL", ""))
            raise ConfigError(
                f"AWS_ENDPOINT_URL={endpoint!r} is not an address for {service}: {error}"
            ) from error

    def _botocore(self) -> botocore.session.Session:
        if self._session is None:
            with translate("credentials"):
                session = _acting_as(self._role) if self._role else new_session()
            session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
            if self._answered:
                session.register("response-received", response_handler(self._answered))
            self._session = session
        return self._session


def _moment(value: Any) -> datetime:
    """Faster than botocore's parser, which looks up the machine's time zone for each of a record's dozen
    times."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else parse_timestamp(value)


def response_handler(answered: Answered) -> Callable[..., None]:
    """A handler of botocore's event `response-received.SERVICE.OPERATION`."""

    def handler(event_name: str, parsed_response: Any, exception: Exception | None, **_: Any) -> None:
        service, operation = event_name.split(".")[1:]
        if exception is None:
            answered(service, operation, parsed_response.get("Error", {}).get("Code", "ok"))
        else:
            answered(service, operation, type(exception).__name__)

    return handler


def new_session() -> botocore.session.Session:
    """A session whose region is that of AWS's other tools: `AWS_REGION`, which botocore does not know,
    `AWS_DEFAULT_REGION`, and then the profile."""
    session = botocore.session.get_session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session


def _acting_as(role: Role) -> botocore.session.Session:
    session = new_session()
    session.register_component("credential_provider", CredentialResolver([_AssumedRole(role)]))
    return session


class _AssumedRole(CredentialProvider):
    """Credentials that are requested when they are first used, and again before they expire."""

    METHOD = "assume-role"

    def __init__(self, role: Role) -> None:
        super().__init__()
        self._role = role

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._assume, self.METHOD)

    def _assume(self) -> dict[str, str]:
        role = self._role
        external: dict[str, Any] = {"ExternalId": role.external_id} if role.external_id else {}
        with translate(ASSUME_ROLE):
            given = role.source.sts.assume_role(RoleArn=role.arn, RoleSessionName="watcher", **external)
        credentials = given["Credentials"]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": credentials["Expiration"].isoformat(),
        }


MAX_QUOTED_CHARACTERS = 500
"""Of what botocore says. It may quote all that a helper for credentials has written."""
_NO_CREDENTIALS = (
    ConfigParseError,
    CredentialRetrievalError,
    InvalidConfigError,
    LoginError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)
_CREDENTIAL_MODULES = {"botocore.credentials", "botocore.tokens"}
_SIGN_INS = {"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials", "CreateToken"}
"""Operations that botocore calls by itself to get credentials."""
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
}
_MISSING = {
    "404",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchBucket",
    "NoSuchKey",
    "NotFound",
    "QueueDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
}


@contextmanager
def translate(operation: str) -> Iterator[None]:
    """Turns botocore's errors into `AwsError`s that name `operation`, such as `sagemaker:Search`."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, operation) from error
    except NoRegionError as error:
        raise ConfigError('region is not set: write region = "us-east-1" or export AWS_REGION') from error
    except _NO_CREDENTIALS as error:
        raise _no_credentials(error, operation) from error
    except (AwsConnectionError, ConnectionClosedError, HTTPClientError) as error:
        raise Unavailable(f"{operation} could not be reached: {error}", operation=operation) from error
    except (ResponseParserError, KeyError) as error:
        # The answer lacks what every answer of AWS has. It may be a proxy's page, which botocore quotes.
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Unavailable(
            f"{operation} was not answered by AWS ({why}): is a proxy in between?", operation=operation
        ) from error
    except WatcherError:  # ours already, such as a role that cannot be assumed
        raise
    except Exception as error:
        # A helper of `credential_process` that does not exist, a token file that cannot be read, an address
        # of a container's credentials that is not allowed … raise whatever Python raises.
        if _looked_for_credentials(error):
            raise _no_credentials(error, operation) from error
        if isinstance(error, BotoCoreError):
            raise AwsError(f"{operation} failed: {error}", operation=operation) from error
        raise


def _looked_for_credentials(error: BaseException) -> bool:
    """Whether botocore was looking for credentials when this was raised."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") in _CREDENTIAL_MODULES for frame, _ in frames)


def _no_credentials(error: Exception, operation: str) -> CredentialsError:
    said = " ".join(str(error).split())[:MAX_QUOTED_CHARACTERS] or type(error).__name__
    fix = "Sign in, or give the task a role"
    if isinstance(error, ProfileNotFound):
        fix = "Correct AWS_PROFILE, or add the profile to ~/.aws/config"
    elif isinstance(error, ConfigParseError | InvalidConfigError):
        fix = "Correct that file, which is AWS's own configuration"
    elif isinstance(error, SSOError | TokenRetrievalError | LoginError):
        fix = "Sign in again: aws sso login, or aws login"
    return CredentialsError(f"no usable AWS credentials for {operation}: {said}. {fix}", operation=operation)


def _from_answer(error: ClientError, operation: str) -> AwsError:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{code}: {message}" if message else code
    if code in _CREDENTIALS or (
        error.operation_name in _SIGN_INS and code not in _THROTTLED and status < 500
    ):
        return CredentialsError(
            f"AWS refused the credentials for {operation} ({said}). Sign in again, or check the role",
            operation=operation,
        )
    if code in _DENIED:
        return AccessDenied(
            f"no permission for {operation} ({said}). Allow it in the role's policy", operation=operation
        )
    if code in _THROTTLED or status >= 500:
        return Unavailable(f"{operation} did not answer ({said})", operation=operation)
    # SageMaker declares no error for a missing job: it is a ValidationException with this sentence.
    if code in _MISSING or (code == "ValidationException" and "not found" in message.lower()):
        return NotFound(f"{operation}: {said}", operation=operation)
    return AwsError(f"{operation} was refused ({said})", operation=operation)
