"""Downloads large objects from S3 into files: resumed after a broken connection, checked, whole or not at all."""

import asyncio
import glob
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cellworker.gateway.aws.errors import CALL_ERRORS, error_code, passing, reason
from cellworker.gateway.aws.s3_calls import StoreUnavailableError
from cellworker.gateway.core.retry import Backoff
from cellworker.logs import log

__all__ = ["download_object"]

_TEMPORARY = ".tmp"
_CHUNK_BYTES = 4 << 20
_PROGRESS_BYTES = 1 << 16
_WHAT = "the object could not be fetched"
_MD5 = re.compile(r"[0-9a-f]{32}")
_UNKEYED = (None, "AES256")
"""Encryptions under which the ETag of an object that was put in one piece is its MD5; with KMS keys it is not."""

_logger = logging.getLogger(__name__)

_in_use: set[Path] = set()


async def download_object(
    client: Any,  # noqa: ANN401 - aiobotocore makes its clients' types at run time
    bucket: str,
    key: str,
    path: Path,
    *,
    etag: str,
    size: int,
    retry_budget_s: float,
    on_bytes: Callable[[int], object],
) -> None:
    """Write an object's content to a path, where it appears once it is whole, checked and on the disk.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket, key
        The object.
    path
        Where it goes. Temporary files of a killed process beside it are removed.
    etag, size
        The expected content: its ETag without quotes, its size in bytes.
    retry_budget_s
        Retry budget while almost nothing arrives, in seconds.
    on_bytes
        Called with numbers of bytes as they arrive.

    Raises
    ------
    StoreUnavailableError
        When it cannot be fetched, has changed, or arrives damaged; no file remains.
    OSError
        When it could not be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_TEMPORARY}")
    request = {"Bucket": bucket, "Key": key, "IfMatch": f'"{etag}"'}
    _in_use.add(temporary)
    try:
        await asyncio.to_thread(_remove_leftovers, path)
        target = await asyncio.to_thread(_Target, temporary)
        try:
            await _Download(client, request, target, on_bytes).fetch(size, retry_budget_s)
            if target.etag_is_md5 and _MD5.fullmatch(etag) and target.md5.hexdigest() != etag:
                raise StoreUnavailableError(_WHAT, "its content was damaged on the way")
            await asyncio.to_thread(target.place, path)
        finally:
            await asyncio.shield(asyncio.to_thread(target.discard))
    finally:
        _in_use.discard(temporary)


class _Target:
    """The temporary file, and the MD5 of what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("xb")
        self.etag_is_md5 = False
        self.restart()

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, content: bytes | bytearray) -> None:
        self.file.write(content)
        self.md5.update(content)
        self.size += len(content)

    def place(self, path: Path) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.path.replace(path)

    def discard(self) -> None:
        """Remove it, unless it is in its place already."""
        try:
            self.file.close()  # which fails where the disk has no space for the rest
        finally:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Download:
    client: Any
    request: dict[str, str]
    target: _Target
    on_bytes: Callable[[int], object]

    async def fetch(self, size: int, retry_budget_s: float) -> None:
        """Write the whole object."""
        backoff = Backoff(retry_budget_s)
        while True:
            before = self.target.size
            try:
                await self._read_on()
            except _BrokenError as broken:
                error = broken.error
            else:
                if self.target.size != size:
                    raise StoreUnavailableError(_WHAT, f"{self.target.size} bytes came instead of {size}")
                return
            if self.target.size == size:
                return
            if abs(self.target.size - before) >= _PROGRESS_BYTES:
                backoff.restart()
            facts = {"key": self.request["Key"], "at": self.target.size, "reason": reason(error)}
            log(_logger, logging.DEBUG, "download broke off", **facts)
            if error_code(error) == "PreconditionFailed":
                raise StoreUnavailableError(_WHAT, "it was replaced meanwhile") from error
            if not passing(error) or not await backoff.pause():
                raise StoreUnavailableError(_WHAT, reason(error)) from error

    async def _read_on(self) -> None:
        """Write the rest over one connection; when that breaks, what has arrived is kept."""
        target = self.target
        rest = {"Range": f"bytes={target.size}-"} if target.size else {}
        try:
            answer = await self.client.get_object(**self.request, **rest)
        except CALL_ERRORS as error:
            raise _BrokenError(error) from error
        body = answer["Body"]
        try:
            target.etag_is_md5 = answer.get("ServerSideEncryption") in _UNKEYED
            if rest and answer["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.PARTIAL_CONTENT:
                await asyncio.to_thread(target.restart)
            ended = False
            while not ended:
                content, broken = bytearray(), None
                try:
                    while len(content) < _CHUNK_BYTES and not ended:
                        piece = await body.read(_CHUNK_BYTES - len(content))
                        content += piece
                        self.on_bytes(len(piece))
                        ended = not piece
                except CALL_ERRORS as error:
                    broken = error
                await asyncio.to_thread(target.write, content)
                if broken is not None:
                    raise _BrokenError(broken)
        finally:
            body.close()


class _BrokenError(Exception):
    """An error of the network, not of the disk, whose errors have the same types."""

    def __init__(self, error: Exception) -> None:
        super().__init__(reason(error))
        self.error = error


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_TEMPORARY}"):
        if leftover not in _in_use:
            leftover.unlink(missing_ok=True)
