"""Files of AnnData seen with h5py and zarr alone: every node, its values, type and attributes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Seen:
    """One node: what it is, its attributes, and for arrays its type, shape, chunks, filters and values."""

    kind: str
    attrs: dict[str, Any]
    dtype: str = ""
    shape: tuple[int, ...] | None = ()
    stored: Any = None
    values: Any = None


def tree(path: Path) -> dict[str, Seen]:
    """Return every node below the root, by path."""
    return _zarr(path) if path.is_dir() else _hdf5(path)


def _hdf5(path: Path) -> dict[str, Seen]:
    import h5py

    out: dict[str, Seen] = {}
    with h5py.File(path) as file:

        def visit(name: str, item: Any) -> None:
            attrs = {
                key: _plain(item.attrs[key]) for key in item.attrs if not isinstance(item.attrs[key], h5py.Reference)
            }
            if isinstance(item, h5py.Group):
                out[name] = Seen("group", attrs)
                return
            text = h5py.check_string_dtype(item.dtype) is not None
            stored = (item.chunks, item.compression, item.compression_opts, item.shuffle)
            values = _plain(item[()]) if item.shape is not None else None
            out[name] = Seen("array", attrs, "text" if text else _type(item.dtype), item.shape, stored, values)

        file.visititems(visit)
        out[""] = Seen("group", {key: _plain(value) for key, value in file.attrs.items()})
    return out


def _zarr(path: Path) -> dict[str, Seen]:
    import zarr

    out: dict[str, Seen] = {}
    waiting = [("", zarr.open_group(path, mode="r", use_consolidated=False))]
    while waiting:
        name, item = waiting.pop()
        attrs = {key: _plain(value) for key, value in dict(item.attrs).items()}
        if isinstance(item, zarr.Group):
            out[name] = Seen("group", attrs)
            waiting += [(f"{name}/{key}".lstrip("/"), item[key]) for key in item]
            continue
        null = attrs.get("encoding-type") == "null"
        kind = (
            "text" if item.dtype.kind in "OTU" or str(item.dtype) in {"string", "StringDType()"} else _type(item.dtype)
        )
        values = None if null else _plain(item[()])
        shape = None if null else item.shape
        out[name] = Seen("array", attrs, "float32" if null else kind, shape, item.chunks, values)
    return out


def _type(dtype: np.dtype[Any]) -> str:
    if dtype.names:
        return "records of " + ", ".join(f"{name} {'text' if dtype[name].kind in 'OUS' else dtype[name]}"
                                         for name in dtype.names)  # fmt: skip
    return dtype.newbyteorder("=").name


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()] if value.ndim else _plain(value.item())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, complex):
        return [value.real, value.imag]
    return value.item() if isinstance(value, np.generic) else value
