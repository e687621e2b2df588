"""Cell sets of any size: parses ids from the text into one array in a file, which readers map.

A cell_sets.json of a million cells in twenty classes is 160 MB of text, and a gigabyte as Python numbers.
"""

import json
import mmap
import re
import secrets
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets

__all__ = ["LARGE_BYTES", "keys_in", "pack", "unpack"]

LARGE_BYTES: Final = 1 << 20
"""Larger texts are read in a process of their own."""
_MAX_TEXT_BYTES: Final = 4 << 20
"""Max bytes of everything but the ids of the cells: the names of about 25,000 sets."""
_LONG_BYTES: Final = 1 << 12
"""Min bytes of a list of ids that is cut out before the rest is parsed."""
_MAX_ID: Final = 2**31 - 1

_START = re.compile(rb'(?<!\\)"cellIds"\s*:\s*\[')

_LISTS = re.compile(rb"\[[^\[\]{}]*\]")


def pack(source: str, target: str) -> dict[str, Any]:
    """Read a cell_sets.json, and write the ids of all its sets to a file, int32, one after the other.

    Meant for a process with limits: it holds the file's text beside the ids.

    Parameters
    ----------
    source
        The cell_sets.json; not empty.
    target
        The file for the ids.

    Returns
    -------
    The facts that `unpack` needs beside the file, JSON-able.

    Raises
    ------
    WorkerError
        ``CELL_SETS_INVALID`` as `CellSets.parse`, and when there are too many sets.
    """
    with Path(source).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rest, taken, token = _without_ids(content)
    content.close()
    # Parse a long list with anything but ids again, to name the fault.
    broken = sum(len(found[0]) for found in _LISTS.finditer(rest) if len(found[0]) >= _LONG_BYTES)
    if len(rest) - broken > _MAX_TEXT_BYTES:
        raise _too_many(rest.count(b'"cellIds"'))
    try:
        document = orjson.loads(rest)
    except orjson.JSONDecodeError as error:
        raise WorkerError(ErrorCode.CELL_SETS_INVALID, f"The cell sets are not JSON: {error}.") from None
    cell_sets = CellSets.parse_document(_given_back(document, taken, token))
    end, classes = 0, []
    with Path(target).open("wb") as file:
        for item in cell_sets.classes:
            children = []
            for child in item.children:
                file.write(np.ascontiguousarray(child.cell_ids, "<i4").data)
                children.append([child.key, child.name, child.color, child.type, child.extra, len(child.cell_ids)])
                end += len(child.cell_ids)
            classes.append([item.key, item.name, item.type, item.root_node, item.extra, children])
    packed = {"classes": classes, "extra": cell_sets.extra, "ids": end}
    if len(json.dumps(packed)) > 2 * _MAX_TEXT_BYTES:
        raise _too_many(sum(len(item.children) for item in cell_sets.classes))
    return packed


def unpack(packed: dict[str, Any], path: Path) -> CellSets:
    """Return the cell sets of `pack`. The ids are views of the mapped file, which may then be removed."""
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if packed["ids"] else b""
    ids: NDArray[np.int32] = np.frombuffer(pages, "<i4")
    classes, start = [], 0
    for key, name, kind, root_node, extra, children in packed["classes"]:
        sets = []
        for child_key, child_name, color, child_kind, child_extra, size in children:
            sets.append(CellSet(child_key, child_name, color, ids[start : start + size], child_kind, child_extra))
            start += size
        classes.append(CellClass(key, name, kind, sets, root_node, extra))
    return replace(CellSets.empty(), classes=classes, extra=packed["extra"])


def keys_in(content: bytes | mmap.mmap) -> set[tuple[str, str]]:
    """Return the keys of all classes and sets, each class before its sets, without reading any ids.

    Raises
    ------
    ValueError, KeyError, TypeError
        Where the text is no cell_sets.json.
    """
    rest, _, _ = _without_ids(content)
    return {(item["key"], child["key"]) for item in orjson.loads(rest)["cellSets"] for child in item["children"]}


def _without_ids(content: bytes | mmap.mmap) -> tuple[bytes, list[NDArray[np.int32]], str]:
    """Cut the long lists of ids out of the text, and put an object with a random name in place of each.

    Anything but a plain list of ids stays in the text, and the JSON reader reports the fault. A quotation mark inside a
    string follows a backslash, so no string can look like the start of a list.
    """
    token = secrets.token_hex(16)
    pieces: list[bytes] = []
    taken: list[NDArray[np.int32]] = []
    done = 0
    for start in _START.finditer(content):
        if start.end() <= done:
            continue
        end = content.find(b"]", start.end())
        if end - start.end() < _LONG_BYTES:
            continue
        ids = _ids(content[start.end() : end])
        if ids is None:
            continue
        pieces.append(content[done : start.end() - 1])
        pieces.append(b'{"%b":%d}' % (token.encode(), len(taken)))
        taken.append(ids)
        done = end + 1
    pieces.append(content[done:])
    return b"".join(pieces), taken, token


def _ids(text: bytes) -> NDArray[np.int32] | None:
    """Read numbers between commas; None where the text is anything else by the rules of JSON."""
    digits = text.translate(None, b", \t\r\n")
    if not digits.isdigit():
        return None
    try:
        with warnings.catch_warnings():
            # NumPy before 2.3 warns where newer ones refuse, and returns what stands before.
            warnings.simplefilter("error", DeprecationWarning)
            found = np.fromstring(text, np.int64, sep=",")
    except (ValueError, DeprecationWarning):  # two commas, or two numbers without one
        return None
    if len(found) != text.count(b",") + 1 or found.max() > _MAX_ID:
        return None
    # A leading zero, which JSON forbids, is a digit too many.
    lengths = len(found) + sum(int(np.count_nonzero(found >= 10**power)) for power in range(1, 10))
    return found.astype(np.int32) if lengths == len(digits) else None


def _given_back(document: Any, taken: list[NDArray[np.int32]], token: str) -> Any:  # noqa: ANN401 - JSON
    """Replace the placeholders in the document by the ids."""
    classes = document.get("cellSets") if isinstance(document, dict) else None
    for item in classes if isinstance(classes, list) else []:
        children = item.get("children") if isinstance(item, dict) else None
        for child in children if isinstance(children, list) else []:
            mark = child.get("cellIds") if isinstance(child, dict) else None
            if isinstance(mark, dict) and token in mark:
                child["cellIds"] = taken[mark[token]]
    return document


def _too_many(count: int) -> WorkerError:
    return WorkerError(
        ErrorCode.CELL_SETS_INVALID,
        f"The cell sets are {count:,} sets with more names than can be served at a time "
        f"({_MAX_TEXT_BYTES >> 20} MB, about 25,000 sets). Please remove sets that are not used.",
    )
