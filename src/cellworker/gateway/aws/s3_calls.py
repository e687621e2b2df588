"""S3 calls with retries."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from cellworker.gateway.aws.errors import CALL_ERRORS, passing, reason
from cellworker.gateway.core.retry import Backoff

__all__ = ["StoreUnavailableError", "pages", "repeated"]

_T = TypeVar("_T")


class StoreUnavailableError(Exception):
    """The object store did not carry out a call.

    Parameters
    ----------
    what
        What failed.
    why
        The code of its answer or the kind of error; no address, which could be signed.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


async def repeated(call: Callable[[], Awaitable[_T]], what: str, retry_budget_s: float) -> _T:
    """Make a call; retry it with growing pauses while its error is temporary.

    Parameters
    ----------
    call
        The call: it does the same each time, and touches no local file.
    what
        The failure, for the error: "the result could not be stored".
    retry_budget_s
        Retry budget in seconds.

    Raises
    ------
    StoreUnavailableError
        When the error is permanent, or the retry budget is spent.
    """
    backoff = Backoff(retry_budget_s)
    while True:
        try:
            return await call()
        except CALL_ERRORS as error:
            if not passing(error) or not await backoff.pause():
                raise StoreUnavailableError(what, reason(error)) from error


async def pages(listing: Callable[[dict[str, str]], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Yield the answers of ListObjectsV2 until the listing is whole; `listing` gets the arguments for the next page."""
    page: dict[str, str] = {}
    while True:
        answer = await listing(page)
        yield answer
        if not answer.get("IsTruncated"):
            return
        page = {"ContinuationToken": answer["NextContinuationToken"]}
