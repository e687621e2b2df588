"""Tests between cells and between samples, as tables with all statistics, the most significant first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from cellworker.analysis.statistics.groups import Groups
from cellworker.analysis.statistics.rank_tests import rank_tests
from cellworker.api.anndata.arguments import invalid, names_of, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.dataset_base import DatasetBase
from cellworker.api.selecting import Cells, chosen_sets, described, find_class
from cellworker.api.tables import Form, Other, OtherTable, formed
from cellworker.tasks.common.compared_cells import check_values

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TestedDataset"]

_COMPARED = {
    "gene_names": "gene", "Gene": "gene_id", "logFC": "log_fold_change", "AveExpr": "average",
    "pct_1": "pct_first", "pct_2": "pct_second",
}  # fmt: skip


class TestedDataset(DatasetBase):
    """The methods that compare cells."""

    @overload
    def markers(
        self, by: str | None = None, *, n: int | None = None, groups: Sequence[str] | None = None,
        only_positive: bool = True,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def markers(
        self, by: str | None = None, *, n: int | None = None, groups: Sequence[str] | None = None,
        only_positive: bool = True,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    def markers(
        self,
        by: str | None = None,
        *,
        n: int | None = None,
        groups: Sequence[str] | None = None,
        only_positive: bool = True,
        as_: Form = "pandas",
    ) -> Any:
        """Find the genes that tell each group from all other cells, by Wilcoxon's rank-sum test.

        Parameters
        ----------
        by
            A class of cell sets; by default the clusters in use.
        n
            Keep only this many genes of each group.
        groups
            Names of the sets to test; by default all of the class.
        only_positive
            Leave out genes that are lower in the group.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

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
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> table = experiment.markers("louvain", n=2)
        >>> table["group"].value_counts().unique().tolist()
        [2]
        """
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        if n is not None:
            whole_number("n", n, 1)
        item = find_class(self.cell_sets, "by", by)
        wanted = [child.name for child in item.children] if groups is None else names_of(groups)
        strange = [name for name in wanted if name not in {child.name for child in item.children}]
        if strange:
            known = ", ".join(repr(child.name) for child in item.children)
            raise invalid("groups", f"{item.key} has no set {strange[0]!r}; expected some of {known}")
        check_values(self.experiment)
        sets = [self._rows(child.cell_ids) for child in item.children]
        n_cells = self.experiment.n_cells
        rest = np.setdiff1d(np.arange(n_cells), np.concatenate(sets))
        found = Groups.from_sets([*sets, rest], n_cells)
        tests = self.sound(
            lambda held: rank_tests(
                (held.data.indptr, held.data.cells, held.data.values), found, threads=self._settings.threads,
                on_progress=lambda done: self._progress("Testing genes", done),
            )
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
        return formed(pd.concat(tables, ignore_index=True), as_)

    @overload
    def compare(
        self, first: Cells, second: Cells | None = None, *, within: Cells | None = None,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def compare(
        self, first: Cells, second: Cells | None = None, *, within: Cells | None = None,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    def compare(
        self,
        first: Cells,
        second: Cells | None = None,
        *,
        within: Cells | None = None,
        as_: Form = "pandas",
    ) -> Any:
        """Compare two groups of cells, gene by gene, by Wilcoxon's rank-sum test.

        Parameters
        ----------
        first, second
            The cells; `second` is by default all others. Cells on both sides are left out.
        within
            Only these cells count, on both sides.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

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
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> table = experiment.compare("louvain-0", "louvain-1", within="nCount_RNA > 500")
        >>> table["comparison"][0]
        'louvain-0 vs louvain-1 within nCount_RNA > 500'
        """
        return formed(self._compared(first, second, within, "within"), as_)

    @overload
    def compare_samples(
        self, first: Cells, second: Cells | None = None, *, within: Cells | None = None,
        as_: Literal["pandas"] = "pandas",
    ) -> "DataFrame": ...  # fmt: skip
    @overload
    def compare_samples(
        self, first: Cells, second: Cells | None = None, *, within: Cells | None = None,
        as_: Other,
    ) -> OtherTable: ...  # fmt: skip
    @checked
    def compare_samples(
        self,
        first: Cells,
        second: Cells | None = None,
        *,
        within: Cells | None = None,
        as_: Form = "pandas",
    ) -> Any:
        """Compare two groups of samples: counts are summed per sample and tested by limma-voom.

        Parameters
        ----------
        first, second, within
            As for `compare`.
        as_
            "pandas", or tables of "polars" or "arrow", in which barcodes are the first column.

        Returns
        -------
        pandas.DataFrame
            One row per gene, the most significant first: comparison, gene, gene_id, log_fold_change (log2), average,
            p_val, p_val_adj, log10_p, log10_p_adj.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument, ``DESIGN_NOT_TESTABLE`` with what the samples lack.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> table = experiment.compare_samples(["A1", "A2", "A3"], ["B1", "B2", "B3"])
        >>> table["comparison"][0]
        'A1, A2, A3 vs B1, B2, B3'
        """
        return formed(self._compared(first, second, within, "between"), as_)

    def _compared(self, first: Cells, second: Cells | None, within: Cells | None, kind: str) -> "DataFrame":
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        base = chosen = self._select("first", first)
        other = np.setdiff1d(np.arange(self.experiment.n_cells), base)
        if second is not None:
            other = against = self._select("second", second)
            base, other = np.setdiff1d(base, other), np.setdiff1d(other, base)
        if within is not None:
            allowed = self._select("within", within)
            base, other = np.intersect1d(base, allowed), np.intersect1d(other, allowed)
        for name, rows in (("first", base), ("second", other)):
            if not len(rows):
                raise invalid(name, "no cell is left that is not on both sides and lies within; choose other cells")
        sets = chosen_sets(self.experiment, self.cell_sets, first=base, second=other)
        body = {"cellSet": "chosen first", "compareWith": "chosen second", "comparisonType": kind}
        found = self._computed("DifferentialExpression", body, sets)["gene_results"]
        table = pd.DataFrame(dict(found)).rename(columns=_COMPARED)
        if "log10_p" in table:
            table = table.sort_values("log10_p", kind="stable", na_position="last", ignore_index=True)
        rest = "rest" if second is None else described(second, against)
        inside = "" if within is None else f" within {described(within, allowed)}"
        table.insert(0, "comparison", f"{described(first, chosen)} vs {rest}{inside}")
        named = [name for name in ("comparison", "gene", "gene_id") if name in table]
        return table[[*named, *(name for name in table if name not in named)]]
