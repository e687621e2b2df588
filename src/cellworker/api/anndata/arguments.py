"""Checks of arguments about an AnnData: every error names the argument and shows a valid value."""

import difflib
import os
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Unset",
    "categories_of",
    "check_adata",
    "check_kind",
    "column",
    "default_threads",
    "gene_mask",
    "gene_positions",
    "hint_of",
    "invalid",
    "names_of",
    "number",
    "numbers_of",
    "one_of",
    "only",
    "seed_of",
    "target",
    "whole_number",
    "write_labels",
]  # fmt: skip

_SHOWN = 8
_MAX_SEED = 2**64 - 1


class Unset(Enum):
    """The default of an argument for which None has a meaning of its own."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


def invalid(argument: str, message: str) -> WorkerError:
    """Return the error for an argument."""
    end = "" if message.endswith(("?", "!", ".")) else "."
    return WorkerError(ErrorCode.INVALID_INPUT, f"{argument}: {message}{end}")


def names_of(said: str | Iterable[str]) -> list[str]:
    """Return the names of an argument: one alone, or those of a list."""
    return [said] if isinstance(said, str) else list(said)


def numbers_of(said: Any) -> list[Any]:  # noqa: ANN401
    """Return the numbers of an argument: one alone, or those of a list. The caller checks their type."""
    return [said] if isinstance(said, int | float | np.number) else list(said)


def whole_number(argument: str, value: Any, low: int, high: int | None = None) -> int:  # noqa: ANN401
    """Return a whole number within limits.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument and the limits.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        limits = f"from {low}" if high is None else f"from {low} to {high}"
        raise invalid(argument, f"expected a whole number {limits}, found {value!r}")
    return int(value)


def number(argument: str, value: Any, low: float = 0) -> float:  # noqa: ANN401
    """Return a finite number that is not below a limit.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument and the limit.
    """
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not good or not np.isfinite(value) or value < low:
        raise invalid(argument, f"expected a number from {low:g}, found {value!r}")
    return float(value)


def only(argument: str, value: Any, *, is_always: Any, why: str) -> None:  # noqa: ANN401
    """Refuse a value of an option of scanpy's that asks for what this function does not do.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, what it may be, and why.
    """
    if value != is_always:
        raise invalid(argument, f"expected {is_always!r}, found {value!r}: {why}")


def default_threads(threads: int | None) -> int:
    """Return the number of threads for kernels: by default one for each processor, at most 8.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a number below 1.
    """
    if threads is None:
        return max(1, min(os.cpu_count() or 1, 8))
    return whole_number("threads", threads, 1)


def seed_of(random_state: Any) -> int:  # noqa: ANN401 whatever a user gives
    """Return a seed of 64 bits.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for anything but a whole number from 0.
    """
    return 0 if random_state is None else whole_number("random_state", random_state, 0, _MAX_SEED)


def one_of(argument: str, value: Any, known: Iterable[Any]) -> str:  # noqa: ANN401
    """Return a name if it is known.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the known names, the most alike first.
    """
    names = [str(name) for name in known]
    if isinstance(value, str) and value in names:
        return value
    listed = ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    hint = hint_of(str(value), names)
    raise invalid(argument, f"there is no {value!r}; expected one of {listed or '(there is none)'}{hint}")


def hint_of(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the known one that is most alike, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_adata(adata: Any) -> "AnnData":  # noqa: ANN401
    """Check that something is an AnnData with cells and genes whose names are unique.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `adata`.
    """
    for name in ("obs", "var", "obsm", "uns", "X"):
        if not hasattr(adata, name):
            raise invalid(
                "adata", f"expected an AnnData, found {type(adata).__name__}; cellworker.read(path) makes one"
            )
    if not adata.n_obs or not adata.n_vars:
        raise invalid("adata", f"expected cells and genes, found {adata.n_obs} x {adata.n_vars}")
    for names, what in ((adata.obs_names, "obs_names"), (adata.var_names, "var_names")):
        if not names.is_unique:
            again = names[names.duplicated()][0]
            message = f"{again!r} is there twice; make names unique with adata.{what}_make_unique()"
            raise invalid("adata.obs_names" if what == "obs_names" else "adata.var_names", message)
    return adata


def target(adata: "AnnData", *, copy: bool) -> "AnnData":
    """Return the target of results: the object itself, or a copy. A view becomes an object of its own."""
    check_adata(adata)
    for name in ("obs", "var"):
        table = getattr(adata, name)
        if hasattr(table, "to_memory"):  # as anndata's read_lazy has them; small beside the matrix
            setattr(adata, name, table.to_memory())
    if copy:
        return adata.to_memory() if adata.isbacked else adata.copy()
    if adata.is_view and not adata.isbacked:
        adata._init_as_actual(adata.copy())  # noqa: SLF001 what anndata does when a view is written to
    return adata


def check_kind(dtype: Any, name: str) -> None:  # noqa: ANN401
    """Check that a matrix, called `name`, holds numbers.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the matrix.
    """
    if cast("np.dtype[Any]", np.dtype(dtype)).kind not in "biuf":
        raise invalid(name, f"expected numbers, found {np.dtype(dtype)}; convert it: {name} = {name}.astype('float32')")


def column(adata: "AnnData", argument: str, name: Any) -> Any:  # noqa: ANN401
    """Return a column of ``obs``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the columns.
    """
    if not isinstance(name, str) or name not in adata.obs.columns:
        one_of(argument, name, adata.obs.columns)
    return adata.obs[name]


def categories_of(adata: "AnnData", argument: str, name: Any) -> tuple[NDArray[np.int64], list[str]]:  # noqa: ANN401
    """Return the labels of a column of ``obs``: codes int64 ``(n_cells,)``, -1 where missing, and the labels used.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a column that does not exist, or whose values are no labels.
    """
    import pandas as pd  # noqa: PLC0415 heavy

    values = column(adata, argument, name)
    if not isinstance(values.dtype, pd.CategoricalDtype):
        if pd.api.types.is_float_dtype(values.dtype):
            raise invalid(argument, f"{name!r} holds numbers, not labels; make it categorical: .astype('category')")
        values = values.astype("category")
    values = values.cat.remove_unused_categories()
    return np.asarray(values.cat.codes, np.int64), [str(label) for label in values.cat.categories]


def gene_positions(adata: "AnnData", argument: str, genes: Iterable[str], *, names: Any = None) -> list[int]:  # noqa: ANN401
    """Return the positions of genes; unknown names are left out, as in scanpy.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when none is there, or one name is given for a list.
    """
    index = adata.var_names if names is None else names
    if isinstance(genes, str):
        genes = [genes]
    wanted = list(dict.fromkeys(genes))
    places = index.get_indexer(wanted)
    found = [int(place) for place in places if place >= 0]
    if not found:
        shown = ", ".join(repr(str(name)) for name in index[:3])
        raise invalid(argument, f"none of {wanted[:3]!r} is among the genes; genes are named like {shown}")
    return found


def gene_mask(mask: Any, genes: Any) -> NDArray[np.bool_]:  # noqa: ANN401
    """Return which genes to use.

    Parameters
    ----------
    mask
        The argument ``mask_var``: a column of the table of genes, or True or False for each gene.
    genes
        The table of genes; their names alone where `mask` is no column.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `mask_var`.
    """
    if isinstance(mask, str):
        one_of("mask_var", mask, genes.columns)
        mask = genes[mask]
    found = np.asarray(mask)
    if found.dtype != np.bool_ or found.shape != (len(genes),):
        raise invalid(
            "mask_var", f"expected True or False for each of {len(genes)} genes, found {found.dtype} {found.shape}"
        )
    if not found.any():
        raise invalid("mask_var", "expected at least one gene, found none")
    return found


def write_labels(adata: "AnnData", key: str, labels: Iterable[str], categories: list[str]) -> None:
    """Write a categorical column; colours for another number of labels are removed, as in scanpy."""
    import pandas as pd  # noqa: PLC0415 heavy

    adata.obs[key] = pd.Categorical(list(labels), categories=categories)
    colours = adata.uns.get(f"{key}_colors")
    if colours is not None and len(colours) != len(categories):
        del adata.uns[f"{key}_colors"]
