"""A stand-in for Amazon S3 with path-style addresses, whose objects lie in a folder.

``python tests/cloud/s3_server.py --folder D --port 0 --ready-file F [--bucket NAME]... [--allow s3:GetObject,...]``.
What can be changed while it runs tells `stand_in`. Signatures are not verified, but a request without any is refused,
and so is a signed URL past its time. A clock that was moved forward is right again after a restart. Not there: copies,
versions, ACLs, encryption, conditions on times.

Sources: Amazon S3 API Reference (each action's page, "Error responses"), User Guide ("Multipart upload limits",
"Required permissions for Amazon S3 API operations").
"""

import asyncio
import base64
import hashlib
import re
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape, unescape

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))

from s3_store import Bucket, Incoming, Meta, Store, Upload
from stand_in import Door, Fault, Flow, RefusedError, arguments, is_tester, make_door, run

SMALLEST_PART = 5 << 20
MAX_TAGS = 10
_SMALL = 1 << 18
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_TAG = re.compile(r"<Tag>\s*<Key>(.*?)</Key>\s*<Value>(.*?)</Value>\s*</Tag>", re.DOTALL)
_TAG_KEY = re.compile(r"(?!aws:)[\w\s+\-=.:/@]{1,128}")
_TAG_VALUE = re.compile(r"[\w\s+\-=.:/@]{0,256}")
_SIGNED = {"X-Amz-Signature", "Signature"}


@dataclass
class Call:
    """One request, taken apart."""

    request: web.BaseRequest
    bucket: str
    key: str
    query: dict[str, str]
    fault: Fault | None = None

    def header(self, name: str, default: str = "") -> str:
        """A header's value."""
        return self.request.headers.get(name, default)


def refuse(status: int, code: str, message: str) -> NoReturn:
    """Answer with an error."""
    raise RefusedError(status, code, message)


class S3:
    """The actions, each a method of the action's name."""

    name = "s3"

    def __init__(self, door: Door, store: Store) -> None:
        self.door, self.store = door, store
        # What IAM calls the permission of an action, where that is another name.
        self.permissions = {
            "ListBuckets": "ListAllMyBuckets",
            "ListObjects": "ListBucket",
            "ListObjectsV2": "ListBucket",
            "HeadBucket": "ListBucket",
            "ListMultipartUploads": "ListBucketMultipartUploads",
            "HeadObject": "GetObject",
            "CreateMultipartUpload": "PutObject",
            "UploadPart": "PutObject",
            "CompleteMultipartUpload": "PutObject",
            "ListParts": "ListMultipartUploadParts",
        }

    # The way of one request

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry out one request."""
        path, _, query = request.raw_path.partition("?")
        bucket, _, key = path[1:].partition("/")
        call = Call(
            request, unquote(bucket), unquote(key), dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        )
        try:
            action = action_of(request.method, call)
            call.fault = await self.door.enter(request, action)
            self.authenticate(call)
            self.authorize(call, action)
            act: Callable[[Call], Awaitable[web.StreamResponse]] = getattr(self, action)
            if action not in ("PutObject", "UploadPart", "GetObject"):
                self.door.reset_before(call.fault)
            response = await act(call)
            self.door.leave(call.fault)
        except RefusedError as error:
            response = _refused(call, error)
        if not response.prepared:
            response.headers["Date"] = _http_time(self.door.now())
        return response

    def authenticate(self, call: Call) -> None:
        """Refuse what nobody signed, and signed URLs past their time."""
        query = call.query
        if "Authorization" in call.request.headers:
            return
        if not _SIGNED & set(query):
            refuse(403, "AccessDenied", "Access Denied")
        if "X-Amz-Expires" in query:
            signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            expires = signed.timestamp() + int(query["X-Amz-Expires"])
        else:
            expires = float(query.get("Expires", 0))
        if self.door.now() > expires:
            refuse(403, "AccessDenied", "Request has expired")

    def authorize(self, call: Call, action: str) -> None:
        """Apply the policy."""
        if action == "DeleteObjects":  # judged key by key
            return
        self.require(call, self.permissions.get(action, action), call.key)
        if "x-amz-tagging" in call.request.headers:
            self.require(call, "PutObjectTagging", call.key)

    def permitted(self, call: Call, permission: str, key: str) -> bool:
        """Whether the policy allows it."""
        return is_tester(call.request) or self.door.permits(permission, f"{call.bucket}/{key}" if key else call.bucket)

    def require(self, call: Call, permission: str, key: str) -> None:
        """Refuse what the policy does not allow."""
        if not self.permitted(call, permission, key):
            refuse(403, "AccessDenied", f"The worker is not authorized to perform: s3:{permission} on {call.bucket}")

    def report(self) -> dict[str, Any]:
        """What is stored, and which uploads are open."""
        return {
            "objects": {
                name: {key: {"size": m.size, "etag": m.etag, "tags": m.tags} for key, m in bucket.objects.items()}
                for name, bucket in self.store.buckets.items()
            },
            "uploads": [
                {"id": upload.id, "bucket": upload.bucket, "key": upload.key, "parts": sorted(upload.parts)}
                for upload in self.store.uploads.values()
            ],
        }

    def clock_moved(self) -> None:
        """Nothing happens by time alone here."""

    def find(self, call: Call) -> Bucket:
        """The bucket of a request."""
        bucket = self.store.buckets.get(call.bucket)
        if bucket is None:
            refuse(404, "NoSuchBucket", "The specified bucket does not exist")
        return bucket

    def find_object(self, call: Call) -> tuple[Bucket, Meta]:
        """The object of a request; who may not list does not learn that it is not there."""
        bucket = self.find(call)
        meta = bucket.objects.get(call.key)
        if meta is None:
            self.require(call, "ListBucket", "")
            refuse(404, "NoSuchKey", "The specified key does not exist.")
        return bucket, meta

    # Buckets

    async def ListBuckets(self, call: Call) -> web.StreamResponse:  # noqa: N802
        rows = "".join(
            f"<Bucket><Name>{escape(name)}</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>"
            for name in sorted(self.store.buckets)
        )
        return _xml(f"<ListAllMyBucketsResult {_NAMESPACE}><Buckets>{rows}</Buckets></ListAllMyBucketsResult>")

    async def CreateBucket(self, call: Call) -> web.StreamResponse:  # noqa: N802
        await call.request.read()
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", call.bucket):
            refuse(400, "InvalidBucketName", "The specified bucket is not valid.")
        if call.bucket in self.store.buckets:
            refuse(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded.")
        self.store.create(call.bucket)
        return web.Response(headers={"Location": f"/{call.bucket}"})

    async def HeadBucket(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.find(call)
        return web.Response()

    async def GetBucketLocation(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.find(call)
        return _xml(f"<LocationConstraint {_NAMESPACE}>eu-west-1</LocationConstraint>")

    async def DeleteBucket(self, call: Call) -> web.StreamResponse:  # noqa: N802
        if self.find(call).objects:
            refuse(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
        self.store.remove(call.bucket)
        return web.Response(status=204)

    async def ListObjects(self, call: Call) -> web.StreamResponse:  # noqa: N802
        keys, rolled, last, fields = self.listing(call, call.query.get("marker", ""))
        marker = escape(call.query.get("marker", ""))
        if last and call.query.get("delimiter"):
            fields += f"<NextMarker>{_encoder(call)(last)}</NextMarker>"
        return _xml(
            f"<ListBucketResult {_NAMESPACE}>{fields}<Marker>{marker}</Marker>{keys}{rolled}</ListBucketResult>"
        )

    async def ListObjectsV2(self, call: Call) -> web.StreamResponse:  # noqa: N802
        token = call.query.get("continuation-token", "")
        try:
            start = base64.urlsafe_b64decode(token).decode() if token else call.query.get("start-after", "")
        except ValueError:
            refuse(400, "InvalidArgument", "The continuation token provided is incorrect")
        keys, rolled, last, fields = self.listing(call, start)
        if token:
            fields += f"<ContinuationToken>{escape(token)}</ContinuationToken>"
        if last:
            following = base64.urlsafe_b64encode(last.encode()).decode()
            fields += f"<NextContinuationToken>{following}</NextContinuationToken>"
        count = keys.count("<Contents>") + rolled.count("<CommonPrefixes>")
        return _xml(
            f"<ListBucketResult {_NAMESPACE}>{fields}<KeyCount>{count}</KeyCount>{keys}{rolled}</ListBucketResult>"
        )

    def listing(self, call: Call, start: str) -> tuple[str, str, str, str]:
        """What both kinds of listing share: keys, common prefixes, the last of them if more follow, other fields."""
        bucket, query = self.find(call), call.query
        encode = _encoder(call)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(int(query.get("max-keys") or 1000), 1000)
        keys, rolled, last = bucket.page(prefix, delimiter, start, most)
        contents = []
        for key in keys:
            meta = bucket.objects[key]
            contents.append(
                f"<Contents><Key>{encode(key)}</Key><LastModified>{_iso_time(meta.modified)}</LastModified>"
                f"<ETag>&quot;{meta.etag}&quot;</ETag><Size>{meta.size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{encode(text)}</Prefix></CommonPrefixes>" for text in rolled)
        fields = f"<Name>{escape(call.bucket)}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
        fields += f"<IsTruncated>{'true' if last else 'false'}</IsTruncated>"
        if delimiter:
            fields += f"<Delimiter>{encode(delimiter)}</Delimiter>"
        if query.get("encoding-type") == "url":
            fields += "<EncodingType>url</EncodingType>"
        return "".join(contents), prefixes, last, fields

    # Objects

    async def PutObject(self, call: Call) -> web.StreamResponse:  # noqa: N802
        bucket = self.find(call)
        headers = _object_headers(call)
        _check_conditions(call, bucket)
        incoming = await self.receive(call)
        try:
            _check_conditions(call, bucket)
            meta = Meta(call.key, incoming.size, incoming.md5.hexdigest(), self.second(), **headers)
            self.store.put(bucket, incoming, meta)
        finally:
            incoming.discard()
        return web.Response(headers={"ETag": f'"{meta.etag}"'})

    async def GetObject(self, call: Call) -> web.StreamResponse:  # noqa: N802
        bucket, meta = self.find_object(call)
        status, start, end, headers = _chosen(call, meta)
        if status == 304:
            return web.Response(status=status, headers=headers)
        with bucket.path(call.key).open("rb", buffering=0) as file:
            file.seek(start)
            flow = Flow(call.fault)
            if end - start <= _SMALL and call.fault is None:
                return web.Response(status=status, body=file.read(end - start), headers=headers)
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = end - start
            response.headers["Date"] = _http_time(self.door.now())
            await response.prepare(call.request)
            while start < end:
                data = file.read(min(flow.chunk, end - start))
                await response.write(data)
                start += len(data)
                await flow.moved(len(data))
            await response.write_eof()
        return response

    async def HeadObject(self, call: Call) -> web.StreamResponse:  # noqa: N802
        _, meta = self.find_object(call)
        status, start, end, headers = _chosen(call, meta)
        if status != 304:
            headers["Content-Length"] = str(end - start)
        return web.Response(status=status, headers=headers)

    async def DeleteObject(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.find(call).drop(call.key)
        return web.Response(status=204)

    async def DeleteObjects(self, call: Call) -> web.StreamResponse:  # noqa: N802
        bucket = self.find(call)
        text = (await call.request.read()).decode()
        quiet = "<Quiet>true</Quiet>" in text
        rows = []
        for key in map(_unescape, re.findall(r"<Key>(.*?)</Key>", text, re.DOTALL)):
            if self.permitted(call, "DeleteObject", key):
                bucket.drop(key)
                if not quiet:
                    rows.append(f"<Deleted><Key>{escape(key)}</Key></Deleted>")
            else:
                rows.append(
                    f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                )
        return _xml(f"<DeleteResult {_NAMESPACE}>{''.join(rows)}</DeleteResult>")

    async def GetObjectTagging(self, call: Call) -> web.StreamResponse:  # noqa: N802
        _, meta = self.find_object(call)
        rows = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in meta.tags.items()
        )
        return _xml(f"<Tagging {_NAMESPACE}><TagSet>{rows}</TagSet></Tagging>")

    async def PutObjectTagging(self, call: Call) -> web.StreamResponse:  # noqa: N802
        bucket, meta = self.find_object(call)
        text = (await call.request.read()).decode()
        self.store.tag(bucket, meta, _checked_tags([(_unescape(a), _unescape(b)) for a, b in _TAG.findall(text)]))
        return web.Response()

    async def DeleteObjectTagging(self, call: Call) -> web.StreamResponse:  # noqa: N802
        bucket, meta = self.find_object(call)
        self.store.tag(bucket, meta, {})
        return web.Response(status=204)

    # Multipart uploads

    async def CreateMultipartUpload(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.find(call)
        about = {
            "bucket": call.bucket,
            "key": call.key,
            "initiated": self.second(),
            "headers": _object_headers(call),
        }
        upload = self.store.begin(about)
        return _xml(
            f"<InitiateMultipartUploadResult {_NAMESPACE}><Bucket>{escape(call.bucket)}</Bucket>"
            f"<Key>{escape(call.key)}</Key><UploadId>{upload.id}</UploadId></InitiateMultipartUploadResult>"
        )

    def upload(self, call: Call) -> Upload:
        """The upload of a request."""
        upload = self.store.uploads.get(call.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (call.bucket, call.key):
            refuse(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return upload

    async def UploadPart(self, call: Call) -> web.StreamResponse:  # noqa: N802
        number = int(call.query["partNumber"])
        if not 1 <= number <= 10_000:
            refuse(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        self.upload(call)
        incoming = await self.receive(call)
        try:
            meta = Meta(str(number), incoming.size, incoming.md5.hexdigest(), self.second())
            self.store.add_part(self.upload(call), number, incoming, meta)
        finally:
            incoming.discard()
        return web.Response(headers={"ETag": f'"{meta.etag}"'})

    async def CompleteMultipartUpload(self, call: Call) -> web.StreamResponse:  # noqa: N802
        text = await call.request.read()
        upload, bucket = self.upload(call), self.find(call)
        numbers: list[int] = []
        for part in _PART.findall(text):
            number = int(re.findall(rb"<PartNumber>\s*(\d+)", part)[0])
            etag = _unescape(re.findall(rb"<ETag>(.*?)</ETag>", part)[0].decode()).strip('" \n')
            known = upload.parts.get(number)
            if known is None or known.etag != etag:
                refuse(400, "InvalidPart", "One or more of the specified parts could not be found.")
            numbers.append(number)
        if not numbers:
            refuse(400, "MalformedXML", "The XML you provided was not well-formed")
        if sorted(set(numbers)) != numbers:
            refuse(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        if any(upload.parts[number].size < SMALLEST_PART for number in numbers[:-1]):
            refuse(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        _check_conditions(call, bucket)
        incoming = await asyncio.to_thread(self.store.assemble, upload, numbers)
        try:
            self.upload(call)  # not aborted, nor completed by another, in the meantime
            meta = self.store.complete(upload, numbers, incoming, self.second())
        finally:
            incoming.discard()
        return _xml(
            f"<CompleteMultipartUploadResult {_NAMESPACE}><Location>/{call.bucket}/{quote(call.key)}</Location>"
            f"<Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.key)}</Key><ETag>&quot;{meta.etag}&quot;</ETag>"
            "</CompleteMultipartUploadResult>"
        )

    async def AbortMultipartUpload(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.store.abort(self.upload(call))
        return web.Response(status=204)

    async def ListParts(self, call: Call) -> web.StreamResponse:  # noqa: N802
        upload = self.upload(call)
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>{_iso_time(part.modified)}</LastModified>"
            f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size></Part>"
            for number, part in sorted(upload.parts.items())
        )
        return _xml(
            f"<ListPartsResult {_NAMESPACE}><Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.key)}</Key>"
            f"<UploadId>{upload.id}</UploadId><IsTruncated>false</IsTruncated>{rows}</ListPartsResult>"
        )

    async def ListMultipartUploads(self, call: Call) -> web.StreamResponse:  # noqa: N802
        self.find(call)
        prefix = call.query.get("prefix", "")
        rows = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload.id}</UploadId>"
            f"<Initiated>{_iso_time(upload.about['initiated'])}</Initiated></Upload>"
            for upload in sorted(self.store.uploads.values(), key=lambda upload: upload.key)
            if upload.bucket == call.bucket and upload.key.startswith(prefix)
        )
        return _xml(
            f"<ListMultipartUploadsResult {_NAMESPACE}><Bucket>{escape(call.bucket)}</Bucket>"
            f"<IsTruncated>false</IsTruncated>{rows}</ListMultipartUploadsResult>"
        )

    # Bodies

    def second(self) -> float:
        """Now, as precisely as S3 tells it."""
        return float(int(self.door.now()))

    async def receive(self, call: Call) -> Incoming:
        """Write the body of a request into a file of its own, and check it against its digests."""
        request = call.request
        if call.header("Expect").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = Chunked() if "aws-chunked" in call.header("Content-Encoding") else None
        digests = Digests(call)
        flow = Flow(call.fault)
        incoming = self.store.receive()
        try:
            while data := await request.content.read(flow.chunk):
                await flow.moved(len(data))
                if chunked is not None:
                    data = chunked.decoded(data)
                incoming.write(data)
                digests.update(data)
            if chunked is not None:
                if not chunked.ended:
                    refuse(400, "IncompleteBody", "You did not provide the number of bytes specified")
                digests.expect(chunked.trailers)
            digests.check(incoming.md5.digest())
        except BaseException:
            incoming.discard()
            raise
        return incoming


class Chunked:
    """Decodes a body of ``aws-chunked``: size in hex, perhaps a signature, the bytes; at the end, trailers."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.left = 0
        self.ended = False
        self.trailers: dict[str, str] = {}

    def decoded(self, data: bytes) -> bytes:
        """Take bytes as they come, and return those of the object."""
        self.buffer += data
        found = bytearray()
        while self.buffer:
            if self.left > 2:
                taken = self.buffer[: self.left - 2]
                found += taken
                del self.buffer[: len(taken)]
                self.left -= len(taken)
            elif self.left:  # the end of the line behind a chunk
                if len(self.buffer) < self.left:
                    break
                del self.buffer[: self.left]
                self.left = 0
            else:
                line, end, _ = self.buffer.partition(b"\r\n")
                if not end:
                    break
                del self.buffer[: len(line) + 2]
                self.line(line.decode())
        return bytes(found)

    def line(self, line: str) -> None:
        """Understand a line between the chunks."""
        if self.ended:
            name, colon, value = line.partition(":")
            if colon:
                self.trailers[name.strip().lower()] = value.strip()
            return
        size = int(line.partition(";")[0], 16)
        if size:
            self.left = size + 2
        else:
            self.ended = True


class Digests:
    """The digests that a client sends along: each that is known here is checked, CRC-32C and CRC-64 are believed."""

    def __init__(self, call: Call) -> None:
        self.expected = {name.lower(): value for name, value in call.request.headers.items() if _is_digest(name)}
        announced = {name.strip().lower() for name in call.header("x-amz-trailer").split(",")}
        names = announced | set(self.expected)
        self.crc: int | None = 0 if "x-amz-checksum-crc32" in names else None
        self.hashes = {
            name: hashlib.new(name, usedforsecurity=False)
            for name in ("sha1", "sha256")
            if f"x-amz-checksum-{name}" in names
        }

    def expect(self, trailers: dict[str, str]) -> None:
        """Learn of the digests that came behind the body."""
        self.expected.update(trailers)

    def update(self, data: bytes) -> None:
        """Account for bytes of the object."""
        if self.crc is not None:
            self.crc = zlib.crc32(data, self.crc)
        for digest in self.hashes.values():
            digest.update(data)

    def check(self, md5: bytes) -> None:
        """Refuse a body that is not what the client sent."""
        found = {"content-md5": md5}
        if self.crc is not None:
            found["x-amz-checksum-crc32"] = self.crc.to_bytes(4, "big")
        found |= {f"x-amz-checksum-{name}": digest.digest() for name, digest in self.hashes.items()}
        for name, digest in found.items():
            if name in self.expected and self.expected[name] != base64.b64encode(digest).decode():
                refuse(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")


def _is_digest(name: str) -> bool:
    name = name.lower()
    return name == "content-md5" or name.startswith("x-amz-checksum-")


def action_of(method: str, call: Call) -> str:
    """The name of the action that a request asks for."""
    query = call.query
    if not call.bucket:
        return "ListBuckets"
    if call.key:
        choices = {
            "GET": [("tagging", "GetObjectTagging"), ("uploadId", "ListParts"), ("", "GetObject")],
            "HEAD": [("", "HeadObject")],
            "PUT": [("tagging", "PutObjectTagging"), ("uploadId", "UploadPart"), ("", "PutObject")],
            "POST": [("uploads", "CreateMultipartUpload"), ("uploadId", "CompleteMultipartUpload")],
            "DELETE": [
                ("tagging", "DeleteObjectTagging"),
                ("uploadId", "AbortMultipartUpload"),
                ("", "DeleteObject"),
            ],
        }
    else:
        choices = {
            "GET": [
                ("location", "GetBucketLocation"),
                ("uploads", "ListMultipartUploads"),
                ("list-type", "ListObjectsV2"),
                ("", "ListObjects"),
            ],
            "HEAD": [("", "HeadBucket")],
            "PUT": [("", "CreateBucket")],
            "POST": [("delete", "DeleteObjects")],
            "DELETE": [("", "DeleteBucket")],
        }
    if not (_UNKNOWN & set(query)) and "x-amz-copy-source" not in call.request.headers:
        for word, action in choices.get(method, []):
            if not word or word in query:
                return action
    refuse(501, "NotImplemented", "A header or query you provided implies functionality that is not implemented.")


_UNKNOWN = {"acl", "versioning", "versions", "versionId", "policy", "lifecycle", "cors", "encryption", "attributes"}


def _object_headers(call: Call) -> dict[str, Any]:
    """What the headers say about the object to be."""
    encodings = [word.strip() for word in call.header("Content-Encoding").split(",")]
    pairs = parse_qsl(call.header("x-amz-tagging"), keep_blank_values=True)
    return {
        "tags": _checked_tags(pairs),
        "content_type": call.header("Content-Type") or "binary/octet-stream",
        "content_encoding": ",".join(word for word in encodings if word and word != "aws-chunked"),
        "user": {
            name.lower(): value
            for name, value in call.request.headers.items()
            if name.lower().startswith("x-amz-meta-")
        },
    }


def _checked_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    tags = dict(pairs)
    if len(tags) < len(pairs):
        refuse(400, "InvalidTag", "Cannot provide multiple Tags with the same key")
    if len(tags) > MAX_TAGS:
        refuse(400, "BadRequest", "Object tags cannot be greater than 10")
    if any(not (_TAG_KEY.fullmatch(name) and _TAG_VALUE.fullmatch(value)) for name, value in pairs):
        refuse(400, "InvalidTag", "The TagKey or TagValue you have provided is invalid")
    return tags


def _check_conditions(call: Call, bucket: Bucket) -> None:
    """Refuse to write over what the client does not expect to be there."""
    there = bucket.objects.get(call.key)
    match = call.header("If-Match").strip('"')
    if call.header("If-None-Match") == "*" and there is not None:
        refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    if match and there is None:
        refuse(404, "NoSuchKey", "The specified key does not exist.")
    if match and there is not None and there.etag != match:
        refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def _chosen(call: Call, meta: Meta) -> tuple[int, int, int, dict[str, str]]:
    """Status, first byte, end and headers of the answer to GetObject and HeadObject."""
    headers = {
        "ETag": f'"{meta.etag}"',
        "Last-Modified": _http_time(meta.modified),
        "Accept-Ranges": "bytes",
        **meta.user,
    }
    if call.header("If-Match") and call.header("If-Match").strip('"') != meta.etag:
        refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    if meta.etag in [tag.strip(' "') for tag in call.header("If-None-Match").split(",")]:
        return 304, 0, 0, headers
    headers["Content-Type"] = call.query.get("response-content-type") or meta.content_type
    if meta.content_encoding:
        headers["Content-Encoding"] = meta.content_encoding
    if "response-content-disposition" in call.query:
        headers["Content-Disposition"] = call.query["response-content-disposition"]
    if meta.tags:
        headers["x-amz-tagging-count"] = str(len(meta.tags))
    wanted = _RANGE.fullmatch(call.header("Range"))
    if wanted is None or wanted.groups() == ("", ""):
        return 200, 0, meta.size, headers
    low, high = wanted.groups()
    start = int(low) if low else max(0, meta.size - int(high))
    end = min(meta.size, int(high) + 1) if low and high else meta.size
    if start >= meta.size:
        refuse(416, "InvalidRange", "The requested range is not satisfiable")
    if start >= end:
        return 200, 0, meta.size, headers
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{meta.size}"
    return 206, start, end, headers


def _encoder(call: Call) -> Callable[[str], str]:
    if call.query.get("encoding-type") == "url":
        return lambda text: quote(text, safe="/")
    return escape


def _unescape(text: str) -> str:
    return unescape(text, {"&quot;": '"', "&apos;": "'", "&#34;": '"', "&#39;": "'"})


def _http_time(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def _iso_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _xml(text: str) -> web.Response:
    return web.Response(body=(_XML + text).encode(), headers={"Content-Type": "application/xml"})


def _refused(call: Call, error: RefusedError) -> web.Response:
    if call.request.method == "HEAD":
        return web.Response(status=error.status)
    text = (
        f"{_XML}<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"<Resource>/{escape(call.bucket)}/{escape(call.key)}</Resource><RequestId>0</RequestId></Error>"
    )
    return web.Response(status=error.status, body=text.encode(), headers={"Content-Type": "application/xml"})


def main() -> None:
    """Serve until SIGTERM."""
    parser = arguments("A stand-in for Amazon S3.")
    parser.add_argument("--folder", type=Path, required=True, help="where the objects lie")
    parser.add_argument("--bucket", action="append", default=[], help="bucket to make if it is not there")
    options = parser.parse_args()
    door = make_door("s3", options)
    store = Store(options.folder)
    for bucket in options.bucket:
        store.create(bucket)
    run(S3(door, store), door, options)


if __name__ == "__main__":
    main()
