"""Objects and unfinished uploads in a folder: ``<bucket>/<quoted key>``, each one file, complete or not there.

A file is the object's bytes, then one line of JSON (key, ETag, tags, ...), its length and a mark. Bytes and tags come
into being by one rename; new tags are one appended line. So SIGKILL leaves neither half an object nor one without its
tags. A file without the line, put there by hand, is served too.
"""

import hashlib
import os
import struct
import sys
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import orjson

_MARK = b"\ns3meta\n"
_TAIL = struct.Struct("<Q8s")
_UPLOADS = ".uploads"
_CHUNK = 1 << 20
_LONGEST_NAME = 200
_LAST = chr(sys.maxunicode)


@dataclass
class Meta:
    """What is known of an object; `modified` in seconds since 1970."""

    key: str
    size: int
    etag: str
    modified: float
    tags: dict[str, str] = field(default_factory=dict)
    content_type: str = "binary/octet-stream"
    content_encoding: str = ""
    user: dict[str, str] = field(default_factory=dict)


class Bucket:
    """The index of one bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, Meta] = {}
        self.keys: list[str] = []
        for path in folder.iterdir():
            if path.is_file():
                self.add(read_meta(path))

    def add(self, meta: Meta) -> None:
        """Put an object into the index."""
        if meta.key not in self.objects:
            insort(self.keys, meta.key)
        self.objects[meta.key] = meta

    def drop(self, key: str) -> None:
        """Remove an object, if it is there."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]
            self.path(key).unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """The file of a key."""
        name = quote(key, safe="")
        if len(name) > _LONGEST_NAME or name.startswith("."):
            name = f"%{hashlib.sha256(key.encode()).hexdigest()}"
        return self.folder / name

    def page(self, prefix: str, delimiter: str, start: str, most: int) -> tuple[list[str], list[str], str]:
        """List keys behind `start`, those that share a prefix up to the delimiter rolled up into that.

        Returns
        -------
        The keys, the common prefixes, and the last of both where more follow (else nothing). Where `start` ends with
        the delimiter, what it begins was listed already.
        """
        keys: list[str] = []
        rolled: list[str] = []
        last = ""
        behind = start + _LAST if delimiter and start.endswith(delimiter) else start
        index = max(bisect_left(self.keys, prefix), bisect_right(self.keys, behind) if behind else 0)
        while index < len(self.keys) and self.keys[index].startswith(prefix):
            if len(keys) + len(rolled) == most:
                return keys, rolled, last
            key = self.keys[index]
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                last = key
                keys.append(key)
                index += 1
            else:
                last = key[: end + len(delimiter)]
                rolled.append(last)
                index = bisect_right(self.keys, last + _LAST)
        return keys, rolled, ""


class Upload:
    """An unfinished multipart upload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.about: dict[str, Any] = orjson.loads((folder / "about").read_bytes())
        self.parts: dict[int, Meta] = {}
        for path in folder.iterdir():
            if path.name.isdigit():
                self.parts[int(path.name)] = read_meta(path)

    @property
    def bucket(self) -> str:
        """Where the object will be."""
        return str(self.about["bucket"])

    @property
    def key(self) -> str:
        """What the object will be."""
        return str(self.about["key"])


class Incoming:
    """A file that is being written, beside its final place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def write(self, data: bytes, *, digest: bool = True) -> None:
        """Add bytes."""
        if digest:
            self.md5.update(data)
        self.size += len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        assert self.file is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]

    def finish(self, target: Path, meta: Meta) -> None:
        """Become the object."""
        self._write(_trailer(meta))
        assert self.file is not None
        os.close(self.file)
        os.rename(self.path, target)  # noqa: PTH104 (called for every request)
        self.file = None

    def discard(self) -> None:
        """Become nothing, unless it was finished."""
        if self.file is not None:
            os.close(self.file)
            os.unlink(self.path)  # noqa: PTH108
            self.file = None


class Store:
    """All buckets and uploads of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.incoming = folder / ".incoming"
        self.incoming.mkdir(exist_ok=True)
        for path in self.incoming.iterdir():  # of a process that was killed
            path.unlink()
        self._numbers = count()
        self.buckets = {path.name: Bucket(path) for path in folder.iterdir() if _is_bucket(path)}
        self.uploads: dict[str, Upload] = {}
        for path in (folder / _UPLOADS).glob("*/about"):
            upload = Upload(path.parent)
            self.uploads[upload.id] = upload

    def create(self, name: str) -> Bucket:
        """Make a bucket, if it is not there."""
        if name not in self.buckets:
            (self.folder / name).mkdir(exist_ok=True)
            self.buckets[name] = Bucket(self.folder / name)
        return self.buckets[name]

    def remove(self, name: str) -> None:
        """Remove an empty bucket."""
        (self.folder / name).rmdir()
        del self.buckets[name]

    def receive(self) -> Incoming:
        """Begin a file."""
        return Incoming(f"{self.incoming}/{next(self._numbers)}")

    def put(self, bucket: Bucket, incoming: Incoming, meta: Meta) -> None:
        """Store an object."""
        incoming.finish(bucket.path(meta.key), meta)
        bucket.add(meta)

    def tag(self, bucket: Bucket, meta: Meta, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        meta.tags = tags
        with bucket.path(meta.key).open("ab", buffering=0) as file:
            file.write(_trailer(meta))

    def begin(self, about: dict[str, Any]) -> Upload:
        """Begin a multipart upload."""
        folder = self.folder / _UPLOADS / os.urandom(24).hex()
        folder.mkdir(parents=True)
        unfinished = folder / "about.unfinished"
        unfinished.write_bytes(orjson.dumps(about))
        unfinished.replace(folder / "about")
        upload = self.uploads[folder.name] = Upload(folder)
        return upload

    def add_part(self, upload: Upload, number: int, incoming: Incoming, meta: Meta) -> None:
        """Store a part."""
        incoming.finish(upload.folder / str(number), meta)
        upload.parts[number] = meta

    def assemble(self, upload: Upload, numbers: list[int]) -> Incoming:
        """Write the object of an upload's parts; may run in a thread."""
        incoming = self.receive()
        try:
            for number in numbers:
                with (upload.folder / str(number)).open("rb", buffering=0) as file:
                    left = upload.parts[number].size
                    while left:
                        data = file.read(min(left, _CHUNK))
                        incoming.write(data, digest=False)
                        left -= len(data)
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def complete(self, upload: Upload, numbers: list[int], incoming: Incoming, now: float) -> Meta:
        """Make the assembled parts the object."""
        etags = b"".join(bytes.fromhex(upload.parts[number].etag) for number in numbers)
        meta = Meta(
            key=upload.key,
            size=incoming.size,
            etag=f"{hashlib.md5(etags, usedforsecurity=False).hexdigest()}-{len(numbers)}",
            modified=now,
            **upload.about["headers"],
        )
        self.put(self.buckets[upload.bucket], incoming, meta)
        self.abort(upload)
        return meta

    def abort(self, upload: Upload) -> None:
        """Forget an upload; its description goes first, so that no restart finds half of it."""
        del self.uploads[upload.id]
        (upload.folder / "about").unlink()
        for path in upload.folder.iterdir():
            path.unlink()
        upload.folder.rmdir()


def read_meta(path: Path) -> Meta:
    """Read the last line of a file, or describe a file that has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size >= _TAIL.size:
            file.seek(size - _TAIL.size)
            length, mark = _TAIL.unpack(file.read(_TAIL.size))
            if mark == _MARK and length <= size:
                file.seek(size - _TAIL.size - length)
                return Meta(**orjson.loads(file.read(length)))
        file.seek(0)
        digest = hashlib.file_digest(file, "md5").hexdigest()
    return Meta(unquote(path.name), size, digest, float(int(path.stat().st_mtime)))


def _trailer(meta: Meta) -> bytes:
    line = orjson.dumps(vars(meta))
    return line + _TAIL.pack(len(line), _MARK)


def _is_bucket(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")
