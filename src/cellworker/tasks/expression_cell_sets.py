"""GetExpressionCellSets: a new cell set from conditions on gene expression (contract 5.16)."""

import re
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from msgspec import Meta, Struct, field

from cellworker.analysis.annotation.colours import next_colour
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import Number, Text, Whole
from cellworker.tasks.common.set_keys import time_uuid
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["EXPRESSION_CELL_SETS", "r_number"]

_PARENT = "scratchpad"


class GeneThreshold(Struct):
    """One condition on one gene. Whole thresholds stay integers, since the new set's name shows them."""

    gene_name: Text = field(name="geneName")
    comparison_type: Literal["greaterThan", "lessThan"] = field(name="comparisonType")
    threshold_value: Whole | Number = field(name="thresholdValue")


class ExpressionCellSetsBody(Struct):
    """GetExpressionCellSets."""

    genes_config: Annotated[list[GeneThreshold], Meta(min_length=1)] = field(name="genesConfig")


class ExpressionCellSetsRequest(Struct):
    """``getExpressionCellSet``. `used_colors`: colours that the new set must not take."""

    genes_config: list[GeneThreshold] | GeneThreshold = field(name="genesConfig")
    used_colors: list[str] = field(name="usedColors", default_factory=list)


def prepare(given: PrepareInput) -> ExpressionCellSetsRequest:
    """Pass the conditions on, with the colours of the other custom sets."""
    body: ExpressionCellSetsBody = given.body
    siblings = given.cell_sets.find_class(_PARENT)
    used = [child.color for child in siblings.children if child.color] if siblings else []
    return ExpressionCellSetsRequest(genes_config=body.genes_config, used_colors=used)


def compute(experiment: Experiment, request: ExpressionCellSetsRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Return the new set: the cells that meet every condition, in the object's order.

    Values and thresholds are compared as float32, the precision in which values are stored and shown. So a cell that
    shows 0.1 is not above a threshold of 0.1; as doubles it would be, by the rounding error of the float.

    Raises
    ------
    WorkerError
        ``R_WORKER_EMPTY_CELL_SET`` when a gene does not exist (names are case-sensitive) or no cell is left.
    """
    conditions = [request.genes_config] if isinstance(request.genes_config, GeneThreshold) else request.genes_config
    if not conditions:
        raise WorkerError(ErrorCode.INVALID_INPUT, "genesConfig: at least one condition is needed.")
    positions = [experiment.genes.by_name.get(condition.gene_name) for condition in conditions]
    chosen = np.ones(experiment.n_cells, bool)
    for condition, position in zip(conditions, positions, strict=True):
        if position is None:
            raise WorkerError(
                ErrorCode.R_WORKER_EMPTY_CELL_SET, "Requested ExpressionCellSet with gene name(s) that are not present."
            )
        values = experiment.data.dense(position)
        with np.errstate(over="ignore"):
            threshold = np.float32(condition.threshold_value)
        chosen &= values > threshold if condition.comparison_type == "greaterThan" else values < threshold
    if not chosen.any():
        raise WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "No cells match requested filters.")
    return {
        "key": time_uuid(),
        "name": ", ".join(describe(condition) for condition in conditions),
        "rootNode": False,
        "color": next_colour(experiment.misc.color_pool, request.used_colors),
        "cellIds": experiment.cell_ids[chosen],
    }


def describe(condition: GeneThreshold) -> str:
    """Return a condition in display form: ``CD3D>0.5``."""
    sign = ">" if condition.comparison_type == "greaterThan" else "<"
    return f"{condition.gene_name}{sign}{r_number(condition.threshold_value)}"


def r_number(value: float) -> str:
    """Return a number as R's ``as.character`` writes it: 15 significant digits, fixed unless scientific is shorter."""
    if isinstance(value, int) and abs(value) < 2**31:
        return str(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.14e}".split("e")
    mantissa = re.sub(r"\.?0+$", "", mantissa)
    digits = len(mantissa.lstrip("-").replace(".", ""))
    power = int(exponent)
    scientific = f"{mantissa}e{power:+03d}"
    fixed = f"{value:.{max(0, digits - 1 - power)}f}"
    return fixed if len(fixed) <= len(scientific) else scientific


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operation that adds the set to the custom cell sets (contract 5.22)."""
    insert = {"$insert": {"index": "-", "value": orjson.loads(data)}}
    return [{"$match": {"query": f'$[?(@.key == "{_PARENT}")]', "value": {"children": [insert]}}}]


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: the cells of the new set."""
    return {"cells": {"cell_id": result["cellIds"]}}


EXPRESSION_CELL_SETS = Task(
    name="GetExpressionCellSets",
    path="getExpressionCellSet",
    about="the cells in which chosen genes are above or below thresholds, as a new cell set",
    example=lambda parts: {
        "genesConfig": [
            {"geneName": gene, "comparisonType": "greaterThan", "thresholdValue": 0.5} for gene in parts.genes[:1]
        ]
    },
    body=ExpressionCellSetsBody,
    request=ExpressionCellSetsRequest,
    prepare=prepare,
    compute=compute,
    cacheable=False,
    needs_cell_sets=True,
    patch=patch,
    to_tables=to_tables,
)
