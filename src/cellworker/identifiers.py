"""Types of names from outside: an object of such a type is proof that the name was checked.

Whoever writes a bucket, a label or an archive chooses its names, and a name in a path or key decides where we read,
write and remove. So text from outside becomes one of these types on entry, by calling the type or `parse`. Code that
makes paths or keys requires the type: mypy refuses plain text there, and ``tests/test_identifiers.py`` finds paths made
from anything else.

Each type is a `str`, so it is written, compared and formatted like the name.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from cellworker.errors import ErrorCode, WorkerError

__all__ = [
    "ETag",
    "ExperimentId",
    "FileName",
    "Identifier",
    "ObjectName",
    "PodName",
    "QueueHash",
    "ResultPath",
    "SandboxId",
    "StoreName",
    "parse",
    "refuse",
]

_MAX_SHOWN = 100
_MAX_TOLD = 1000

_logger = logging.getLogger(__name__)


class Identifier(str):
    """A checked name; a bad text raises.

    Parameters
    ----------
    text
        The name.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the kind of name and the expected form.
    """

    __slots__ = ()

    KIND: ClassVar[str] = "name"
    EXPECTED: ClassVar[str] = ""
    _FORM: ClassVar[re.Pattern[str]]

    def __new__(cls, text: str) -> Self:
        """Check the text."""
        if not cls.fits(text):
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{cls.KIND}: expected {cls.EXPECTED}.")
        return super().__new__(cls, text)

    @classmethod
    def fits(cls, text: str) -> bool:
        """Whether a text is such a name."""
        return cls._FORM.fullmatch(text) is not None


class ExperimentId(Identifier):
    """The id of an experiment: the name of its folder, and the first part of its keys in the buckets."""

    __slots__ = ()

    KIND = "experimentId"
    EXPECTED = "1 to 128 letters, digits, '.', '_' or '-', the first a letter or a digit"
    _FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ETag(Identifier):
    """The key of a stored result. It never begins with a dot, as keys of the journal do."""

    __slots__ = ()

    KIND = "ETag"
    EXPECTED = "1 to 128 letters, digits, '.', '_' or '-', the first no '.'"
    _FORM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class PodName(Identifier):
    """The name of a pod, part of its journal's keys."""

    __slots__ = ()

    KIND = "HOSTNAME"
    EXPECTED = "1 to 253 letters, digits, '.', '_' or '-', the first a letter or a digit"
    _FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the name of this machine; for a hostname that is not allowed, a name made from its hash."""
        if cls.fits(text):
            return cls(text)
        return cls("host-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16])


class SandboxId(Identifier):
    """The id of a sandbox: a DNS label, after ``api-`` in the host name to which users' tokens are sent."""

    __slots__ = ()

    KIND = "sandboxId"
    EXPECTED = "1 to 59 lower-case letters, digits or '-', the first and the last no '-'"
    _FORM = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,57}[a-z0-9])?")


class QueueHash(Identifier):
    """The label ``workQueueHash``, part of the queue's name."""

    __slots__ = ()

    KIND = "workQueueHash"
    EXPECTED = "1 to 40 letters, digits, '_' or '-'"
    _FORM = re.compile(r"[A-Za-z0-9_-]{1,40}")


class ObjectName(Identifier):
    """The name of an experiment's file in its bucket, without the experiment's id: a relative path of plain names.

    No part is empty, begins with a dot (hidden files are ours), or exceeds the max length of a file name.
    """

    __slots__ = ()

    KIND = "object"
    EXPECTED = "plain names with '/' between them"
    # No control characters (C0, DEL, C1), no backslash, no surrogates: those cannot be written or read back.
    _FORM = re.compile(r"(?:[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]*/)*"
                       r"[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]*")  # fmt: skip

    @classmethod
    def fits(cls, text: str) -> bool:
        """Whether a text is such a name."""
        return (
            len(text) <= 1024
            and super().fits(text)
            # 32 bytes below the file system's limit, for the suffix of a temporary name.
            and all(len(part.encode()) <= 223 for part in text.split("/"))
        )


class FileName(Identifier):
    """The name of a file or a folder, not hidden, and without a path to another folder."""

    __slots__ = ()

    KIND = "file"
    EXPECTED = "a name without '/', the first character no '.'"
    _FORM = re.compile(r"[^./\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]*")

    @classmethod
    def fits(cls, text: str) -> bool:
        """Whether a text is such a name."""
        return len(text) <= 255 and super().fits(text) and len(text.encode()) <= 255


class StoreName(Identifier):
    """The hash of a store's source, the first part of its file name."""

    __slots__ = ()

    KIND = "store"
    EXPECTED = "64 hexadecimal digits"
    _FORM = re.compile(r"[0-9a-f]{64}")


class ResultPath(Identifier):
    """The path of a result file, which must be in the results folder of the engine's scratch folder.

    The gateway stores that file and removes it. Without the check, a compromised engine could make it store or remove
    any file.
    """

    __slots__ = ()

    KIND = "result"
    EXPECTED = "the path of a file in the folder of results of an engine's scratch folder"
    FOLDER: ClassVar[str] = "cellworker-scratch-"
    """The prefix of scratch folders' names."""
    _FORM = re.compile(
        r"(?:/[^/\x00-\x1f\ud800-\udfff]+)*/cellworker-scratch-[A-Za-z0-9_]+/results/"
        r"request-[0-9]{1,18}-[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
    )

    @classmethod
    def fits(cls, text: str) -> bool:
        """Whether a text is such a path."""
        return len(text) <= 4096 and super().fits(text) and not {".", ".."} & {*text.split("/")}

    def file(self) -> Path:
        """Return the file.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` when it is no file, or when it or one of the engine's own folders is a link.
        """
        path = Path(str(self))
        own = (path.parent.parent, path.parent)
        if path.is_symlink() or any(folder.is_symlink() for folder in own) or not path.is_file():
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{self.KIND}: expected {self.EXPECTED}.")
        return path


_T = TypeVar("_T", bound=Identifier)
_told: set[tuple[str, str, str]] = set()


def parse(kind: type[_T], text: str, where: str) -> _T | None:
    """Return a name from outside, or None for an invalid one, which is logged once.

    Parameters
    ----------
    kind
        The kind of name.
    text
        The name from outside.
    where
        Its source, for the log.
    """
    if kind.fits(text):
        return kind(text)
    refuse(kind.KIND, text, where)
    return None


def refuse(kind: str, text: str, where: str) -> None:
    """Log once for each bad name that it is skipped; at most a thousand names, so that they cannot fill the log."""
    shown = ascii(text[:_MAX_SHOWN])[1:-1]
    if (kind, shown, where) in _told or len(_told) >= _MAX_TOLD:
        return
    _told.add((kind, shown, where))
    _logger.warning("name passed over", extra={"facts": {"kind": kind, "name": shown, "where": where}})
