"""ListGenes: the table of genes and how variable they are (contract 5.2)."""

from typing import Any

import numpy as np
import orjson
from msgspec import Struct, field

from cellworker.experiment.model import Dispersions, Experiment
from cellworker.protocol.validation import Count, Direction
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tables import TableColumn, select_page, text_filter
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["LIST_GENES"]


class ListGenesBody(Struct):
    """ListGenes. `order_by` of another name keeps the table's order; `select_fields` is accepted and ignored."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    gene_names_filter: str | None = field(name="geneNamesFilter", default=None)
    select_fields: Any = field(name="selectFields", default=None)


class ListGenesRequest(Struct):
    """``listGenes``."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    gene_names_filter: str | None = field(name="geneNamesFilter", default=None)


def prepare(given: PrepareInput) -> ListGenesRequest:
    """Pass the body on: the task uses no cell sets."""
    body: ListGenesBody = given.body
    return ListGenesRequest(body.order_by, body.order_direction, body.offset, body.limit, body.gene_names_filter)


def compute(experiment: Experiment, request: ListGenesRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Filter, order and slice the table; ``full_count`` is the number of matches on all pages."""
    table = experiment.dispersions or _without_dispersions(experiment)
    columns: dict[str, TableColumn] = {"gene_names": table.names, "dispersions": table.dispersions}
    page = select_page(
        columns,
        len(table.names),
        keep=text_filter(table.names, request.gene_names_filter) if request.gene_names_filter else None,
        order_by=request.order_by,
        descending=request.order_direction.upper() == "DESC",
        offset=request.offset,
        limit=request.limit,
    )
    names = [table.names[i] for i in page.rows.tolist()]
    return {
        "gene_results": {"gene_names": names, "dispersions": table.dispersions[page.rows]},
        "full_count": page.total,
    }


def _without_dispersions(experiment: Experiment) -> Dispersions:
    """Give an object without a variability table the same variability for every gene."""
    return Dispersions(experiment.genes.names, experiment.genes.ids, np.zeros(len(experiment.genes)))


def finish(data: bytes) -> bytes:
    """Convert the answer to the shape that the UI reads."""
    value = orjson.loads(data)
    return orjson.dumps({"total": value["full_count"], **value["gene_results"]})


def to_tables(result: Any) -> Tables:  # noqa: ANN401
    """One table: a row for each gene of the page."""
    return {"genes": {"gene_names": result["gene_names"], "dispersions": result["dispersions"]}}


LIST_GENES = Task(
    name="ListGenes",
    path="listGenes",
    about="the genes with their dispersions: sorted, filtered, in pages",
    example=lambda _: {
        "selectFields": ["gene_names", "dispersions"],
        "orderBy": "dispersions",
        "orderDirection": "DESC",
        "offset": 0,
        "limit": 20,
    },
    body=ListGenesBody,
    request=ListGenesRequest,
    prepare=prepare,
    compute=compute,
    finish=finish,
    to_tables=to_tables,
)
