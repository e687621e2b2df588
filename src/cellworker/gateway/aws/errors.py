"""Meanings of AWS errors, in words without secrets."""

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

__all__ = ["CALL_ERRORS", "DENIED", "MISSING", "error_code", "passing", "reason"]

DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
"""Codes of a right that the pod's role lacks; wrong or old credentials have others."""

MISSING = frozenset({"NoSuchKey", "404"})
"""Codes of an object that is not there."""

CALL_ERRORS = (BotoCoreError, ClientError, aiohttp.ClientError, OSError)
"""Errors of calls; asyncio's timeouts are an `OSError` as well."""

_CREDENTIALS = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"})
_BUSY = frozenset({
    "InternalError", "OperationAborted", "RequestThrottled", "RequestTimeout", "ServiceUnavailable", "SlowDown",
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
})  # fmt: skip


def error_code(error: BaseException) -> str:
    """Return the code that the service answered; empty when it did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def passing(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: no answer, a busy service, credentials about to be renewed."""
    if not isinstance(error, ClientError):
        return isinstance(error, CALL_ERRORS) and not isinstance(error, ParamValidationError)
    return _status(error) >= 500 or error_code(error) in _BUSY | _CREDENTIALS


def reason(error: BaseException) -> str:
    """Return a few words for the log and for people.

    The error's own text is left out: it can hold signed addresses and the names of roles.
    """
    code = error_code(error)
    return f"{code} ({_status(error)})" if code else type(error).__name__


def _status(error: BaseException) -> int:
    response = error.response if isinstance(error, ClientError) else {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
