"""The description of a Zarr array, in versions 2 and 3: its shape, its chunks, its codecs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from cellworker.formats.anndata.containers.codecs import codec_name, known
from cellworker.formats.anndata.containers.tree import damaged, refused

__all__ = ["ChunkLayout", "Codecs", "Shard", "version_2", "version_3"]

_NUMBERS: Final = frozenset(
    (
        "bool",
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    )
)
_MAX_FIELDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Codecs:
    """The encoding of an array's chunks: codecs in the order of writing; the axes' order; strings or not."""

    packed: tuple[str, ...]
    order: tuple[int, ...] | None = None
    shard: "Shard | None" = None


@dataclass(frozen=True, slots=True)
class Shard:
    """Pieces in a piece: their shape, their codecs and those of the index, and where the index is."""

    chunks: tuple[int, ...]
    inner: Codecs
    index: Codecs
    at_end: bool


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """The chunks of an array, and their content."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    stored: np.dtype[Any] | None
    """Of the elements in the file; None for strings of any length."""
    fill: Any
    codecs: Codecs
    prefix: tuple[str, ...]
    separator: str


def _sizes(path: str, value: Any, *, minimum: int) -> tuple[int, ...]:  # noqa: ANN401
    if not isinstance(value, list) or not all(type(item) is int and minimum <= item < 2**48 for item in value):
        raise damaged(path, "a shape that is none")
    return tuple(value)


def version_2(path: str, about: dict[str, Any]) -> ChunkLayout:
    """Read a ``.zarray``.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` for what is damaged or not read.
    """
    shape, chunks = _sizes(path, about.get("shape"), minimum=0), _sizes(path, about.get("chunks"), minimum=1)
    packed = []
    is_text = False
    for codec in about.get("filters") or []:
        name = codec_name(codec) if isinstance(codec, dict) else ""
        if name != "vlen-utf8":
            raise refused(
                what=f"{path} is encoded with the codec {name or codec!r}", advice="write it again with anndata"
            )
        is_text = True
    compressor = about.get("compressor")
    if isinstance(compressor, dict):
        packed.append(_known(path, codec_name(compressor), compressor))
    kind = about.get("dtype")
    stored: np.dtype[Any] | None = None
    if not is_text:
        try:
            stored = np.dtype(kind) if isinstance(kind, str) else _fields(path, kind)
        except TypeError:
            raise damaged(path, f"the data type {kind!r}") from None
        if stored.hasobject:
            raise refused(what=f"{path} holds objects of Python", advice="write it again with anndata")
    order = tuple(reversed(range(len(shape)))) if about.get("order") == "F" else None
    separator = about.get("dimension_separator", ".")
    if len(chunks) != len(shape) or separator not in {".", "/"}:
        raise damaged(path, "chunks that do not fit the shape")
    return ChunkLayout(shape, chunks, stored, about.get("fill_value"), Codecs(tuple(packed), order), (), separator)


def version_3(path: str, about: dict[str, Any]) -> ChunkLayout:
    """Read a ``zarr.json`` of an array; raises as `version_2` does."""
    shape = _sizes(path, about.get("shape"), minimum=0)
    grid, keys = about.get("chunk_grid"), about.get("chunk_key_encoding")
    if not isinstance(grid, dict) or grid.get("name") != "regular" or not isinstance(keys, dict):
        raise damaged(path, "chunks that are not regular")
    chunks = _sizes(path, _configuration(grid).get("chunk_shape"), minimum=1)
    separator = _configuration(keys).get("separator", "/" if keys.get("name") == "default" else ".")
    if len(chunks) != len(shape) or separator not in {".", "/"}:
        raise damaged(path, "chunks that do not fit the shape")
    codecs, is_text, order = _chain(path, about.get("codecs"), len(shape))
    stored: np.dtype[Any] | None = None
    if not is_text:
        stored = _type_of_version_3(path, about.get("data_type")).newbyteorder(order)
    prefix = ("c",) if keys.get("name") == "default" else ()
    return ChunkLayout(shape, chunks, stored, about.get("fill_value"), codecs, prefix, separator)


def _fields(path: str, value: Any) -> np.dtype[Any]:  # noqa: ANN401
    """Return the type of records: a list of names and types, text and numbers only."""
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_FIELDS:
        raise damaged(path, f"the data type {value!r}")
    fields: list[tuple[str, np.dtype[Any]]] = []
    for item in value:
        known = isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)
        kind = np.dtype(item[1]) if known else np.dtype(np.void)
        if kind.kind not in "biufcUS" or not item[0]:
            raise refused(what=f"{path} holds records of {item!r}", advice="write it again with anndata")
        fields.append((item[0], kind))
    try:
        return np.dtype(fields)
    except ValueError as error:
        raise damaged(path, error) from None


def _structured(path: str, value: Any) -> np.dtype[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise damaged(path, "records without fields")
    fields = []
    for item in value:
        # A pair, or by newer zarr (3.4) two members with names.
        pair = [item.get("name"), item.get("data_type")] if isinstance(item, dict) else item
        if not isinstance(pair, list) or len(pair) != 2:
            raise damaged(path, f"a field {item!r}")
        fields.append([pair[0], _type_of_version_3(path, pair[1]).str])
    return _fields(path, fields)


def _type_of_version_3(path: str, kind: Any) -> np.dtype[Any]:  # noqa: ANN401
    if isinstance(kind, str) and kind in _NUMBERS:
        return np.dtype(kind)
    if isinstance(kind, dict) and kind.get("name") == "fixed_length_utf32":
        length = _configuration(kind).get("length_bytes")
        if type(length) is int and 0 < length < 1 << 20:
            return np.dtype(f"U{length // 4}")
    if isinstance(kind, dict) and kind.get("name") in {"structured", "struct"}:
        return _structured(path, _configuration(kind).get("fields"))
    if isinstance(kind, str | dict):
        return np.dtype(np.void)  # AnnData's elements do not need it; reported when it is read
    raise damaged(path, f"the data type {kind!r}")


def _configuration(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found = item.get("configuration")
    return found if isinstance(found, dict) else {}


def _known(path: str, name: str, settings: Mapping[str, Any]) -> str:
    """Return the codec's name without the package that it comes from."""
    name = name.removeprefix("numcodecs.")
    if not known(name):
        raise refused(
            what=f"{path} is compressed with the codec {name!r}", advice="write it again with anndata's default"
        )
    if name == "crc32c" and settings.get("location", "end") != "end":
        raise refused(
            what=f"{path} keeps its CRC-32C sums at the start", advice="write it again with anndata's default"
        )
    return name


def _chain(path: str, value: Any, ndim: int) -> tuple[Codecs, bool, Literal["<", ">"]]:  # noqa: ANN401
    endian: Literal["<", ">"] = "<"
    packed, order, shard, is_text = [], None, None, False
    for codec in value if isinstance(value, list) else []:
        if not isinstance(codec, dict):
            raise damaged(path, f"the codec {codec!r}")
        name, more = codec_name(codec), _configuration(codec)
        if name == "bytes":
            endian = ">" if more.get("endian") == "big" else "<"
        elif name == "vlen-utf8":
            is_text = True
        elif name == "transpose":
            order = _sizes(path, more.get("order"), minimum=0)
            if sorted(order) != list(range(ndim)):
                raise damaged(path, f"the order of axes {order}")
        elif name == "sharding_indexed":
            chunks = _sizes(path, more.get("chunk_shape"), minimum=1)
            inner, is_text, endian = _chain(path, more.get("codecs"), ndim)
            index, _, _ = _chain(path, more.get("index_codecs"), ndim + 1)
            if len(chunks) != ndim or inner.shard is not None:
                raise damaged(path, "shards that do not fit the shape")
            shard = Shard(chunks, inner, index, more.get("index_location", "end") == "end")
        else:
            packed.append(_known(path, name, more))
    return Codecs(tuple(packed), order, shard), is_text, endian
