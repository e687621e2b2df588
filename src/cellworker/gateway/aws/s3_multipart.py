"""Uploads large files to S3 in parts: a few at a time, each retried on its own, and all of them or nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from cellworker.gateway.aws.errors import CALL_ERRORS, error_code, reason
from cellworker.gateway.aws.s3_calls import repeated
from cellworker.gateway.core.cancel_tasks import end
from cellworker.logs import log

__all__ = ["attempt_s", "upload_in_parts"]

_PART_BYTES = 16 << 20
_MAX_PARTS = 10_000
_AT_A_TIME = 3
_ABORT_S = 10.0
_SLOWEST = 50_000.0
_WHAT = "the file could not be stored"

_logger = logging.getLogger(__name__)


def attempt_s(size: int) -> float:
    """Return the timeout of one attempt to send a number of bytes, in seconds: that of 50 kB/s."""
    return 30.0 + size / _SLOWEST


async def upload_in_parts(
    client: Any,  # noqa: ANN401 - aiobotocore makes its clients' types at run time
    bucket: str,
    key: str,
    path: Path,
    *,
    tagging: str,
    retry_budget_s: float,
    exists: Callable[[], Awaitable[bool]],
) -> None:
    """Store a file; memory holds at most three parts, and aiohttp's copies of them.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket, key
        Where it goes.
    path
        The file; it must not change meanwhile.
    tagging
        The object's tags as a query string.
    retry_budget_s
        Retry budget of one part, in seconds.
    exists
        Whether the object is there: called where the answer to the last call is lost.

    Raises
    ------
    StoreUnavailableError
        When it could not be stored. Then, and on cancellation, the parts are removed where the role may do so.
    OSError
        When the file cannot be read.
    """
    where = {"Bucket": bucket, "Key": key}
    begun = await repeated(lambda: client.create_multipart_upload(**where, Tagging=tagging), _WHAT, retry_budget_s)
    where["UploadId"] = begun["UploadId"]

    async def complete(parts: list[dict[str, Any]]) -> None:
        try:
            await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except ClientError as error:
            if error_code(error) != "NoSuchUpload" or not await exists():
                raise

    try:
        parts = await _send_parts(client, where, path, retry_budget_s)
        await repeated(lambda: complete(parts), _WHAT, retry_budget_s)
    except BaseException:
        # A cancelled upload ends only when its parts are removed, so this finishes despite the cancellation.
        await asyncio.shield(_abort(client, where))
        raise


async def _send_parts(client: Any, where: dict[str, Any], path: Path, retry_budget_s: float) -> list[dict[str, Any]]:  # noqa: ANN401
    size = (await asyncio.to_thread(path.stat)).st_size
    part_bytes = max(_PART_BYTES, -(-size // _MAX_PARTS))
    numbers = iter(range(1, -(-size // part_bytes) + 1))
    tags: dict[int, str] = {}

    async def send(number: int) -> str:
        content = await asyncio.to_thread(_read, path, (number - 1) * part_bytes, part_bytes)

        async def upload() -> str:
            async with asyncio.timeout(attempt_s(len(content))):
                answer = await client.upload_part(**where, PartNumber=number, Body=content)
            return str(answer["ETag"])

        return await repeated(upload, _WHAT, retry_budget_s)

    async def work() -> None:
        for number in numbers:
            tags[number] = await send(number)  # whose content is lost when the next part is read

    workers = [asyncio.create_task(work()) for _ in range(_AT_A_TIME)]
    try:
        await asyncio.gather(*workers)
    finally:
        await end(*workers)
    return [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]


async def _abort(client: Any, where: dict[str, Any]) -> None:  # noqa: ANN401
    try:
        async with asyncio.timeout(_ABORT_S):
            await client.abort_multipart_upload(**where)
    except CALL_ERRORS as error:
        facts = {"bucket": where["Bucket"], "key": where["Key"], "reason": reason(error)}
        log(_logger, logging.WARNING, "parts of an upload could not be removed", **facts)


def _read(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
