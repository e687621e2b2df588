"""The journal's objects in S3."""

import contextlib
import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from cellworker.gateway.aws.errors import DENIED, MISSING, error_code
from cellworker.gateway.aws.s3_calls import pages
from cellworker.gateway.core.journal import StoredObject
from cellworker.logs import log

__all__ = ["S3Folder"]

_logger = logging.getLogger(__name__)


class S3Folder:
    """Objects of a bucket, as `ObjectJournal` wants them.

    Parameters
    ----------
    client
        An aiobotocore client for S3.
    bucket
        Its name.
    """

    def __init__(self, client: Any, bucket: str) -> None:  # noqa: ANN401 - aiobotocore makes its clients' types at run time
        self._client = client
        self._bucket = bucket
        self._may_delete = True

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        await self._client.put_object(Bucket=self._bucket, Key=key, Body=content)

    async def get(self, key: str) -> bytes:
        """Read an object; empty when there is none."""
        try:
            answer = await self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error_code(error) in MISSING:
                return b""
            raise
        async with answer["Body"] as body:
            content: bytes = await body.read()
        return content

    async def listing(self, prefix: str) -> list[StoredObject]:
        """List all objects whose key begins so; ages are by the store's clock."""
        found: list[StoredObject] = []
        async for answer in pages(
            lambda page: self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **page)
        ):
            now = _date(answer)
            found += [
                StoredObject(item["Key"], item["Size"], max(0.0, (now - item["LastModified"]).total_seconds()))
                for item in answer.get("Contents", ())
            ]
        return found

    async def remove(self, key: str) -> None:
        """Remove an object; without the right to, as under the platform's role, leave it empty."""
        if self._may_delete:
            try:
                await self._client.delete_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) not in DENIED:
                    raise
                self._may_delete = False
                log(
                    _logger, logging.INFO, "objects may not be removed", instead="closed journal entries are left empty"
                )
            else:
                return
        await self.put(key, b"")


def _date(answer: Any) -> datetime:  # noqa: ANN401 - see above
    """Return when the store answered, by its own clock."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    with contextlib.suppress(TypeError, ValueError):
        return parsedate_to_datetime(text)
    return datetime.now(UTC)
