"""An open experiment whose tasks are typed methods; results are tables indexed by barcode, in the matrix's order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import ModuleError, module_scores
from cellworker.analysis.statistics.groups import Groups
from cellworker.analysis.statistics.rank_tests import rank_tests
from cellworker.api.experiment import OpenExperiment
from cellworker.api.io import read, write
from cellworker.api.progress import ProgressBar
from cellworker.api.selecting import (
    Cells,
    NamedSets,
    chosen_sets,
    described,
    find_class,
    invalid,
    labels_by_row,
    rows_of,
)
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Experiment
from cellworker.plain_text import one_line
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.common.compared_cells import check_values
from cellworker.tasks.task import Progress

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame, Series

__all__ = ["Dataset", "TrajectoryTables"]

_COMPARED = {
    "gene_names": "gene", "Gene": "gene_id", "logFC": "log_fold_change", "AveExpr": "average",
    "pct_1": "pct_first", "pct_2": "pct_second",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrajectoryTables:
    """A trajectory's graph: `nodes` with the columns x and y, indexed by number; `links` with the columns from, to."""

    nodes: "DataFrame"
    links: "DataFrame"


class Dataset(OpenExperiment):
    """What `cellworker.open` returns.

    Cells are said by keys or names of sets, barcodes, a mask, or a query of pandas over `columns`.
    """

    def __init__(
        self,
        experiment: Experiment,
        cell_sets: CellSets | None = None,
        source: Path | None = None,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
        adata: "AnnData | None" = None,
    ) -> None:
        super().__init__(experiment, cell_sets, source, settings=settings, progress=progress)
        given = self.cell_sets
        self.cell_sets: NamedSets = NamedSets(given.classes, given.extra, given.wire)
        """The classes of cell sets; called, ``experiment.cell_sets()``, a table of all sets."""
        self._adata = adata
        self._made: dict[str, CellClass] = {}
        self._layouts: dict[str, DataFrame] = {}
        self._pseudotime: Series | None = None

    @property
    def columns(self) -> "DataFrame":
        """The cells' metadata with each class of cell sets as a column, indexed by barcode."""
        frame = self.cells.set_index("barcode").drop(columns="cell_id")
        for item in self.cell_sets.classes:
            if item.key not in frame.columns and item.children:
                frame[item.key] = labels_by_row(self.experiment, item)
        return frame

    def markers(
        self, by: str | None = None, *, n: int | None = None, groups: Sequence[str] | None = None,
        only_positive: bool = True,
    ) -> "DataFrame":  # fmt: skip
        """Find the genes that tell each group from all other cells, by Wilcoxon's rank-sum test.

        Parameters
        ----------
        by
            A class of cell sets; by default the clusters in use.
        n
            Keep only so many genes of each group.
        groups
            Names of the sets to test; by default all of the class.
        only_positive
            Leave out genes that are lower in the group.

        Returns
        -------
        pandas.DataFrame
            One row per group and gene: group, gene, gene_id, log_fold_change (natural), auc, pct_in and pct_out (0 to
            100), p_val, p_val_adj, log10_p, log10_p_adj; by group, the most significant first.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> experiment.markers("leiden", n=2)[["group", "gene"]]  # doctest: +SKIP
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1):
            raise invalid("n", f"expected a whole number from 1, found {n!r}")
        item = find_class(self.cell_sets, "by", by)
        wanted = [child.name for child in item.children] if groups is None else list(groups)
        strange = [name for name in wanted if name not in {child.name for child in item.children}]
        if strange:
            known = ", ".join(repr(child.name) for child in item.children)
            raise invalid("groups", f"{item.key} has no set {strange[0]!r}; expected some of {known}")
        check_values(self.experiment)
        sets = [self._rows(child.cell_ids) for child in item.children]
        data = self.experiment.data
        n_cells = self.experiment.n_cells
        rest = np.setdiff1d(np.arange(n_cells), np.concatenate(sets))
        tests = rank_tests(
            (data.indptr, data.cells, data.values), Groups.from_sets([*sets, rest], n_cells),
            threads=self._settings.threads,
            on_progress=lambda done: self._progress("Testing genes", done),
        )  # fmt: skip
        self._finished()
        genes, tables = self.experiment.genes, []
        for i, child in enumerate(item.children):
            if child.name not in wanted:
                continue
            p_values = tests.p_values.take(i)
            adjusted = p_values.adjusted()
            fold = tests.log_fold_change[i]
            order = np.lexsort((-fold, p_values.key))
            order = order[~np.isnan(p_values.key[order])]
            order = order[fold[order] > 0][:n] if only_positive else order[:n]
            tables.append(
                pd.DataFrame(
                    {
                        "group": child.name,
                        "gene": [genes.names[k] for k in order.tolist()],
                        "gene_id": [genes.ids[k] for k in order.tolist()],
                        "log_fold_change": fold[order],
                        "auc": tests.auc[i][order],
                        "pct_in": tests.fraction_in[i][order],
                        "pct_out": tests.fraction_out[i][order],
                        "p_val": p_values.values[order],
                        "p_val_adj": adjusted.values[order],
                        "log10_p": p_values.log10[order],
                        "log10_p_adj": adjusted.log10[order],
                    }
                )
            )
        return pd.concat(tables, ignore_index=True)

    def compare(self, first: Cells, second: Cells | None = None, *, within: Cells | None = None) -> "DataFrame":
        """Compare two groups of cells, gene by gene, by Wilcoxon's rank-sum test.

        Parameters
        ----------
        first, second
            The cells; `second` is by default all others. Cells on both sides are left out.
        within
            Only these cells count, on both sides.

        Returns
        -------
        pandas.DataFrame
            One row per gene, the most significant first: comparison, gene, gene_id, log_fold_change (first less
            second), auc, pct_first, pct_second, p_val, p_val_adj, log10_p, log10_p_adj.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> experiment.compare("leiden-0", "leiden-1", within="sample == 'A'")  # doctest: +SKIP
        """
        return self._compared(first, second, within, "within")

    def compare_samples(self, first: Cells, second: Cells | None = None, *, within: Cells | None = None) -> "DataFrame":
        """Compare two groups of samples: counts are summed per sample and tested by limma-voom.

        Parameters
        ----------
        first, second, within
            As for `compare`.

        Returns
        -------
        pandas.DataFrame
            One row per gene, the most significant first: comparison, gene, gene_id, log_fold_change (log2), average,
            p_val, p_val_adj, log10_p, log10_p_adj.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument, ``DESIGN_NOT_TESTABLE`` with what the samples lack.
        """
        return self._compared(first, second, within, "between")

    def _compared(self, first: Cells, second: Cells | None, within: Cells | None, kind: str) -> "DataFrame":
        base = self._select("first", first)
        other = np.setdiff1d(np.arange(self.experiment.n_cells), base)
        if second is not None:
            other = self._select("second", second)
            base, other = np.setdiff1d(base, other), np.setdiff1d(other, base)
        if within is not None:
            allowed = self._select("within", within)
            base, other = np.intersect1d(base, allowed), np.intersect1d(other, allowed)
        for name, rows in (("first", base), ("second", other)):
            if not len(rows):
                raise invalid(name, "no cell is left that is not on both sides and lies within; choose other cells")
        sets = chosen_sets(self.experiment, self.cell_sets, first=base, second=other)
        body = {"cellSet": "chosen first", "compareWith": "chosen second", "comparisonType": kind}
        table = self._table("DifferentialExpression", body, sets).rename(columns=_COMPARED)
        if "log10_p" in table:
            table = table.sort_values("log10_p", kind="stable", na_position="last", ignore_index=True)
        against = "rest" if second is None else described(second)
        inside = "" if within is None else f" within {described(within)}"
        table.insert(0, "comparison", f"{described(first)} vs {against}{inside}")
        named = [name for name in ("comparison", "gene", "gene_id") if name in table]
        return table[[*named, *(name for name in table if name not in named)]]

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

        if not isinstance(sets, Mapping) or not sets:
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
        """Learn the graph along which cells develop, on a layout in the plane; `pseudotime` takes its nodes as roots."""
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

    def to_anndata(self, into: "AnnData | None" = None) -> "AnnData":
        """Return the experiment as AnnData with what was made here: clusters, cell types, layouts, pseudotime.

        Parameters
        ----------
        into
            Write to this AnnData, which has the same cells, in place of a new one.
        """
        adata = into
        if adata is None:
            if self._adata is None and self.source is None:
                raise invalid("into", "this experiment has no source to be read again; give an AnnData")
            adata = self._adata.copy() if self._adata is not None else read(str(self.source), settings=self._settings)
        if not adata.obs_names.isin(self._index).all():
            raise invalid("into", "its obs_names are not the barcodes of this experiment")
        for item in self._made.values():
            adata.obs[item.key] = self._series(item).reindex(adata.obs_names)
        for name, frame in self._layouts.items():
            adata.obsm[name] = frame.reindex(adata.obs_names).to_numpy(np.float32)
        if self._pseudotime is not None:
            adata.obs["pseudotime"] = self._pseudotime.reindex(adata.obs_names)
        return adata

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write `to_anndata` as ``.h5ad``, ``.zarr`` or ``.rds``; see `cellworker.write`."""
        return write(self.to_anndata(), path, force=force, settings=self._settings)

    def _repr_html_(self) -> str:
        from html import escape  # noqa: PLC0415

        name = one_line(self.source.name) if self.source else "in memory"
        classes = [f"{escape(item.key)} ({len(item.children)})" for item in self.cell_sets.classes if item.children]
        reductions = ", ".join(map(escape, self.experiment.reductions))
        return (
            f"<b>Experiment {escape(name)}</b>: {self.experiment.n_cells:,} cells &times; "
            f"{len(self.experiment.genes):,} genes<br>cell sets: {', '.join(classes) or 'none'}<br>"
            f"reductions: {reductions or 'none'}"
        )

    @property
    def _index(self) -> Any:  # noqa: ANN401
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        return pd.Index(self.experiment.barcodes, name="barcode")

    def _rows(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        rows = self.experiment.positions(ids)
        return np.unique(rows[rows >= 0]).astype(np.int64)

    def _select(self, argument: str, cells: Cells) -> NDArray[np.int64]:
        return rows_of(self.experiment, self.cell_sets, self.columns, argument, cells)

    def _genes(self, argument: str, names: list[str], *, every: bool) -> list[int]:
        genes = self.experiment.genes
        places = [genes.by_name.get(name, genes.by_id.get(name)) for name in names]
        missing = [name for name, place in zip(names, places, strict=True) if place is None]
        found = [place for place in places if place is not None]
        if not found or (every and missing):
            shown = ", ".join(repr(name) for name in genes.names[:3])
            message = f"{argument}: there is no gene {(missing or ['(none given)'])[0]!r}; genes are named like {shown}."
            raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, message)
        return list(dict.fromkeys(found)) if not every else found

    def _asked(self, task: str, body: Mapping[str, Any], cell_sets: CellSets | None = None) -> Any:  # noqa: ANN401
        try:
            answer = self._answer(catalog.find(task), None, body, cell_sets=cell_sets)
        finally:
            self._finished()
        assert isinstance(answer, bytes)
        return orjson.loads(answer)

    def _table(self, task: str, body: Mapping[str, Any], cell_sets: CellSets) -> "DataFrame":
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        found = catalog.find(task)
        try:
            answer = self._answer(found, None, body, own_tables=True, cell_sets=cell_sets)
        finally:
            self._finished()
        assert isinstance(answer, bytes)
        assert found.to_tables is not None
        return pd.DataFrame(dict(next(iter(found.to_tables(orjson.loads(answer)).values()))))

    def _finished(self) -> None:
        if isinstance(self._progress, ProgressBar):
            self._progress.done()

    def _keep(self, key: str, result: Mapping[str, Any], short: Any) -> "Series":  # noqa: ANN401
        """Make a class of cell sets of a task's result, in place of an earlier one of that key."""
        children = [
            CellSet(
                f"{key}-{short(child['name'])}", short(child["name"]), child.get("color"),
                np.sort(np.array(child["cellIds"], np.int32)), "cellSets",
            )
            for child in result["children"]
        ]  # fmt: skip
        item = CellClass(key, key, "cellSets", children)
        others = [known for known in self.cell_sets.classes if known.key != key]
        self.cell_sets = NamedSets([item, *others], self.cell_sets.extra, self.cell_sets.wire)
        self._made[key] = item
        return self._series(item)

    def _series(self, item: CellClass) -> "Series":
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        labels = pd.Categorical(labels_by_row(self.experiment, item), categories=[c.name for c in item.children])
        return pd.Series(labels, index=self._index, name=item.key)
