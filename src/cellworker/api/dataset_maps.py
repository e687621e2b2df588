"""Layouts of an open experiment, and the courses of development on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.trajectories.pseudotime import pseudotime as measure
from cellworker.analysis.trajectories.trajectory import Trajectory, learn_trajectory
from cellworker.api.anndata.arguments import invalid, number, numbers_of, one_of, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.dataset_downloads import DownloadingDataset
from cellworker.api.records import recorded
from cellworker.api.selecting import Cells
from cellworker.api.tables import Form, Other, OtherTable, formed
from cellworker.engine.contexts import make_context
from cellworker.tasks.common.layouts import lay_out_tsne, lay_out_umap
from cellworker.tasks.embedding import find_reduction

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["MappedDataset", "TrajectoryTables"]

_LARGEST = 1e15
"""Squares of larger coordinates do not fit single precision."""


@dataclass(frozen=True, slots=True)
class TrajectoryTables:
    """A trajectory's graph: `nodes` with the columns x and y, indexed by number; `links` with the columns from, to."""

    nodes: "DataFrame"
    links: "DataFrame"


@dataclass(frozen=True, slots=True)
class _Course:
    tables: TrajectoryTables
    layout: "tuple[str, DataFrame]"
    rows: NDArray[np.int64]
    method: str
    made: Trajectory

    def is_of(self, rows: NDArray[np.int64], method: str, points: NDArray[np.float64]) -> bool:
        same = self.method == method and np.array_equal(self.rows, rows)
        return same and np.array_equal(self.layout[1].to_numpy()[rows], points)


class MappedDataset(DownloadingDataset):
    """The methods that place cells."""

    _course: _Course | None = None

    @overload
    def embedding(
        self, method: str = "umap", *, min_dist: float = 0.3, metric: Literal["cosine", "euclidean"] = "cosine",
        perplexity: float = 30, learning_rate: float | None = None, saved: bool = False,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def embedding(
        self, method: str = "umap", *, min_dist: float = 0.3, metric: Literal["cosine", "euclidean"] = "cosine",
        perplexity: float = 30, learning_rate: float | None = None, saved: bool = False,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    @recorded
    def embedding(
        self,
        method: str = "umap",
        *,
        min_dist: float = 0.3,
        metric: Literal["cosine", "euclidean"] = "cosine",
        perplexity: float = 30,
        learning_rate: float | None = None,
        saved: bool = False,
        as_: Form = "pandas",
    ) -> Any:
        """Lay out the cells.

        Parameters
        ----------
        method
            "umap", "tsne" or "pca"; with `saved` the name of any reduction of the file.
        min_dist, metric
            Of UMAP.
        perplexity, learning_rate
            Of t-SNE; the learning rate is by default what suits the number of cells.
        saved
            Take the file's own, instead of computing one.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.DataFrame
            float64 ``(n_cells, 2)``, indexed by barcode.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the field, ``REDUCTION_NOT_FOUND``.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> experiment.embedding("umap", saved=True).shape
        (548, 2)
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        one_of("as_", as_, ["pandas", "polars", "arrow"])
        number("min_dist", min_dist)
        one_of("metric", metric, ["cosine", "euclidean"])
        if not number("perplexity", perplexity):
            raise invalid("perplexity", "expected a number above 0, found 0")
        config: dict[str, Any] = {}
        if learning_rate is not None:
            number("learning_rate", learning_rate)
        if method == "umap":
            config = {"minimumDistance": min_dist, "distanceMetric": metric}
        elif method == "tsne":
            config = {"perplexity": perplexity} | ({} if learning_rate is None else {"learningRate": learning_rate})
        names = [f"{method.upper()}_{i}" for i in (1, 2)]
        frame = pd.DataFrame(self._places(method, config, saved=saved), index=self._index, columns=names)
        if not saved:
            self._layouts[f"X_{method}"] = frame
        return formed(frame, as_)

    def _places(self, method: str, config: dict[str, Any], *, saved: bool) -> NDArray[np.float64]:
        if saved or method == "pca":
            return self.sound(lambda held: find_reduction(held, method).values[:, :2].astype(np.float64))
        one_of("method", method, ["umap", "tsne", "pca"])
        context = make_context(self._settings, self._progress, self._scratch)
        with self._of_a_method():
            lay_out = lay_out_umap if method == "umap" else lay_out_tsne
            places = self.sound(lambda held: lay_out(held, config, context))
        return places.astype(np.float64)

    @checked
    @recorded
    def trajectory(
        self, cells: Cells | None = None, *, embedding: str = "umap", method: Literal["louvain", "leiden"] = "louvain"
    ) -> TrajectoryTables:
        """Learn the graph along which cells develop, on a layout in the plane; its nodes are roots for `pseudotime`.

        Parameters
        ----------
        cells
            By default all that the layout places.
        embedding
            The layout: the one that was made here last, else the file's own, else it is made.
        method
            How cells are clustered on the way.

        Returns
        -------
        TrajectoryTables
            The graph's nodes and links.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> list(experiment.trajectory().nodes.columns)
        ['x', 'y']
        """
        return self._learned(cells, embedding, method).tables

    @overload
    def pseudotime(
        self, root_nodes: int | Sequence[int], cells: Cells | None = None, *, embedding: str = "umap",
        method: Literal["louvain", "leiden"] = "louvain",
        as_: Literal["pandas"] = "pandas",
    ) -> "Series": ...  # fmt: skip
    @overload
    def pseudotime(
        self, root_nodes: int | Sequence[int], cells: Cells | None = None, *, embedding: str = "umap",
        method: Literal["louvain", "leiden"] = "louvain",
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    @recorded
    def pseudotime(
        self,
        root_nodes: int | Sequence[int],
        cells: Cells | None = None,
        *,
        embedding: str = "umap",
        method: Literal["louvain", "leiden"] = "louvain",
        as_: Form = "pandas",
    ) -> Any:
        """Measure each cell's pseudotime: its distance along the trajectory from the root nodes.

        Parameters
        ----------
        root_nodes
            Numbers of nodes of `trajectory`, of the same cells, layout and method.
        cells, embedding, method
            As for `trajectory`.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.Series
            float64, indexed by barcode; NaN for cells that were not chosen, have no place, or cannot be reached.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> float(experiment.pseudotime([0]).min())
        0.0
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        learned = self._learned(cells, embedding, method)
        roots = numbers_of(root_nodes)
        last = len(learned.made.nodes) - 1
        if not roots:
            raise invalid("root_nodes", f"expected nodes from 0 to {last}, found none; .trajectory() lists them")
        for node in roots:
            whole_number("root_nodes", node, 0, last)
        anchors = np.unique(learned.made.anchors[np.array(roots, np.int64)])
        found = measure(learned.made.nodes, learned.made.links, learned.made.places, anchors)
        values = np.full(self.experiment.n_cells, np.nan)
        values[learned.rows] = np.where(np.isfinite(found), found, np.nan)
        self._finished()
        self._pseudotime = pd.Series(values, index=self._index, name="pseudotime")
        return formed(self._pseudotime, as_)

    @property
    def course(self) -> "tuple[TrajectoryTables, tuple[str, DataFrame]] | None":
        """The trajectory that was learned last, with the name and the places of its layout; None before."""
        return None if self._course is None else (self._course.tables, self._course.layout)

    def _learned(self, cells: Cells | None, embedding: str, method: str) -> _Course:
        """Learn a trajectory, unless it is the last one of the same cells, layout and method."""
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        one_of("method", method, ["louvain", "leiden"])
        chosen = np.arange(self.experiment.n_cells) if cells is None else self._select("cells", cells)
        layout = self._layout_for(embedding)
        places = layout.to_numpy(np.float64)
        rows = chosen[np.isfinite(places[chosen]).all(axis=1)]
        if not len(rows):
            raise invalid("cells", f"none of the cells has a place in {embedding!r}; choose others")
        points = np.ascontiguousarray(places[rows])
        if np.abs(points).max() > _LARGEST:
            raise invalid("embedding", f"coordinates of {embedding!r} must not be larger than {_LARGEST:g}")
        last = self._course
        if last is not None and last.is_of(rows, method, points):
            return last
        search = partial(fast_neighbours, threads=self._settings.threads)
        made = learn_trajectory(points, method, "euclidean", search, progress=self._progress)  # type: ignore[arg-type]
        self._finished()
        tables = TrajectoryTables(
            pd.DataFrame(made.nodes, columns=["x", "y"]), pd.DataFrame(made.links, columns=["from", "to"])
        )
        self._course = _Course(tables, (embedding, layout), rows, method, made)
        return self._course

    def _layout_for(self, name: str) -> "DataFrame":
        key = name.removeprefix("X_")
        if f"X_{key}" in self._layouts:
            return self._layouts[f"X_{key}"]
        stored = {known.casefold() for known in self.experiment.reductions}
        if key.casefold() in stored:
            return self.embedding(key, saved=True)
        if key not in ("umap", "tsne"):
            known = ", ".join(map(repr, dict.fromkeys(["umap", "tsne", *self.experiment.reductions])))
            raise invalid("embedding", f"there is no layout {name!r}; expected one of {known}")
        return self.embedding(key)
