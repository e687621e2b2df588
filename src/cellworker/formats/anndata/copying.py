"""Copies an AnnData file and adds some columns: everything else stays unchanged.

Within one kind of container the bytes are copied: chunks, filters, order of creation and attributes stay. From HDF5 to
Zarr and back every element is written again, with its type, shape, encoding and attributes. Sources were inspected by
the readers (no links to other files, no codecs that run code), and of a copied file the copy is inspected,
which no other program changes.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Column, Reduction
from cellworker.formats.anndata.columns_out import ARRAY, DICT, TEXTS, write_column
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.formats.anndata.containers.sink import EditableSink, Rows, Sink
from cellworker.formats.anndata.containers.stores import edit_store, new_store
from cellworker.formats.anndata.containers.tree import Array, TreeGroup, row_pieces
from cellworker.formats.anndata.elements import is_array, is_group, table_of
from cellworker.formats.anndata.inventory import LEGACY_CATEGORIES, elements_of, encoding_of
from cellworker.formats.anndata.leaves import Leaves
from cellworker.formats.common.cells.annotated_columns import same_column
from cellworker.formats.common.kinds import content_hash, is_zarr
from cellworker.formats.common.ledger import Ledger
from cellworker.progress import Progress

__all__ = ["Additions", "copy_anndata"]

_BLOCK: Final = 16 << 20
_ANY_SIZE: Final = 1 << 50
"""The user's limit was checked when the experiment was opened."""


@dataclass(frozen=True, slots=True)
class Additions:
    """Additions to the copy.

    Attributes
    ----------
    columns
        Columns of ``obs``, one value for each cell; they replace columns of the same names.
    colors
        Colours of the labels of a column.
    embedding
        A name (umap, tsne) and coordinates, instead of a representation of that name.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    colors: Mapping[str, list[str]] = field(default_factory=dict)
    embedding: tuple[str, Reduction] | None = None


def copy_anndata(
    source: Path, target: Path, additions: Additions, *, zarr: bool, sha256: str, threads: int, progress: Progress,
    tree: TreeGroup | None = None,
) -> tuple[Ledger, list[str]]:  # fmt: skip
    """Copy a file or store.

    Parameters
    ----------
    source
        An ``.h5ad`` file or a ``.zarr`` folder.
    target
        A path that does not exist yet, written in place.
    additions
        The additions.
    zarr
        Whether the target is a Zarr store.
    sha256
        What `content_hash` gave when the source was opened.
    threads
        Threads that compress and decompress.
    progress
        Called with the stage and the fraction done; raising stops it.
    tree
        The source where it is no AnnData itself and another reader shows it as such.

    Returns
    -------
    What became of every element, all settled, and what was renamed of the additions, in words.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_OUT_OF_DATE`` when the source has changed; ``EXPERIMENT_UNREADABLE``.
    """
    if tree is None and is_zarr(source) == zarr:
        progress("copying", None)
        found = _copy_bytes(source, target, progress)
        _check_same(source, found, sha256)
        with open_anndata(target, _ANY_SIZE, threads) as root:
            ledger = Ledger(elements_of(root))
            plan = _Plan.of(root, additions, ledger)
    else:
        opened = open_anndata(source, _ANY_SIZE, threads) if tree is None else nullcontext(tree)
        with opened as root, new_store(target, threads, zarr=zarr) as sink:
            ledger = Ledger(elements_of(root))
            plan = _Plan.of(root, additions, ledger)
            _Copy(sink, ledger, progress, zarr=zarr).tree(root)
        _check_same(source, content_hash(source), sha256)
    if plan.wanted():
        with edit_store(target, threads) as sink:
            plan.carry_out(sink)
    if ledger.is_open(()):
        for name in sorted({path[0] for path in ledger.open_paths()}):
            _keep(ledger, name)
    return ledger, plan.renamed


def _keep(ledger: Ledger, place: str) -> None:
    for path in ledger.open_paths((place,)):
        ledger.keep(path)


def _check_same(source: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise WorkerError(
            ErrorCode.EXPERIMENT_OUT_OF_DATE,
            f"{source.name} changed since the experiment was opened: wait until the new one is loaded and ask again.",
        )


def _copy_bytes(source: Path, target: Path, progress: Progress) -> str:
    """Copy a file or folder; return the hash of what was copied."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
        return content_hash(target)
    digest, total, done = hashlib.sha256(), source.stat().st_size, 0
    with source.open("rb") as file, target.open("xb") as out:
        while block := file.read(_BLOCK):
            digest.update(block)
            out.write(block)
            done += len(block)
            progress("copying", min(1.0, done / total) if total else None)
    return digest.hexdigest()


class _Copy:
    """Writes every element of one container into the other."""

    def __init__(self, sink: Sink, ledger: Ledger, progress: Progress, *, zarr: bool) -> None:
        self._sink, self._ledger, self._zarr, self._progress = sink, ledger, zarr, progress
        self._done = 0

    def tree(self, group: TreeGroup) -> None:
        self._sink.group(group.path, self._attributes(group))
        for name in group.names():
            node = group.get(name)
            if is_group(node):
                self.tree(node)
            elif is_array(node):
                self._array(node)
        labelled = group.get(LEGACY_CATEGORIES)
        for name in labelled.names() if is_group(labelled) else []:
            if group.get(name) is not None:
                path = f"{group.path}/{name}"
                self._sink.reference(path, "categories", f"{LEGACY_CATEGORIES}/{name}")

    def _attributes(self, node: TreeGroup | Array) -> dict[str, Any]:
        out = {}
        legacy = is_array(node) and "categories" in node.attrs
        for name in node.attrs:
            value = node.attrs.get(name)
            if legacy and name == "categories":
                continue  # a reference, made again
            if _is_plain(value):
                out[name] = value
            else:
                self._ledger.note_loss(f"{node.path or 'the root'}, attribute {name}: neither text nor numbers")
        return out

    def _array(self, node: Array) -> None:
        self._progress("copying", None)
        attrs, sink = self._attributes(node), self._sink
        if node.is_null():
            sink.null(node.path, attrs)
        elif node.dtype is None:
            sink.texts(node.path, node.texts(), attrs, node.shape)
        elif node.dtype.names:
            sink.records(node.path, node.records(), attrs)
        elif node.dtype.kind in "biufc" or (node.dtype.kind in "mM" and self._zarr):
            sink.array(node.path, node.shape, node.dtype, rows_of(node), attrs)
        else:
            self._ledger.lose(self._element(node), f"HDF5 has no place for values of the type {node.dtype.name}")

    def _element(self, node: Array) -> tuple[str, ...]:
        path = tuple(node.path.split("/"))
        while path and not self._ledger.has(path):
            path = path[:-1]
        return path


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value)) and len({type(item) for item in value}) <= 1
    return isinstance(value, str | int | float | bool)


def rows_of(node: Array) -> Rows:
    """Return what gives a node's rows in order, each piece of the source decompressed once."""
    if not node.shape:
        return lambda _start, _stop: node.read()
    pieces = (piece for _, piece in row_pieces(node))
    held: list[NDArray[Any]] = []

    def rows(start: int, stop: int) -> NDArray[Any]:
        if stop <= start:
            return node.read(0, 0)
        count = sum(len(piece) for piece in held)
        while count < stop - start:
            held.append(next(pieces))
            count += len(held[-1])
        joined = np.concatenate(held) if len(held) > 1 else held[0]
        held[:] = [joined[stop - start :]]
        return joined[: stop - start]

    return rows


@dataclass(slots=True)
class _Plan:
    """The additions that change the file, and their names."""

    columns: dict[str, Column]
    order: list[str]
    colors: dict[str, list[str]]
    embedding: tuple[str, Reduction] | None
    legacy: bool
    new_groups: list[str]
    renamed: list[str]

    @classmethod
    def of(cls, root: TreeGroup, additions: Additions, ledger: Ledger) -> "_Plan":
        table = table_of(root.get("obs"))
        assert table is not None  # it was opened as an experiment
        leaves = Leaves()
        # Only a column of exactly this name is replaced; a name that has to be changed must not meet another column.
        leaves.take("obs", set(table.group.names()) - (set(table.columns) & set(additions.columns)))
        wanted = {leaves.free("obs", name): column for name, column in additions.columns.items()}
        changed = {name: column for name, column in wanted.items() if not same_column(table.get(name), column)}
        for name in changed:
            if name == "samples" and "sample_ids" in wanted and ledger.has(("obs", name)):
                ledger.rename(("obs", name), "obs/sample_ids")
            elif ledger.has(("obs", name)):
                ledger.lose(("obs", name), "replaced by the column that the cell sets have under this name")
        places = dict(zip(additions.columns, wanted, strict=True))
        colors = {f"{places.get(name, name)}_colors": found for name, found in additions.colors.items()}
        for name in colors:
            if ledger.has(("uns", name)):
                ledger.lose(("uns", name), "replaced by the cell sets' colours")
        if additions.embedding is not None and ledger.has(("obsm", _place(additions.embedding[0]))):
            ledger.lose(("obsm", _place(additions.embedding[0])), "replaced by the stored embedding")
        order = [*table.columns] + [name for name in changed if name not in table.columns]
        return cls(
            columns=changed,
            order=order,
            colors=colors,
            embedding=additions.embedding,
            legacy=encoding_of(table.group) == "dataframe"
            and str(table.group.attrs.get("encoding-version", "")) == "0.1.0",
            new_groups=[name for name in ("obsm", "uns") if root.get(name) is None],
            renamed=leaves.renamed,
        )

    def wanted(self) -> bool:
        return bool(self.columns or self.colors or self.embedding)

    def carry_out(self, sink: EditableSink) -> None:
        for name in self.new_groups:
            sink.group(name, DICT)
        for name, column in self.columns.items():
            sink.remove(f"obs/{name}")
            if self.legacy:
                self._legacy_column(sink, name, column)
            else:
                write_column(sink, f"obs/{name}", column)
        if self.columns:
            sink.attribute("obs", "column-order", self.order)
        for name, colors in self.colors.items():
            sink.remove(f"uns/{name}")
            sink.texts(f"uns/{name}", colors, TEXTS)
        if self.embedding is not None:
            place = f"obsm/{_place(self.embedding[0])}"
            values = self.embedding[1].values
            sink.remove(place)
            sink.array(place, values.shape, np.float64, lambda start, stop: values[start:stop], ARRAY)

    def _legacy_column(self, sink: EditableSink, name: str, column: Column) -> None:
        """Write a column in the layout of anndata 0.7: labels as codes that refer to categories beside them."""
        place = f"obs/{name}"
        if isinstance(column, Categorical):
            if not sink.has(f"obs/{LEGACY_CATEGORIES}"):
                sink.group(f"obs/{LEGACY_CATEGORIES}", {})
            sink.remove(f"obs/{LEGACY_CATEGORIES}/{name}")
            sink.texts(f"obs/{LEGACY_CATEGORIES}/{name}", column.categories, {**TEXTS, "ordered": False})
            codes = column.codes
            sink.array(place, codes.shape, np.int32, lambda start, stop: codes[start:stop], ARRAY)
            sink.reference(place, "categories", f"{LEGACY_CATEGORIES}/{name}")
        else:
            write_column(sink, place, column)


def _place(reduction: str) -> str:
    return f"X_{reduction}"
