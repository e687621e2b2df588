"""The table of marker genes: from a file, or fetched once from an address. Its checksum is pinned.

The table that ScType publishes is looked for in DATA_DIR, then in the Python environment (where the build of an image
puts it), then among the tables that were fetched; otherwise it is fetched from where ScType publishes it.
"""

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.whole_files import write_whole
from cellworker.identifiers import FileName
from cellworker.logs import log
from cellworker.settings import Settings

__all__ = ["PUBLISHED_SHA256", "install_published", "marker_table", "read_table", "table_places"]

PUBLISHED_SHA256 = "f9adcf25f056184107150f0413241c0ccd311cf98309bc4d412071ae38ccabad"
"""Of ScTypeDB_full.xlsx at the commit of sc-type that the original uses."""

_FILE = "ScTypeDB_full.xlsx"
_PUBLISHED_AT = (
    f"https://raw.githubusercontent.com/IanevskiAleksandr/sc-type/630e15cf1e51f2612eda4ad0406dfb17503fa8c9/{_FILE}"
)
_FETCHED_FROM = _PUBLISHED_AT
_PIN = re.compile(r"^(.*)#sha256=([0-9A-Fa-f]{64})$", re.DOTALL)
_ADDRESS = re.compile(r"^https?://", re.IGNORECASE)
_MAX_BYTES = 64 << 20
_TIMEOUT_S = 30.0

_logger = logging.getLogger(__name__)


def marker_table(settings: Settings) -> Callable[[], bytes]:
    """Return a function that reads the table of the settings; see `read_table`."""
    return partial(read_table, *table_places(settings))


def table_places(settings: Settings) -> tuple[str, str]:
    """Return where the table is (a path or an address, with its checksum where the setting has one) and the cache."""
    source = settings.sctype_table or str(settings.data_dir.absolute() / _FILE)
    return source, str(settings.store_dir.absolute() / "tables")


def read_table(source: str, cache: str) -> bytes:
    """Return the table's content.

    Parameters
    ----------
    source
        Path or address, with ``#sha256=...`` at the end unless it is the table that ScType publishes. Where a path with
        the published table's own name does not exist, the table comes from the environment, or is fetched once.
    cache
        Folder where a fetched table is kept, under its checksum.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when there is no table, it cannot be fetched, or it is not the one that was pinned; the
        sentence says where to get it.
    """
    found = _PIN.match(source)
    place, wanted = (found[1], found[2].lower()) if found else (source, PUBLISHED_SHA256)
    if _ADDRESS.match(place):
        return _from_address(place, wanted, cache)
    path = Path(place).expanduser()
    if wanted == PUBLISHED_SHA256 and path.name == _FILE and not path.exists():
        return _published(path, cache)
    content = _from_file(path)
    _check(content, wanted, path.name)
    return content


def install_published() -> Path:
    """Fetch the published table into this environment, as the build of an image does; return where it is.

    Raises
    ------
    WorkerError
        As `read_table`.
    """
    place = _installed()
    content = _fetch(_FETCHED_FROM)
    _check(content, PUBLISHED_SHA256, _FILE)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def _installed() -> Path:
    return Path(sys.prefix) / "share" / "cellworker" / _FILE


def _published(path: Path, cache: str) -> bytes:
    """Return the published table where DATA_DIR does not hold it."""
    with suppress(OSError):
        content = _installed().read_bytes()
        if hashlib.sha256(content).hexdigest() == PUBLISHED_SHA256:
            return content
    missing = f"{path.name} cannot be read (No such file or directory), and "
    return _from_address(_FETCHED_FROM, PUBLISHED_SHA256, cache, missing)


def _from_address(address: str, wanted: str, cache: str, missing: str = "") -> bytes:
    kept = Path(cache) / FileName(f"{wanted}.table")
    try:
        content = kept.read_bytes()
        if hashlib.sha256(content).hexdigest() == wanted:
            return content
    except OSError:
        pass
    content = _fetch(address, missing)
    _check(content, wanted, "what the address gives")
    _keep(kept, content)
    host = urlsplit(address).hostname
    log(_logger, logging.INFO, "table of marker genes fetched", host=host, bytes=len(content), sha256=wanted)
    return content


def _from_file(path: Path) -> bytes:
    try:
        if path.stat().st_size <= _MAX_BYTES:
            return path.read_bytes()
        why = f"{path.name} is too large to be one"
    except OSError as error:
        why = f"{path.name} cannot be read ({error.strerror})"
    raise _no_table(why)


def _fetch(address: str, missing: str = "") -> bytes:
    # Slow to import, and few fetch.
    from http.client import HTTPException  # noqa: PLC0415
    from urllib.error import HTTPError  # noqa: PLC0415
    from urllib.request import urlopen  # noqa: PLC0415

    # The address may hold a password or a signature: only the host is named.
    host = "its address"
    try:
        host = urlsplit(address).hostname or host
        with urlopen(address, timeout=_TIMEOUT_S) as response:  # noqa: S310 _ADDRESS lets http and https through only
            content: bytes = response.read(_MAX_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or type(error).__name__
        if isinstance(reason, PermissionError):
            reason = "EGRESS is false: this worker opens no connections"
        why = f"{missing}it could not be fetched from {host} ({reason})"
        raise _no_table(why) from None
    if len(content) > _MAX_BYTES:
        why = f"what {host} gives is too large to be one"
        raise _no_table(why)
    return content


def _check(content: bytes, wanted: str, name: str) -> None:
    has = hashlib.sha256(content).hexdigest()
    if has != wanted:
        why = (
            f"{name} has the SHA-256 {has} instead of {wanted}; if it is the table you mean, "
            f"add #sha256={has} to the setting"
        )
        raise _no_table(why)


def _no_table(why: str) -> WorkerError:
    message = (
        f"ScType needs its table of marker genes, and {why}. Download {_PUBLISHED_AT} and put it into DATA_DIR, or let "
        "SCTYPE_TABLE name a file or an address."
    )
    return WorkerError(ErrorCode.INVALID_INPUT, message)


def _keep(path: Path, content: bytes) -> None:
    """Keep what was fetched, whole or not at all; without a place for it, it is fetched again next time."""
    with suppress(OSError, WorkerError):
        write_whole(path, content)
