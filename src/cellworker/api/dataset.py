"""An open experiment whose tasks are typed methods; results are tables indexed by barcode, in the matrix's order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import ModuleError, module_scores
from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.trajectories.pseudotime import pseudotime as measure
from cellworker.analysis.trajectories.trajectory import Trajectory, learn_trajectory
from cellworker.api.anndata.arguments import invalid, one_of, whole_number
from cellworker.api.dataset_tests import TestedDataset
from cellworker.api.selecting import Cells, find_class
from cellworker.experiment.cell_sets import CellSets

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Dataset", "TrajectoryTables"]

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


class Dataset(TestedDataset):
    """What `cellworker.open` returns.

    Cells are said by keys or names of sets, barcodes, a mask, or a query of pandas over `columns`.
    """

    _course: _Course | None = None

    def embedding(
        self, method: str = "umap", *, min_dist: float = 0.3, metric: Literal["cosine", "euclidean"] = "cosine",
        perplexity: float = 30, learning_rate: float | None = None, saved: bool = False,
    ) -> "DataFrame":  # fmt: skip
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
            Take the file's own, in place of computing one.

        Returns
        -------
        pandas.DataFrame
            float64 ``(n_cells, 2)``, indexed by barcode.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the field, ``REDUCTION_NOT_FOUND``.
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        config: dict[str, Any] = {}
        if method == "umap":
            config = {"minimumDistance": min_dist, "distanceMetric": metric}
        elif method == "tsne":
            config = {"perplexity": perplexity} | ({} if learning_rate is None else {"learningRate": learning_rate})
        places = self._asked("GetEmbedding", {"type": method, "useSaved": saved, "config": config})
        of_cells = [places[cell] or (np.nan, np.nan) for cell in self.experiment.cell_ids.tolist()]
        names = [f"{method.upper()}_{i}" for i in (1, 2)]
        frame = pd.DataFrame([place[:2] for place in of_cells], index=self._index, columns=names, dtype=np.float64)
        if not saved:
            self._layouts[f"X_{method}"] = frame
        return frame

    def cluster(
        self, method: Literal["leiden", "louvain"] = "leiden", resolution: float = 0.5, *, name: str | None = None
    ) -> "Series":
        """Cluster the cells; the clusters are a class of cell sets at once, and can be compared.

        Parameters
        ----------
        method
            "leiden", or "louvain" as Seurat has it.
        resolution
            Larger means more clusters.
        name
            Of the class; by default the method's, with "_new" where the file has a class of that name.

        Returns
        -------
        pandas.Series
            Categorical, indexed by barcode, named as the class.
        """
        result = self._asked("ClusterCells", {"type": method, "config": {"resolution": resolution}})
        key = name or method
        if name is None and key not in self._made and self.cell_sets.find_class(key) is not None:
            key = f"{method}_new"
        return self._keep(key, result, lambda label: label.removeprefix("Cluster "))

    def annotate(
        self, tissue: str, species: str = "human", *, by: str | None = None,
        method: Literal["sctype", "cassia"] = "sctype", name: str = "cell_type",
    ) -> "Series":  # fmt: skip
        """Give each cluster a cell type.

        Parameters
        ----------
        tissue, species
            What the cells are from.
        by
            The class of clusters; by default those in use.
        method
            "sctype" by marker genes (the setting ``SCTYPE_TABLE``), or "cassia" by a language model.
        name
            Of the new class.

        Returns
        -------
        pandas.Series
            Categorical, indexed by barcode.
        """
        tasks = {"sctype": "ScTypeAnnotate", "cassia": "CASSIAAnnotate"}
        if method not in tasks:
            raise invalid("method", f"expected 'sctype' or 'cassia', found {method!r}")
        item = find_class(self.cell_sets, "by", by)
        sets = CellSets([replace(item, key="louvain")])
        result = self._asked(tasks[method], {"species": species, "tissue": tissue}, sets)
        return self._keep(name, result, lambda label: label)

    def expression(self, genes: str | Iterable[str], cells: Cells | None = None) -> "DataFrame":
        """Return log-normalised expression, float32, cells (by barcode) x genes.

        Parameters
        ----------
        genes
            Names or ids.
        cells
            By default all.

        Raises
        ------
        WorkerError
            ``R_WORKER_GENE_NOT_FOUND`` naming the genes that are not there, ``INVALID_INPUT`` naming `cells`.
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        names = [genes] if isinstance(genes, str) else list(genes)
        places = self._genes("genes", names, every=True)
        values = np.column_stack([self.experiment.data.dense(place) for place in places])
        rows = slice(None) if cells is None else self._select("cells", cells)
        return pd.DataFrame(values[rows], index=self._index[rows], columns=names)

    def gene_sets(self, sets: Mapping[str, Iterable[str]], *, n_controls: int = 100, seed: int = 1) -> "DataFrame":
        """Score every cell by sets of genes: the mean of a set less that of control genes (Seurat's AddModuleScore).

        Parameters
        ----------
        sets
            Genes by name of the set, as ``{"B": ["MS4A1", "CD79A"]}``; genes that are not there are left out.
        n_controls
            Controls drawn for each gene, at most as many as a bin of 24 holds.
        seed
            Of the draws.

        Returns
        -------
        pandas.DataFrame
            float64, cells (by barcode) x sets.
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        if not sets or not hasattr(sets, "items"):
            raise invalid("sets", "expected genes by name, as {'B': ['MS4A1', 'CD79A']}")
        modules = [self._genes(f"sets[{name!r}]", list(genes), every=False) for name, genes in sets.items()]
        data, n = self.experiment.data, self.experiment.n_cells
        means = np.array([data.gene(i)[1].sum(dtype=np.float64) / n for i in range(data.n_genes)])
        arrays = (data.indptr, data.cells, data.values)
        try:
            scores = module_scores(arrays, means, modules, min(n_controls, max(1, data.n_genes // 24)), n, seed=seed)
        except ModuleError as error:
            raise invalid("n_controls", str(error)) from None
        return pd.DataFrame(scores.T, index=self._index, columns=list(sets))

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

    def pseudotime(
        self, root_nodes: int | Sequence[int], cells: Cells | None = None, *, embedding: str = "umap",
        method: Literal["louvain", "leiden"] = "louvain",
    ) -> "Series":  # fmt: skip
        """Measure how far each cell has come from the root nodes.

        Parameters
        ----------
        root_nodes
            Numbers of nodes of `trajectory`, of the same cells, layout and method.
        cells, embedding, method
            As for `trajectory`.

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
        >>> experiment.pseudotime([0]).min()
        0.0
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        learned = self._learned(cells, embedding, method)
        roots = [root_nodes] if isinstance(root_nodes, int | np.integer) else list(root_nodes)
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
        return self._pseudotime

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
            known = ", ".join(map(repr, self.experiment.reductions))
            raise invalid("embedding", f"there is no layout {name!r}; expected 'umap', 'tsne', {known}")
        return self.embedding(key)
