"""An open experiment whose tasks are typed methods; results are tables indexed by barcode, in the matrix's order."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import ModuleError, module_scores
from cellworker.api.anndata.arguments import invalid, names_of, number, one_of, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.dataset_maps import MappedDataset, TrajectoryTables
from cellworker.api.records import recorded
from cellworker.api.selecting import Cells, find_class
from cellworker.api.tables import Form, Other, OtherTable, formed
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Dataset", "TrajectoryTables"]


class Dataset(MappedDataset):
    """An open experiment, as `cellworker.open` returns it.

    Cells are given by keys or names of sets, barcodes, a mask, or a pandas query over `columns`.
    """

    @overload
    def cluster(
        self, method: Literal["leiden", "louvain"] = "leiden", resolution: float = 0.5, *,
        name: str | None = None,
        as_: Literal["pandas"] = "pandas",
    ) -> "Series": ...  # fmt: skip
    @overload
    def cluster(
        self, method: Literal["leiden", "louvain"] = "leiden", resolution: float = 0.5, *,
        name: str | None = None,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    @recorded
    def cluster(
        self,
        method: Literal["leiden", "louvain"] = "leiden",
        resolution: float = 0.5,
        *,
        name: str | None = None,
        as_: Form = "pandas",
    ) -> Any:
        """Cluster the cells; the clusters are a class of cell sets at once, and can be compared.

        Parameters
        ----------
        method
            "leiden", or "louvain" as Seurat has it.
        resolution
            Larger means more clusters.
        name
            Of the class; by default the method's, with "_new" where the file has a class of that name.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.Series
            Categorical, indexed by barcode, named as the class.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> clusters = experiment.cluster("leiden", resolution=0.8, name="fine")
        >>> experiment.compare("fine-0", "fine-1")["comparison"][0]
        'fine-0 vs fine-1'
        """
        one_of("method", method, ["leiden", "louvain"])
        number("resolution", resolution)
        _check_name(name)
        result = self._computed("ClusterCells", {"type": method, "config": {"resolution": resolution}})
        key = name or method
        if name is None and key not in self._made and self.cell_sets.find_class(key) is not None:
            key = f"{method}_new"
        return formed(self._keep(key, result, lambda label: label.removeprefix("Cluster ")), as_)

    @overload
    def annotate(
        self, tissue: str, species: str = "human", *, by: str | None = None,
        method: Literal["sctype", "cassia"] = "sctype", name: str = "cell_type",
        as_: Literal["pandas"] = "pandas",
    ) -> "Series": ...  # fmt: skip
    @overload
    def annotate(
        self, tissue: str, species: str = "human", *, by: str | None = None,
        method: Literal["sctype", "cassia"] = "sctype", name: str = "cell_type",
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    @recorded
    def annotate(
        self,
        tissue: str,
        species: str = "human",
        *,
        by: str | None = None,
        method: Literal["sctype", "cassia"] = "sctype",
        name: str = "cell_type",
        as_: Form = "pandas",
    ) -> Any:
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
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.Series
            Categorical, indexed by barcode.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> experiment.annotate("Immune system")  # doctest: +SKIP
        """
        tasks = {"sctype": "ScTypeAnnotate", "cassia": "CASSIAAnnotate"}
        if method not in tasks:
            raise invalid("method", f"expected 'sctype' or 'cassia', found {method!r}")
        _check_name(name)
        item = find_class(self.cell_sets, "by", by)
        sets = CellSets([replace(item, key="louvain")])
        result = self._computed(tasks[method], {"species": species, "tissue": tissue}, sets)
        return formed(self._keep(name, result, lambda label: label), as_)

    @overload
    def expression(
        self, genes: str | Iterable[str], cells: Cells | None = None, *,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def expression(
        self, genes: str | Iterable[str], cells: Cells | None = None, *,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    def expression(
        self,
        genes: str | Iterable[str],
        cells: Cells | None = None,
        *,
        as_: Form = "pandas",
    ) -> Any:
        """Look up the log-normalised expression of genes.

        Parameters
        ----------
        genes
            Names or ids.
        cells
            By default all.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.DataFrame
            float32, cells (by barcode) x genes.

        Raises
        ------
        WorkerError
            ``R_WORKER_GENE_NOT_FOUND`` naming the genes that are not there, ``INVALID_INPUT`` naming `cells`.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> experiment.expression(["CD3D", "MS4A1"], cells="louvain-2").columns.tolist()
        ['CD3D', 'MS4A1']
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        names = names_of(genes)
        places = self._genes("genes", names, every=True)
        values = self.sound(lambda held: np.column_stack([held.data.dense(place) for place in places]))
        rows = slice(None) if cells is None else self._select("cells", cells)
        return formed(pd.DataFrame(values[rows], index=self._index[rows], columns=names), as_)

    @overload
    def gene_sets(
        self, sets: Mapping[str, Iterable[str]], *, n_controls: int = 100, seed: int = 1,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def gene_sets(
        self, sets: Mapping[str, Iterable[str]], *, n_controls: int = 100, seed: int = 1,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    def gene_sets(
        self,
        sets: Mapping[str, Iterable[str]],
        *,
        n_controls: int = 100,
        seed: int = 1,
        as_: Form = "pandas",
    ) -> Any:
        """Score every cell by sets of genes: the mean of a set less that of control genes (Seurat's AddModuleScore).

        Parameters
        ----------
        sets
            Genes by name of the set, as ``{"B": ["MS4A1", "CD79A"]}``; genes that are not there are left out.
        n_controls
            Controls drawn for each gene, at most as many as a bin of 24 holds.
        seed
            Of the draws.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.DataFrame
            float64, cells (by barcode) x sets.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> experiment.gene_sets({"T": ["CD3D", "CD3E"], "B": ["MS4A1", "CD79A"]}).shape
        (548, 2)
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        whole_number("n_controls", n_controls, 1)
        whole_number("seed", seed, 0)
        if not sets or not hasattr(sets, "items"):
            raise invalid("sets", "expected genes by name, as {'B': ['MS4A1', 'CD79A']}")
        modules = [self._genes(f"sets[{name!r}]", list(genes), every=False) for name, genes in sets.items()]

        def scored(held: Experiment) -> NDArray[np.float64]:
            data, n = held.data, held.n_cells
            means = np.array([data.gene(i)[1].sum(dtype=np.float64) / n for i in range(data.n_genes)])
            arrays = (data.indptr, data.cells, data.values)
            return module_scores(arrays, means, modules, min(n_controls, max(1, data.n_genes // 24)), n, seed=seed)

        try:
            scores = self.sound(scored)
        except ModuleError as error:
            raise invalid("n_controls", str(error)) from None
        return formed(pd.DataFrame(scores.T, index=self._index, columns=list(sets)), as_)


def _check_name(name: str | None) -> None:
    if name is not None and not name.strip():
        raise invalid("name", f"expected a name for the class, as 'fine', found {name!r}")
