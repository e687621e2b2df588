"""Volcano plots of tests of all genes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import invalid, names_of, number, one_of, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.dataset import Dataset
from cellworker.api.pl.canvas import axes_of, place_labels
from cellworker.api.pl.drawn import drawn
from cellworker.api.selecting import Cells

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["volcano"]

_FOLDS = ("log_fold_change", "logFC", "logfoldchanges", "log2FoldChange")
_LOGS = ("log10_p_adj",)
_P_VALUES = ("p_val_adj", "adj.P.Val", "pvals_adj", "padj")
_GENES = ("gene", "names", "gene_names", "Gene")
_UP, _DOWN, _NEITHER = "#cc4455", "#3377bb", "#c8c8c8"


@checked
@drawn
def volcano(
    results: "DataFrame | AnnData | Dataset", group: Cells | None = None, reference: Cells | None = None, *,
    key: str = "rank_genes_groups", min_fold: float = 1.0, alpha: float = 0.05, label: int | Iterable[str] = 10,
    ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw each gene's fold change against how significant it is, and name the most significant genes.

    Parameters
    ----------
    results
        A table of `compare`, `compare_samples` or `markers` (or one with scanpy's or limma's column names); an AnnData
        with tests in ``uns``; or an open experiment, whose cells are compared.
    group
        The group to draw, where a table or ``uns`` has several; for an experiment the first cells of `compare`.
    reference
        For an experiment, the second cells of `compare`.
    key
        The key of an AnnData's ``uns``.
    min_fold, alpha
        Genes with a larger absolute log fold change and a smaller adjusted p-value are coloured.
    label
        Number of coloured genes to name, or the genes.
    ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: one point per gene with a p-value. P-values that are 0 in a table without their logarithms are
        at the top.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.volcano(experiment.compare("louvain-0", "louvain-1"), label=["CD3D"])
    >>> [text.get_text() for text in ax.texts]
    ['CD3D']
    """
    table, title = _table(results, group, reference, key)
    fold = table[_column(table, _FOLDS, "a log fold change")].to_numpy(np.float64)
    genes = table[_column(table, _GENES, "genes")].astype(str).to_numpy(object)
    high = _significance(table)
    number("min_fold", min_fold)
    if not 0 < number("alpha", alpha) <= 1:
        raise invalid("alpha", f"expected a number above 0, at most 1; found {alpha!r}")
    there = np.isfinite(fold) & np.isfinite(high)
    fold, genes, high = fold[there], genes[there], high[there]
    passes = (high > -np.log10(alpha)) & (np.abs(fold) > min_fold)
    colors = np.where(passes & (fold > 0), _UP, np.where(passes, _DOWN, _NEITHER))
    named = _named(genes, label, high, fold, passes)
    ax = axes_of(ax)
    order = np.argsort(passes, kind="stable")
    ax.scatter(fold[order], high[order], s=6, c=colors[order].tolist(), linewidths=0)
    ax.axhline(-np.log10(alpha), color="0.7", linewidth=0.6, linestyle="--", zorder=0)
    for side in (-min_fold, min_fold) if min_fold else ():
        ax.axvline(side, color="0.7", linewidth=0.6, linestyle="--", zorder=0)
    ax.set(xlabel="log fold change", ylabel="$-\\log_{10}$ adjusted p", title=title)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.1, y=0.08)
    points = np.stack([fold[named], high[named]], axis=1)
    place_labels(ax, points, genes[named].tolist(), centred=False, every=not isinstance(label, int), fontsize="small")
    return ax


def _table(results: Any, group: Any, reference: Any, key: str) -> "tuple[DataFrame, str]":  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415 only pictures need it

    if isinstance(results, Dataset):
        if group is None:
            raise invalid("group", "say which cells are compared, as volcano(experiment, 'leiden-0', 'leiden-1')")
        table = results.compare(group, reference)
        return table, str(table["comparison"].iloc[0]) if len(table) else ""
    if reference is not None:
        raise invalid("reference", "the tests were made already; leave it, or give an open experiment")
    if isinstance(results, pd.DataFrame):
        if group is not None and "group" not in results:
            raise invalid("group", "this table has no column 'group'; leave it")
        if "group" not in results:
            title = str(results["comparison"].iloc[0]) if "comparison" in results and len(results) else ""
            return results, title
        groups = [str(name) for name in pd.unique(results["group"])]
        chosen = _one_group(group, groups)
        return results[results["group"].astype(str) == chosen], chosen
    if not hasattr(results, "uns"):
        raise invalid("results", f"expected a table, an AnnData or an experiment, found {type(results).__name__}")
    if key not in results.uns:
        raise invalid("key", f"there is no adata.uns[{key!r}]; run cellworker.tl.rank_genes_groups(adata, ...) before")
    tests = results.uns[key]
    if "names" not in tests:
        raise invalid("key", f"adata.uns[{key!r}] holds no tests of genes")
    chosen = _one_group(group, list(tests["names"].dtype.names))
    fields = ("names", "logfoldchanges", "pvals_adj")
    absent = [field for field in fields if field not in tests]
    if absent:
        raise invalid("key", f"adata.uns[{key!r}] has no {absent[0]}; test by another method than 'logreg'")
    return pd.DataFrame({field: np.asarray(tests[field][chosen]) for field in fields}), chosen


def _one_group(group: Any, groups: list[str]) -> str:  # noqa: ANN401
    if group is None and len(groups) == 1:
        return groups[0]
    if group is None:
        raise invalid("group", f"choose one of {', '.join(map(repr, groups[:8]))}")
    if str(group) not in groups:
        one_of("group", group, groups)
    return str(group)


def _column(table: "DataFrame", names: tuple[str, ...], what: str) -> str:
    found = next((name for name in names if name in table), None)
    if found is None:
        raise invalid("results", f"the table has no column of {what}; expected one of {', '.join(names)}")
    return found


def _significance(table: "DataFrame") -> NDArray[np.float64]:
    logs = next((name for name in _LOGS if name in table), None)
    if logs is not None:
        return np.asarray(-table[logs].to_numpy(np.float64))
    with np.errstate(divide="ignore"):
        high: NDArray[np.float64] = -np.log10(
            table[_column(table, _P_VALUES, "adjusted p-values")].to_numpy(np.float64)
        )
    finite = high[np.isfinite(high)]
    top = 1.05 * finite.max() if len(finite) and finite.max() > 0 else 1.0
    high[high == np.inf] = top
    return high


def _named(
    genes: NDArray[Any],
    label: int | Iterable[str],
    high: NDArray[np.float64],
    fold: NDArray[np.float64],
    passes: NDArray[np.bool_],
) -> NDArray[np.int64]:
    if isinstance(label, int):
        whole_number("label", label, 0)
        order = np.lexsort((-np.abs(fold), -high))
        return order[passes[order]][:label].astype(np.int64)
    wanted = names_of(label)
    places = {gene: i for i, gene in reversed(list(enumerate(genes.tolist())))}
    missing = [gene for gene in wanted if gene not in places]
    if missing:
        raise invalid("label", f"{missing[0]!r} is not among the genes with a p-value")
    return np.array([places[gene] for gene in wanted], np.int64)
