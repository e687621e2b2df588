"""Inspects all objects of an untrusted HDF5 file before any values are read; see `hdf5`."""

import math
from collections import deque
from typing import Any, Final

import h5py
import numpy as np

from cellworker.formats.anndata.containers.tree import Budget, refused

__all__ = ["MAX_OBJECTS", "PlainArray", "inspect"]

MAX_OBJECTS: Final = 1_000_000
_MAX_DEPTH: Final = 64
_DEFLATE, _SHUFFLE, _FLETCHER, _LZF = 1, 2, 3, 32000
_FILTERS: Final = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _FLETCHER: "fletcher32", _LZF: "lzf"}
_NUMBERS: Final = frozenset({h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM})
_FIELDS: Final = frozenset({h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM, h5py.h5t.COMPOUND})

PlainArray = tuple[tuple[int, ...], np.dtype[Any]]
"""The shape and the type of an array of numbers."""


def inspect(root: Any, budget: Budget) -> dict[str, PlainArray]:  # noqa: ANN401
    """Walk over all objects; return what is known then of the arrays of numbers, by path."""
    seen: set[int] = set()
    plain: dict[str, PlainArray] = {}
    waiting = deque([("", root, 0)])
    while waiting:
        path, group, depth = waiting.popleft()
        if depth > _MAX_DEPTH:
            raise refused(what=f"{path} lies {depth} groups deep", advice=f"at most {_MAX_DEPTH} are read")
        links = group.links
        for raw in group:
            where = f"{path}/{raw.decode('utf-8', 'replace')}".lstrip("/")
            # Inspected without following it: opening an external link would open another file.
            link = links.get_info(raw)
            if link.type != h5py.h5l.TYPE_HARD:
                names = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
                raise refused(
                    what=f"{where} is {names.get(link.type, 'a link of a foreign kind')}",
                    advice="write the file with anndata",
                )
            if link.u in seen:  # two names for one object, as of index arrays in our own stores
                continue
            seen.add(link.u)  # the object's address: it is unique, since no other file takes part
            item = h5py.h5o.open(group, raw)
            if len(seen) > MAX_OBJECTS:
                raise refused(what=f"it holds more than {MAX_OBJECTS:,} objects", advice="AnnData holds fewer")
            if isinstance(item, h5py.h5g.GroupID):
                waiting.append((where, item, depth + 1))
            elif isinstance(item, h5py.h5d.DatasetID):
                found = _inspect_dataset(where, item, budget)
                if found is not None:
                    plain[where] = found
            else:
                raise refused(what=f"{where} is a data type of its own", advice="write the file with anndata")
    return plain


def _inspect_dataset(path: str, dataset: Any, budget: Budget) -> PlainArray | None:  # noqa: ANN401
    layout = dataset.get_create_plist()
    if layout.get_external_count():
        raise refused(
            what=f"the values of {path} lie in another file (external storage)", advice="write the file with anndata"
        )
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        raise refused(
            what=f"{path} is put together from other datasets (virtual)", advice="write the file with anndata"
        )
    for number in range(layout.get_nfilters()):
        code = layout.get_filter(number)[0]
        if code not in _FILTERS:
            known = ", ".join(_FILTERS.values())
            advice = "write it again with anndata and compression='gzip'"
            raise refused(what=f"{path} is compressed with a filter that is not HDF5's own (number {code})",
                          advice=f"{known} are read; {advice}")  # fmt: skip
    kind = dataset.get_type()
    _inspect_type(path, kind)
    shape = dataset.shape
    size = int(math.prod([float(length) for length in shape])) * kind.get_size() if shape else 0
    budget.claim(path, size, dataset.get_storage_size())
    # Asking again for each of tens of thousands of columns takes as long as reading them.
    return (tuple(shape or ()), kind.dtype) if kind.get_class() in _NUMBERS else None


def _inspect_type(path: str, kind: Any, depth: int = 0) -> None:  # noqa: ANN401
    if kind.committed():
        raise refused(what=f"{path} has a data type of its own", advice="write the file with anndata")
    what = kind.get_class()
    if what == h5py.h5t.ARRAY and depth:  # a field of several numbers, as anndata before 0.7 stored obsm
        _inspect_type(path, kind.get_super(), depth + 1)
        return
    if what not in _FIELDS or depth > 4:
        raise refused(
            what=f"{path} holds values that are neither numbers nor text", advice="remove it and write the file again"
        )
    if what == h5py.h5t.COMPOUND:
        for number in range(kind.get_nmembers()):
            _inspect_type(path, kind.get_member_type(number), depth + 1)
