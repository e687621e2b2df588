"""Data for pictures, from an AnnData or an open experiment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import categories_of, check_adata, gene_positions, invalid, one_of
from cellworker.api.dataset import Dataset
from cellworker.api.selecting import find_class, labels_by_row
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.palette import palette

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Course", "Labels", "Layout", "Shown", "Source", "Tissue", "shown", "values_of"]

Source = Union["AnnData", Dataset]
"""The sources of pictures."""

_CLUSTERS = ("leiden", "louvain")


@dataclass(frozen=True, slots=True)
class Labels:
    """Each cell's group: `codes`, int64 ``(n_cells,)``, -1 where it has none; names and colours of the groups."""

    codes: NDArray[np.int64]
    names: list[str]
    colors: list[str]
    title: str

    def only(self, argument: str, groups: Sequence[str] | None) -> "Labels":
        """Return some of the groups, in the order given; groups without cells are left out where all are asked for.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument and the groups.
        """
        if groups is None:
            places = [i for i in range(len(self.names)) if (self.codes == i).any()]
        else:
            for name in groups:
                if name not in self.names:
                    one_of(argument, name, self.names)
            places = [self.names.index(name) for name in groups]
        renumbered = np.full(len(self.names) + 1, -1, np.int64)
        renumbered[places] = np.arange(len(places))
        return replace(
            self, codes=renumbered[self.codes], names=[self.names[i] for i in places],
            colors=[self.colors[i] for i in places],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of cells, float64 ``(n_cells, 2)``, NaN where a cell has none, and the names of the two axes."""

    points: NDArray[np.float64]
    names: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Course:
    """A trajectory: nodes float64 ``(n_nodes, 2)``, links int64 ``(n_links, 2)``, and the layout that they are on."""

    nodes: NDArray[np.float64]
    links: NDArray[np.int64]
    layout: Layout
    pseudotime: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Tissue:
    """Cells on a tissue: rows of cells and their points, in pixels of the picture where there is one.

    A cell whose outline is known has a point for each vertex.
    """

    cells: NDArray[np.int64]
    points: NDArray[np.float64]
    picture: NDArray[Any] | None = None
    diameter: float | None = None


class Shown(Protocol):
    """The interface of data for pictures."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        ...

    def layout(self, argument: str, name: str) -> Layout:
        """Return a layout."""
        ...

    def labels(self, argument: str, name: str | None) -> Labels:
        """Return the groups of a column or class; None is the clusters."""
        ...

    def has_column(self, name: str) -> bool:
        """Return whether the name is a column of the cells, not a gene."""
        ...

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """Return a column of numbers; None for one of labels."""
        ...

    def expression(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Return the expression of genes, float32 ``(n_cells, n_genes)``."""
        ...

    def course(self, key: str) -> Course:
        """Return the trajectory."""
        ...

    def tissue(self, argument: str, name: str | None) -> Tissue:
        """Return the places on a tissue."""
        ...


def values_of(data: Shown, argument: str, gene: str) -> NDArray[np.float64]:
    """Return the expression of a gene whose name is no column of the cells, float64 ``(n_cells,)``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument where it is no gene either.
    """
    try:
        return data.expression([gene])[:, 0].astype(np.float64)
    except WorkerError as error:
        if error.code not in (ErrorCode.R_WORKER_GENE_NOT_FOUND, ErrorCode.INVALID_INPUT):
            raise
        why = error.message.partition(": ")[2]
        raise invalid(argument, f"{gene!r} is no column of the cells and no class of cell sets, and {why}") from None


def shown(source: Source, *, layer: str | None = None, use_raw: bool | None = None) -> Shown:
    """Return what pictures ask of an AnnData or an open experiment.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when it is something else, or the matrix is not there.
    """
    if not isinstance(source, Dataset):
        return _OfAnnData(check_adata(source), layer, use_raw)
    if layer is not None or use_raw is not None:
        raise invalid(
            "layer" if layer is not None else "use_raw", "an open experiment has its matrix already; leave it"
        )
    return _OfDataset(source)


class _OfAnnData:
    def __init__(self, adata: "AnnData", layer: str | None, use_raw: bool | None) -> None:  # noqa: FBT001
        self._adata = adata
        self._layer = layer
        if layer is not None:
            one_of("layer", layer, adata.layers.keys())
        if use_raw and adata.raw is None:
            raise invalid("use_raw", "this AnnData has no raw; expected use_raw=False, or adata.raw = adata before")
        self._raw = adata.raw if layer is None and use_raw is not False else None

    @property
    def n_cells(self) -> int:
        return int(self._adata.n_obs)

    def layout(self, argument: str, name: str) -> Layout:
        places = self._adata.obsm
        key = name if name in places else f"X_{name}"
        if key not in places:
            if not len(places):
                raise invalid(argument, "there is no layout in adata.obsm; make one: cellworker.tl.umap(adata)")
            one_of(argument, name, [known.removeprefix("X_") for known in places])
        points = np.asarray(places[key])
        if points.ndim != 2 or points.shape[1] < 2:
            raise invalid(argument, f"adata.obsm[{key!r}] has no two columns")
        return _layout(points, key.removeprefix("X_"))

    def labels(self, argument: str, name: str | None) -> Labels:
        if name is None:
            name = next((key for key in _CLUSTERS if key in self._adata.obs), None)
            if name is None:
                raise invalid(argument, f"say the column of groups; there are {', '.join(self._adata.obs.columns)}")
        codes, names = categories_of(self._adata, argument, name)
        colors = self._colors(name, names)
        return Labels(codes, names, colors, name)

    def _colors(self, name: str, used: list[str]) -> list[str]:
        """Return the colours in ``uns``, which are those of all categories, also of ones without cells."""
        column = self._adata.obs[name]
        every = [str(label) for label in column.cat.categories] if hasattr(column, "cat") else used
        stored = self._adata.uns.get(f"{name}_colors")
        known = palette(len(every)) if stored is None or len(stored) < len(every) else [str(c) for c in stored]
        return [known[every.index(label)] for label in used]

    def has_column(self, name: str) -> bool:
        return name in self._adata.obs.columns

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        return _numbers(self._adata.obs[name])

    def expression(self, genes: Sequence[str]) -> NDArray[np.float32]:
        adata, raw = self._adata, self._raw
        names = adata.var_names if raw is None else raw.var_names
        for gene in genes:
            gene_positions(adata, "gene", [gene], names=names)
        matrix = adata.layers[self._layer] if self._layer is not None else adata.X if raw is None else raw.X
        if matrix is None:
            raise invalid("adata.X", "is empty; give layer=...")
        out = np.empty((adata.n_obs, len(genes)), np.float32)
        for i, place in enumerate(names.get_indexer(genes).tolist()):
            values = matrix[:, [place]]
            out[:, i] = np.asarray(values.toarray() if hasattr(values, "toarray") else values).ravel()
        return out

    def course(self, key: str) -> Course:
        made = self._adata.uns.get(key)
        if made is None:
            raise invalid("key", f"there is no adata.uns[{key!r}]; run cellworker.tl.trajectory(adata) before")
        column = "pseudotime"
        time = np.asarray(self._adata.obs[column], np.float64) if column in self._adata.obs else None
        links = np.asarray(made["links"], np.int64).reshape(-1, 2)
        return Course(np.asarray(made["nodes"]), links, self.layout("key", str(made["params"]["basis"])), time)

    def tissue(self, argument: str, name: str | None) -> Tissue:
        if "spatial" not in self._adata.obsm:
            raise invalid("source", "there are no places on a tissue; expected adata.obsm['spatial']")
        points = np.asarray(self._adata.obsm["spatial"], np.float64)[:, :2]
        libraries = self._adata.uns.get("spatial") or {}
        cells = np.arange(self.n_cells)
        if name is None and len(libraries) > 1:
            raise invalid(argument, f"there are several tissues; choose one of {', '.join(map(repr, libraries))}")
        if name is not None:
            one_of(argument, name, libraries)
        if not libraries:
            return Tissue(cells, points)
        chosen = name if name is not None else next(iter(libraries))
        found: Mapping[str, Any] = libraries[chosen]
        if "library_id" in self._adata.obs:
            cells = np.flatnonzero(np.asarray(self._adata.obs["library_id"].astype(str)) == chosen)
        factors, images = found.get("scalefactors", {}), found.get("images", {})
        size = next((key for key in ("hires", "lowres") if key in images), None)
        scale = float(factors.get(f"tissue_{size}_scalef", 1.0)) if size else 1.0
        diameter = factors.get("spot_diameter_fullres")
        return Tissue(
            cells, points[cells] * scale, None if size is None else np.asarray(images[size]),
            None if diameter is None else float(diameter) * scale,
        )  # fmt: skip


class _OfDataset:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def n_cells(self) -> int:
        return self._dataset.experiment.n_cells

    def layout(self, argument: str, name: str) -> Layout:
        made = self._dataset.layouts.get(f"X_{name.removeprefix('X_')}")
        if made is not None:
            return _layout(made.to_numpy(), name)
        stored = self._dataset.experiment.reductions
        found = next((key for key in stored if key.lower() == name.lower().removeprefix("x_")), None)
        if found is None:
            known = ", ".join(map(repr, stored)) or "(none)"
            raise invalid(
                argument, f"there is no layout {name!r}; expected one of {known}, or make it: .embedding('umap')"
            )
        return _layout(stored[found].values, found)

    def labels(self, argument: str, name: str | None) -> Labels:
        dataset = self._dataset
        if name is None or name not in dataset.columns or dataset.cell_sets.find_class(name) is not None:
            item = find_class(dataset.cell_sets, argument, name)
            names = [child.name for child in item.children]
            spare = palette(len(names))
            colors = [child.color or spare[i] for i, child in enumerate(item.children)]
            return Labels(_codes(labels_by_row(dataset.experiment, item), names), names, colors, item.name)
        column = dataset.columns[name]
        if _numbers(column) is not None:
            raise invalid(argument, f"{name!r} holds numbers, not labels")
        values = column.astype("category").cat.remove_unused_categories()
        names = [str(label) for label in values.cat.categories]
        return Labels(np.asarray(values.cat.codes, np.int64), names, palette(len(names)), name)

    def has_column(self, name: str) -> bool:
        sets = self._dataset.cell_sets
        named = sets.find_class(name) or next((item for item in sets.classes if item.name == name), None)
        return named is not None or name in self._dataset.columns

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        frame = self._dataset.columns
        known = self._dataset.cell_sets.find_class(name) is not None or name not in frame
        return None if known else _numbers(frame[name])

    def expression(self, genes: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._dataset.expression(genes), np.float32)

    def course(self, key: str) -> Course:  # noqa: ARG002 an experiment has one
        made = self._dataset.course
        if made is None:
            raise invalid("source", "there is no trajectory yet; run .trajectory() before")
        tables, basis = made  # the layout's name and places
        time = self._dataset.times
        return Course(
            tables.nodes.to_numpy(np.float64), tables.links.to_numpy(np.int64), _layout(basis[1].to_numpy(), basis[0]),
            None if time is None else time.to_numpy(np.float64),
        )  # fmt: skip

    def tissue(self, argument: str, name: str | None) -> Tissue:
        images = self._dataset.experiment.images
        if not images and self._dataset.given is not None and "spatial" in self._dataset.given.obsm:
            return _OfAnnData(self._dataset.given, None, None).tissue(argument, name)
        if not images and "spatial" in self._dataset.experiment.reductions:
            return Tissue(np.arange(self.n_cells), self._dataset.experiment.reductions["spatial"].values[:, :2])
        if not images:
            raise invalid("source", "this experiment has no places on a tissue")
        if name is None and len(images) > 1:
            raise invalid(argument, f"there are several tissues; choose one of {', '.join(map(repr, images))}")
        if name is not None:
            one_of(argument, name, images)
        found = images[next(iter(images)) if name is None else name]
        return Tissue(found.cells.astype(np.int64), found.points * found.scale)


def _layout(points: NDArray[Any], name: str) -> Layout:
    title = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PC"}.get(name.lower(), name)
    between = "" if title == "PC" else " "
    return Layout(np.asarray(points[:, :2], np.float64), (f"{title}{between}1", f"{title}{between}2"))


def _codes(labels: Iterable[Any], names: list[str]) -> NDArray[np.int64]:
    places: dict[str, int] = {}
    for i, name in enumerate(names):
        places.setdefault(name, i)
    return np.array([-1 if label is None else places[label] for label in labels], np.int64)


def _numbers(column: Any) -> NDArray[np.float64] | None:  # noqa: ANN401 pandas
    if getattr(column.dtype, "kind", "O") not in "iuf":
        return None
    return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
