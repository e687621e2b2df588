"""An open experiment whose tasks are typed methods; results are tables indexed by barcode, in the matrix's order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellworker.analysis.annotation.module_scores import ModuleError, module_scores
from cellworker.api.anndata.arguments import invalid
from cellworker.api.dataset_downloads import DownloadingDataset
from cellworker.api.selecting import Cells, chosen_sets, find_class
from cellworker.experiment.cell_sets import CellSets

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Dataset", "TrajectoryTables"]


@dataclass(frozen=True, slots=True)
class TrajectoryTables:
    """A trajectory's graph: `nodes` with the columns x and y, indexed by number; `links` with the columns from, to."""

    nodes: "DataFrame"
    links: "DataFrame"


class Dataset(DownloadingDataset):
    """What `cellworker.open` returns.

    Cells are said by keys or names of sets, barcodes, a mask, or a query of pandas over `columns`.
    """

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
        """Learn the graph along which cells develop, on a layout in the plane; its nodes are roots for `pseudotime`."""
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        body, sets = self._course(cells, embedding, method)
        found = self._asked("GetTrajectoryAnalysisStartingNodes", body, sets)
        nodes = pd.DataFrame({"x": found["x"], "y": found["y"]})
        pairs = [(a, b) for a, others in enumerate(found["connectedNodes"]) for b in others]
        return TrajectoryTables(nodes, pd.DataFrame(pairs, columns=["from", "to"], dtype=np.int64))

    def pseudotime(
        self, root_nodes: Sequence[int], cells: Cells | None = None, *, embedding: str = "umap",
        method: Literal["louvain", "leiden"] = "louvain",
    ) -> "Series":  # fmt: skip
        """Return how far each cell has come from the root nodes, indexed by barcode; NaN where none can be reached."""
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        body, sets = self._course(cells, embedding, method)
        roots = [int(node) for node in np.atleast_1d(np.asarray(root_nodes)).tolist()]
        found = self._asked("GetTrajectoryAnalysisPseudoTime", {**body, "rootNodes": roots}, sets)["pseudotime"]
        values = [found[cell] if cell < len(found) else None for cell in self.experiment.cell_ids.tolist()]
        self._pseudotime = pd.Series(values, index=self._index, name="pseudotime", dtype=np.float64)
        return self._pseudotime

    def _course(self, cells: Cells | None, embedding: str, method: str) -> tuple[dict[str, Any], CellSets]:
        rows = np.arange(self.experiment.n_cells) if cells is None else self._select("cells", cells)
        sets = chosen_sets(self.experiment, self.cell_sets, cells=rows)
        stored = {"method": embedding, "ETag": "", "methodSettings": {}}
        return {"embedding": stored, "cellSets": ["chosen cells"], "clustering": {"method": method}}, sets
