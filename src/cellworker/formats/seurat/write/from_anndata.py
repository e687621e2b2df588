"""Lays out all parts of an AnnData file beyond an experiment's matrices for a Seurat object.

=====================================  =============================================================================
AnnData                                the Seurat object
=====================================  =============================================================================
``obs`` columns                        ``meta.data``, exactly: ordered factors, NA, whole numbers, complex numbers
``var`` columns                        ``meta.features`` of the assay; ``highly_variable`` also as ``var.features``
``varm["PCs"]``, ``uns["pca"]``        loadings and standard deviations of the reduction pca
``obsp``                               graphs
``uns``, layers, ``raw``, ``varm``,    ``misc$anndata``, under the same names: lists, data frames, sparse matrices
``varp``, other ``obsm``
=====================================  =============================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.anndata.cells import IDENTITIES
from cellworker.formats.anndata.containers.tree import Node, TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group, members, table_of
from cellworker.formats.anndata.inventory import attributes_of, elements_of, encoding_of
from cellworker.formats.anndata.matrices import matrix_of
from cellworker.formats.anndata.rounding import rounding
from cellworker.formats.anndata.tissue import pixels_at, spot_of
from cellworker.formats.anndata.to_r import ToR, sparse_of
from cellworker.formats.anndata.writer import SCALED, SCALED_GENES
from cellworker.formats.common.cells.names import unique_names
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.ledger import Ledger, Path, renamed_names
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector
from cellworker.formats.seurat.write.images import Spot

__all__ = ["BIOCONDUCTOR_WORDS", "SEURAT_WORDS", "SeuratExtras", "extras_from_anndata"]


@dataclass(frozen=True, slots=True)
class Words:
    """Names of the written object's parts, for the report."""

    data: str
    counts: str
    scaled: str
    cells: str
    features: str
    identities: str
    reductions: str
    graphs: str
    held: str
    own: str
    images: str


SEURAT_WORDS = Words(
    "data of the assay RNA", "counts of the assay RNA", "scale.data of the assay RNA", "meta.data",
    "meta.features of the assay RNA", "active.ident", "reductions", "graphs", "misc$anndata",
    "the object's own slots and misc, where cellworker looks for it", "the image {}",
)  # fmt: skip
BIOCONDUCTOR_WORDS = Words(
    "the assay logcounts", "the assay counts", "metadata(x)$cellworker$scaled", "colData", "rowData",
    "metadata(x)$cellworker$identities", "reducedDims(x)", "metadata(x)$cellworker$graphs", "metadata(x)$source",
    "the object's own parts and metadata(x)$cellworker, where cellworker looks for it",
    "metadata(x)$cellworker$images${}$pixels",
)  # fmt: skip
_OWN: Path = ("uns", "cellworker")


@dataclass(slots=True)
class SeuratExtras:
    """Content of a fresh Seurat object beyond an experiment.

    Attributes
    ----------
    metadata, features
        Columns of ``meta.data`` and of ``meta.features``, as the source has them.
    loadings, stdev
        By reduction: float64 ``(n_genes, n_dims)`` of all genes, and one value for each dimension.
    graphs
        By name, without names of cells.
    held
        The content of ``misc$anndata``.
    variable
        Positions of the variable genes; None where the source does not say.
    spots
        What the source says of the sizes of spots, by image.
    """

    metadata: dict[str, RValue] = field(default_factory=dict)
    features: dict[str, RValue] = field(default_factory=dict)
    loadings: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    stdev: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    graphs: dict[str, RS4] = field(default_factory=dict)
    held: dict[str, RValue] = field(default_factory=dict)
    variable: NDArray[np.int64] | None = None
    spots: dict[str, Spot] = field(default_factory=dict)


def extras_from_anndata(
    root: TreeGroup,
    experiment: StoredExperiment,
    replaced: Mapping[str, object],
    embedding: tuple[str, object] | None,
    words: Words = SEURAT_WORDS,
) -> "_Collector":
    """Collect everything.

    Parameters
    ----------
    replaced
        Names columns of ``obs`` that the cell sets replace.
    embedding
        Names a reduction that is replaced.
    words
        The target's names of its parts.

    Returns
    -------
    What was collected, and the ledger of the file with every element settled.
    """
    found = _Collector(root, experiment, replaced, embedding[0] if embedding else "", words)
    found.matrices()
    found.obs()
    found.var()
    found.reductions()
    found.graphs()
    found.images()
    found.rest()
    return found


_FLOAT32 = np.dtype(np.float32)


class _Collector:
    def __init__(
        self,
        root: TreeGroup,
        experiment: StoredExperiment,
        replaced: Mapping[str, object],
        embedding: str,
        words: Words,
    ) -> None:
        self._words = words
        self._embedding = embedding
        self.ledger = Ledger(elements_of(root), attributes_of(root))
        self.extras = SeuratExtras()
        self._root, self._experiment, self._replaced = root, experiment, replaced
        self._to_r = ToR(self.ledger)
        self._used: dict[str, str] = experiment.extra.get("used", {})
        self._frame = "raw/var" if self._used.get("frame") == "raw" else "var"

    def _hold(self, path: Path, node: Node | None = None, *, turned: bool = False) -> None:
        """Put an element, or what is open of a group, into misc."""
        if not self.ledger.is_open(path):
            return
        node = node if node is not None else self._root.get("/".join(path))
        value = self._to_r.value(node, path, turned=turned) if node is not None else None
        if value is None:
            return
        place = self.extras.held
        for name in path[:-1]:
            inner = place.get(name)
            if not isinstance(inner, _Nested):
                inner = place[name] = _Nested([])
            place = inner.held
        place[path[-1]] = value
        if self.ledger.is_open(path):
            self.ledger.rename(path, f"{self._words.held}${'$'.join(path)}", "genes x cells" if turned else "")

    def matrices(self) -> None:
        words = self._words
        for what, name in (("data", words.data), ("counts", words.counts), ("scaled", words.scaled)):
            at = self._used.get(what, "")
            node = self._root.get(at) if at else None
            path = tuple(at.split("/"))
            if node is None or not self.ledger.is_open(path) or (what == "scaled" and not is_array(node)):
                continue
            counts = self._experiment.counts if what == "counts" else None
            held = _FLOAT32 if counts is None else counts.values.dtype
            self.ledger.rename(path, name, rounding(node, held))
        for name, node in members(self._root.get("layers")):
            self._hold(("layers", name), node, turned=True)
        self._hold(("X",), turned=True)

    def obs(self) -> None:
        table = table_of(self._root.get("obs"))
        assert table is not None
        index = str(table.group.attrs.get("_index", "_index"))
        self._settle_index(("obs", index), "names of the cells")
        self._note_names("cells", table.index)
        n_cells = self._experiment.n_cells
        for name in table.columns:
            path = ("obs", name)
            if not self.ledger.is_open(path):
                continue
            if name == IDENTITIES and self._experiment.identities is not None:
                self.ledger.rename(path, self._words.identities)
                continue
            value = self._to_r.column(table.group, name, ("obs",))
            if name in self._replaced or name == "cells_id" or value is None or not _is_column(value, n_cells):
                if name == "cells_id" and self._same_ids(value):
                    self.ledger.move(path, self._words.cells)
                else:
                    self._hold(path, table.group.get(name))
                continue
            self.extras.metadata[name] = value
            self.ledger.move(path, self._words.cells)

    def _same_ids(self, value: RValue | None) -> bool:
        return isinstance(value, RVector) and np.array_equal(value.values, self._experiment.cell_ids)

    def _settle_index(self, path: Path, what: str) -> None:
        if self.ledger.is_open(path):
            self.ledger.move(path, what)

    def _note_names(self, what: str, named: Sequence[str]) -> None:
        names = list(named)
        for line in renamed_names(what, names, unique_names(names, what, "names", Findings())):
            self.ledger.note(line)

    def var(self) -> None:
        table = table_of(self._root.get(self._frame))
        where = tuple(self._frame.split("/"))
        if table is not None and len(table.index) != len(self._experiment.genes):
            self._hold(where)  # genes were left out
        elif table is not None:
            index = str(table.group.attrs.get("_index", "_index"))
            self._settle_index((*where, index), "names of the genes")
            self._note_names("genes", table.index)
            for name in table.columns:
                path = (*where, name)
                value = self._to_r.column(table.group, name, where)
                if value is None or not _is_column(value, len(table.index)):
                    self._hold(path, table.group.get(name))
                    continue
                self.extras.features[name] = value
                self.ledger.move(path, self._words.features)
                if name == "highly_variable" and isinstance(value, RVector) and value.kind == "logical":
                    self.extras.variable = np.flatnonzero(value.values == 1)
        if self._frame == "raw/var":
            self._hold(("var",))
        for name, node in members(self._root.get("raw")):
            self._hold(("raw", name), node, turned=name == "X")

    def reductions(self) -> None:
        own = self._root.get(SCALED_GENES) is not None
        for name, node in members(self._root.get("obsm")):
            path, short = ("obsm", name), name.removeprefix("X_") or name
            if name == SCALED and own:
                self.ledger.rename(path, self._words.scaled)
            elif short in self._experiment.reductions and is_array(node) and short != self._embedding:
                if short == name:
                    self.ledger.move(path, self._words.reductions)
                else:
                    self.ledger.rename(path, f"{self._words.reductions}${short}")
            else:
                self._hold(path, node)
        self._loadings()

    def _loadings(self) -> None:
        pca = self._experiment.reductions.get("pca")
        node = self._root.get("varm/PCs")
        if pca is None or not is_array(node) or node.dtype is None or node.dtype.kind not in "iuf":
            return
        if node.shape != (len(self._experiment.genes), pca.values.shape[1]) or self._frame != "var":
            return
        self.extras.loadings["pca"] = node.read().astype(np.float64)
        self.ledger.rename(("varm", "PCs"), f"the loadings of {self._words.reductions}$pca")
        variance = self._root.get("uns/pca/variance")
        if is_array(variance) and variance.shape == (pca.values.shape[1],) and variance.dtype is not None:
            values = variance.read()
            if values.dtype.kind == "f" and np.all(values >= 0):
                self.extras.stdev["pca"] = np.sqrt(values.astype(np.float64))

    def graphs(self) -> None:
        n_cells = self._experiment.n_cells
        for name, node in members(self._root.get("obsp")):
            path, found = ("obsp", name), matrix_of(node)
            if found is None or found.form == "dense" or found.shape != (n_cells, n_cells) or not is_group(node):
                self._hold(path, node)
                continue
            value = self._to_r.sparse(node, path, turned=False)
            if isinstance(value, RS4):
                self.extras.graphs[name] = _by_column(value, n_cells)
                self.ledger.move(path, self._words.graphs)
            elif value is not None:
                self._hold(path, node)

    def images(self) -> None:
        """Settle pixels that the object's image has exactly; of others, which are rounded to bytes, it has both."""
        for name, image in self._experiment.images.items():
            self.extras.spots[name] = spot_of(self._root, name)
            place, node = pixels_at(self._root, name)
            is_same = is_array(node) and node.dtype == np.uint8 and image.pixels is not None
            if is_same and is_array(node) and node.shape == image.pixels.shape and self.ledger.is_open(place):  # type: ignore[union-attr]
                self.ledger.rename(place, self._words.images.format(name))

    def rest(self) -> None:
        for name, node in members(self._root.get("uns")):
            if ("uns", name) == _OWN:
                self._own()
            else:
                self._hold(("uns", name), node)
        for name, node in members(self._root):
            inner = dict(members(node)) if is_group(node) and encoding_of(node) in {"dict", ""} else {}
            for member, element in inner.items():
                self._hold((name, member), element)
            self._hold((name,), node)

    def _own(self) -> None:
        """Settle what cellworker itself wrote: it is in the object's own places."""
        if self.ledger.is_open(_OWN):
            self.ledger.rename(_OWN, self._words.own)

    def add_colors(self, colors: Mapping[str, list[str]]) -> None:
        """Keep colours of the cell sets where scanpy has them in ``uns``."""
        if colors:
            uns = self.extras.held.setdefault("uns", _Nested([]))
            assert isinstance(uns, _Nested)
            uns.held |= {f"{name}_colors": build.strings(found) for name, found in colors.items()}

    def misc(self) -> RList | None:
        """Return what goes to ``misc$anndata``; None when nothing does."""
        return _finished(self.extras.held) if self.extras.held else None


class _Nested(RList):
    """A list in the making."""

    __slots__ = ("held",)

    def __init__(self, items: list[RValue]) -> None:
        super().__init__(items)
        self.held: dict[str, RValue] = {}


def _finished(held: Mapping[str, RValue]) -> RList:
    return build.named_list(
        {name: _finished(value.held) if isinstance(value, _Nested) else value for name, value in held.items()}
    )


def _is_column(value: RValue, length: int) -> bool:
    if isinstance(value, RVector | RStrings):
        return "dim" not in value.attributes and len(value) == length
    return False


def _by_column(graph: RS4, n_cells: int) -> RS4:
    """Return a graph in compressed columns, which is how Seurat keeps them."""
    if graph.class_name == "dgCMatrix":
        return graph
    from scipy.sparse import csr_array  # noqa: PLC0415 - only graphs in compressed rows need it

    indptr, columns, values = (_array(graph.slots[name]) for name in ("p", "j", "x"))
    turned = csr_array((values, columns, indptr), shape=(n_cells, n_cells)).tocsc()
    return sparse_of(turned.indptr, turned.indices, turned.data, (n_cells, n_cells), by_row=False, turned=False)


def _array(value: RValue) -> NDArray[np.generic]:
    assert isinstance(value, RVector)
    return value.values
