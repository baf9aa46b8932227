"""What botocore raises, as errors of mediaweave. Imported with boto3, not before.

Messages name the bucket or key and the store's error code, never the server's own text, which may
echo headers or signatures.
"""

from collections.abc import Callable

import urllib3.exceptions
from botocore import exceptions
from botocore.parsers import ResponseParserError

from pipeline.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectNotFoundError,
    PipelineError,
    SourceError,
    StoreUnavailableError,
)
from pipeline.storage.base import printable

#: Raised by reading a body when the connection broke: the rest can be asked for again.
CUT_ERRORS = (
    exceptions.IncompleteReadError,
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    urllib3.exceptions.HTTPError,
    OSError,
)
#: Raised by calls and by reading a response's body.
CALL_ERRORS = (
    exceptions.ClientError,
    exceptions.BotoCoreError,
    ResponseParserError,
    *CUT_ERRORS,
)

_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
)
_SETTINGS = (
    exceptions.ProfileNotFound,
    exceptions.ConfigParseError,
    exceptions.ConfigNotFound,
    exceptions.InvalidRegionError,
    exceptions.EndpointProviderError,
)
_HOW_TO_GIVE_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with an IAM role"
)
_EXPIRED = (AccessDeniedError, "the credentials used for {uri} have expired: renew them")
_BUSY = (StoreUnavailableError, "the store cannot serve {uri} now")
_NEEDED = "s3:ListBucket and s3:GetObject; for artifacts s3:PutObject, s3:DeleteObject"
_DENIED = (AccessDeniedError, f"the store refuses {{uri}}: allow {_NEEDED}")

#: Error codes of S3 that say more than their status does.
_BY_CODE: dict[str, tuple[type[PipelineError], str]] = {
    "NoSuchBucket": (ObjectNotFoundError, "the bucket {bucket} does not exist, asked for {uri}"),
    "NoSuchKey": (ObjectNotFoundError, "the key of {uri} does not exist in its bucket"),
    "NoSuchVersion": (ObjectNotFoundError, "the version asked for of {uri} does not exist"),
    "InvalidBucketName": (ConfigurationError, "{bucket} is not a valid bucket name, in {uri}"),
    "InvalidObjectState": (SourceError, "{uri} is in an archive storage class: restore it first"),
    "InvalidAccessKeyId": (AccessDeniedError, "the store does not know the access key for {uri}"),
    "SignatureDoesNotMatch": (AccessDeniedError, "the secret access key for {uri} is wrong"),
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "PreconditionFailed": (StoreUnavailableError, "{uri} changed while it was read: try again"),
    "SlowDown": _BUSY,
    "RequestTimeout": _BUSY,
    "Throttling": _BUSY,
}
_BY_STATUS: dict[int, tuple[type[PipelineError], str]] = {
    401: _DENIED,
    403: _DENIED,
    404: (ObjectNotFoundError, "the key of {uri} or its bucket does not exist"),
    429: _BUSY,
    501: (SourceError, "the server of {uri} does not know this request: is it an S3 server?"),
}


def code_of(error: exceptions.ClientError) -> str:
    """The store's code; where the answer had no body, as those to HEAD, its status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(
    error: Exception, *, bucket: str, key: str, store: str, probe: Callable[[], str | None]
) -> PipelineError:
    """The error of mediaweave for a failed call about ``s3://bucket/key``.

    ``store`` says where the call went. ``probe`` asks the bucket itself and gives the code of its
    refusal, ``None`` if it answers: it is called only where the error alone does not tell.
    """
    uri = printable(f"s3://{bucket}/{key}")
    if isinstance(error, exceptions.ClientError):
        code = code_of(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in {"400", "403", "404"}:
            code = _code_from_bucket(code, probe())
        default = _BUSY if status >= 500 else (SourceError, "the store refuses {uri}")
        kind, sentence = _BY_CODE.get(code) or _BY_STATUS.get(status, default)
        return kind(f"{sentence.format(uri=uri, bucket=printable(bucket))} ({code or status})")
    if isinstance(error, _NO_CREDENTIALS):
        return AccessDeniedError(f"no usable credentials for {uri}: {_HOW_TO_GIVE_CREDENTIALS}")
    if isinstance(error, exceptions.ParamValidationError):
        return ConfigurationError(f"{uri} has no valid bucket name or key: check its spelling")
    if isinstance(error, _SETTINGS):
        return ConfigurationError(f"the S3 settings are not usable for {uri}: {error}")
    if isinstance(error, exceptions.FlexibleChecksumError):
        return StoreUnavailableError(f"{uri} arrived damaged: its checksum differs")
    if isinstance(error, CUT_ERRORS):
        name = type(error).__name__
        return StoreUnavailableError(f"cannot reach {store} for {uri} ({name}): is it running?")
    if isinstance(error, ResponseParserError):
        return SourceError(f"{store} answers for {uri} unlike S3: check its URL")
    return SourceError(f"cannot read {uri}: {type(error).__name__}")


def _code_from_bucket(bare: str, bucket_code: str | None) -> str:
    """A bare status, completed by what the bucket says when asked itself."""
    if bare != "404":
        return bucket_code or bare
    if bucket_code is None:
        return "NoSuchKey"
    return bucket_code if bucket_code == "NoSuchBucket" else bare
