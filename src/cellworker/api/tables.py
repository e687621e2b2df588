"""Tables of pandas, polars or Arrow."""

from typing import TYPE_CHECKING, Any, Literal

from cellworker.api.anndata.arguments import one_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Form", "Other", "OtherTable", "formed"]

Other = Literal["polars", "arrow"]
OtherTable = Any
"""A table of polars or Arrow, as `as_` says."""

Form = Literal["pandas", "polars", "arrow"]
"""The library that makes a table."""


def formed(table: "DataFrame | Series", as_: Form) -> Any:  # noqa: ANN401 three libraries' tables
    """Return a table of pandas as it is, or as one of polars or Arrow; barcodes become its first column.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `as_`.
    ImportError
        Saying what to install.
    """
    one_of("as_", as_, ["pandas", "polars", "arrow"])
    if as_ == "pandas":
        return table
    try:
        import pyarrow as pa  # noqa: PLC0415 only who wants it needs it

        if as_ == "polars":
            import polars as pl  # noqa: PLC0415
    except ImportError as error:
        message = f"tables of {as_} need {error.name}: install it, or leave as_ for tables of pandas"
        raise ImportError(message) from error
    frame = table.reset_index() if table.index.name is not None else table
    made = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    return pl.from_arrow(made) if as_ == "polars" else made
