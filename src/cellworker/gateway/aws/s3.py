"""The platform's buckets: results by ETag, cell sets and files by experiment (contract, section 1.3)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.packed_cell_sets import LARGE_BYTES
from cellworker.gateway.aws.errors import MISSING, error_code
from cellworker.gateway.aws.s3_calls import StoreUnavailableError, pages, repeated
from cellworker.gateway.aws.s3_direct import DirectS3
from cellworker.gateway.aws.s3_download import download_object
from cellworker.gateway.aws.s3_multipart import attempt_s, upload_in_parts
from cellworker.gateway.core.cell_set_reading import CellSetsFile
from cellworker.identifiers import ETag, ExperimentId

__all__ = ["S3CellSets", "S3Files", "S3Object", "S3Results", "StoreUnavailableError"]

LARGEST_IN_ONE_PIECE = 64 << 20

_PIECE_BYTES = 1 << 20
_SIGNED_URL_S = 900
_NOT_MODIFIED = "304"
_NOT_STORED = "the result could not be stored"
_NO_CELL_SETS = "This experiment has no cell sets yet. Please run the data processing first."


class S3Results:
    """Results, by ETag.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket
        Its name.
    retry_budget_s
        Retry budget of one call, in seconds.
    deadline_s
        Max seconds for storing one result, retries included.
    direct
        Makes the calls that every request needs, in less time; without it the client makes them.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - aiobotocore makes its clients' types at run time
        bucket: str,
        *,
        retry_budget_s: float = 5.0,
        deadline_s: float = 900.0,
        direct: DirectS3 | None = None,
    ) -> None:
        self._client = client
        self._direct = direct
        self._bucket = bucket
        self._retry_budget_s = retry_budget_s
        self._deadline_s = deadline_s

    async def exists(self, etag: ETag) -> bool:
        """Whether a result is stored, of any size.

        Raises
        ------
        StoreUnavailableError
            When the store gives no answer.
        """
        what = "the store does not say whether the result is there"
        return await repeated(lambda: self._exists(etag), what, self._retry_budget_s)

    async def get(self, etag: ETag) -> bytes | None:
        """Return a stored result unchanged; None when there is none.

        Raises
        ------
        StoreUnavailableError
            When it cannot be fetched.
        """
        return await repeated(lambda: self._get(etag), "an earlier result could not be fetched", self._retry_budget_s)

    async def put(self, etag: ETag, content: bytes | Path, tags: Mapping[str, str]) -> None:
        """Store a result with its tags in one step; a file stays where it is.

        Raises
        ------
        StoreUnavailableError
            When it could not be stored; no part of it is.
        OSError
            When the file cannot be read.
        """
        tagging = urlencode(tags, quote_via=quote)
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                await self._put(etag, content, tagging)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise StoreUnavailableError(_NOT_STORED, f"not within {self._deadline_s:g} s") from None

    async def url(self, etag: ETag) -> str:
        """Return the address of a result for clients, valid for 15 minutes. It holds a signature: not for logs."""
        target = {"Bucket": self._bucket, "Key": etag}
        return str(await self._client.generate_presigned_url("get_object", Params=target, ExpiresIn=_SIGNED_URL_S))

    async def _exists(self, etag: ETag) -> bool:
        if self._direct is not None:
            return await self._direct.holds(self._bucket, etag)
        # In the order of a listing a key comes before all longer keys that begin with it.
        answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=etag, MaxKeys=1)
        return any(item["Key"] == etag for item in answer.get("Contents", ()))

    async def _get(self, etag: ETag) -> bytes | None:
        try:
            answer = await self._client.get_object(Bucket=self._bucket, Key=etag)
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            raise
        async with answer["Body"] as body:
            content: bytes = await body.read()
        return content

    async def _put(self, etag: ETag, content: bytes | Path, tagging: str) -> None:
        if isinstance(content, Path):
            if (await asyncio.to_thread(content.stat)).st_size > LARGEST_IN_ONE_PIECE:
                await upload_in_parts(
                    self._client,
                    self._bucket,
                    etag,
                    content,
                    tagging=tagging,
                    retry_budget_s=self._retry_budget_s,
                    exists=lambda: self._exists(etag),
                )
                return
            content = await asyncio.to_thread(content.read_bytes)
        body = content

        async def put() -> None:
            async with asyncio.timeout(attempt_s(len(body))):
                if self._direct is not None:
                    await self._direct.put(self._bucket, etag, body, tagging)
                else:
                    await self._client.put_object(Bucket=self._bucket, Key=etag, Body=body, Tagging=tagging)

        await repeated(put, _NOT_STORED, self._retry_budget_s)


class S3CellSets:
    """Cell sets, by experiment; the last ones are cached, and read again only when they change.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket
        Its name.
    retry_budget_s
        Retry budget, in seconds.
    """

    def __init__(self, client: Any, bucket: str, *, retry_budget_s: float = 5.0) -> None:  # noqa: ANN401 - see above
        self._client = client
        self._bucket = bucket
        self._retry_budget_s = retry_budget_s
        self._last: tuple[str, str, bytes | CellSetsFile] | None = None

    async def read(self, experiment_id: ExperimentId) -> bytes | CellSetsFile:
        """Return the cell_sets.json as it is at the time of the call, or later; a large one as a file.

        Raises
        ------
        WorkerError
            ``CELL_SETS_INVALID`` when the experiment has none.
        StoreUnavailableError
            When they cannot be fetched.
        """
        return await repeated(lambda: self._read(experiment_id), "cell sets could not be read", self._retry_budget_s)

    async def _read(self, experiment_id: ExperimentId) -> bytes | CellSetsFile:
        known = self._last if self._last is not None and self._last[0] == experiment_id else None
        condition = {"IfNoneMatch": known[1]} if known else {}
        try:
            answer = await self._client.get_object(Bucket=self._bucket, Key=experiment_id, **condition)
        except ClientError as error:
            if known is not None and error_code(error) == _NOT_MODIFIED:
                return known[2]
            if error_code(error) in MISSING:
                raise WorkerError(ErrorCode.CELL_SETS_INVALID, _NO_CELL_SETS) from None
            raise
        async with answer["Body"] as body:
            large = int(answer["ContentLength"]) > LARGE_BYTES
            content: bytes | CellSetsFile = await _into_file(body) if large else await body.read()
        self._last = experiment_id, answer["ETag"], content
        return content


async def _into_file(body: Any) -> CellSetsFile:  # noqa: ANN401 - aiobotocore has no types
    """Write a body to a file as it comes."""
    made = CellSetsFile()
    with made.path.open("wb") as file:
        while piece := await body.read(_PIECE_BYTES):
            await asyncio.to_thread(file.write, piece)
    return made


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object.

    Attributes
    ----------
    key
        Its name.
    size
        In bytes.
    etag
        Differs for different content; without quotes.
    """

    key: str
    size: int
    etag: str


class S3Files:
    """The files of one experiment.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket
        Its name.
    experiment_id
        Whose: all objects whose names begin with it and a slash.
    retry_budget_s
        Retry budget while nothing arrives, in seconds.
    """

    def __init__(self, client: Any, bucket: str, experiment_id: ExperimentId, *, retry_budget_s: float = 5.0) -> None:  # noqa: ANN401 - see above
        self._client = client
        self._bucket = bucket
        self._prefix = f"{experiment_id}/"
        self._retry_budget_s = retry_budget_s

    async def list(self) -> list[S3Object]:
        """Return all that are not empty, in the order of their names.

        Raises
        ------
        StoreUnavailableError
            When the store gives no answer.
        """
        found: list[S3Object] = []
        async for answer in pages(
            lambda page: repeated(lambda: self._page(page), "files could not be listed", self._retry_budget_s)
        ):
            found += [
                S3Object(item["Key"], item["Size"], item["ETag"].strip('"'))
                for item in answer.get("Contents", ())
                if item["Size"]
            ]
        return found

    async def download(self, item: S3Object, path: Path, on_bytes: Callable[[int], object] = lambda _: None) -> None:
        """Write an object's content to a path, where it appears as a whole.

        Parameters
        ----------
        item
            One of those listed.
        path
            Where it goes.
        on_bytes
            Called with numbers of bytes as they arrive.

        Raises
        ------
        StoreUnavailableError
            When it could not be fetched, or is no longer what was listed.
        OSError
            When it could not be written.
        """
        await download_object(
            self._client,
            self._bucket,
            item.key,
            path,
            etag=item.etag,
            size=item.size,
            retry_budget_s=self._retry_budget_s,
            on_bytes=on_bytes,
        )

    async def _page(self, page: dict[str, str]) -> Any:  # noqa: ANN401 - see above
        return await self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **page)
