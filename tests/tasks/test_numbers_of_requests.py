"""Numbers that a request, or a file for `prepare`, gives: each has limits at both ends, so none is without meaning."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from cellworker.errors import ErrorCode, WorkerError
from cellworker.preparing.parameters import Parameters, read_parameters
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import NotNegative, Number, Positive, Whole, finite_number
from cellworker.tasks.catalog import TASKS, find

ROOTS = {
    **{f"{name} body": task.body for name, task in TASKS.items()},
    **{f"{name} request": task.request for name, task in TASKS.items()},
    "pagination": Pagination,
    "prepare": Parameters,
}
INSANE = [math.nan, math.inf, -math.inf, 10**400, 2**70, -(2**70), True, "1e999", "nan", [1], {}]


def numbers(kind: Any, path: str, seen: tuple[type, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Find every number that a type has in it, with the way to it."""
    if isinstance(kind, inspect.Metadata):
        yield from numbers(kind.type, path, seen)
    elif isinstance(kind, inspect.IntType | inspect.FloatType):
        yield path, kind
    elif isinstance(kind, inspect.StructType):
        if kind.cls not in seen:
            for item in kind.fields:
                yield from numbers(item.type, f"{path}.{item.encode_name}", (*seen, kind.cls))
    elif isinstance(kind, inspect.UnionType):
        for item in kind.types:
            yield from numbers(item, path, seen)
    elif isinstance(kind, inspect.ListType):
        yield from numbers(kind.item_type, f"{path}[]", seen)
    elif isinstance(kind, inspect.DictType):
        yield from numbers(kind.value_type, f"{path}.*", seen)


def test_every_number_of_every_request_has_limits_at_both_ends() -> None:
    found = [(name + path, kind) for name, root in ROOTS.items() for path, kind in numbers(inspect.type_info(root), "")]
    assert len(found) > 50
    # a limit at either end excludes NaN, which is above and below nothing
    unlimited = [
        path for path, kind in found
        if (kind.ge is None and kind.gt is None) or (kind.le is None and kind.lt is None)
    ]  # fmt: skip
    assert unlimited == []


@given(st.sampled_from([Number, NotNegative, Positive, Whole]), st.sampled_from(INSANE))
def test_what_is_no_finite_number_of_a_sane_size_has_no_number_type(kind: Any, value: object) -> None:
    is_large_float = kind in (Number, NotNegative) and value == 2**70  # a float can be as large
    is_large_float = is_large_float or (kind is Number and value == -(2**70))
    if is_large_float:
        assert msgspec.convert(value, kind) == value
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, kind)


@given(st.floats() | st.integers() | st.sampled_from(INSANE) | st.text())
def test_a_value_of_a_configuration_is_a_number_or_nothing(value: object) -> None:
    found = finite_number(value)
    wanted = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**1023
    assert (found is not None) >= wanted
    assert found is None or math.isfinite(found)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True])
@pytest.mark.parametrize(
    ("task", "body", "field"),
    [
        ("ClusterCells", {"type": "louvain", "cellSetName": "n", "cellSetKey": "k", "config": {"resolution": ...}},
         "body.config.resolution"),
        ("GetExpressionCellSets",
         {"genesConfig": [{"geneName": "A", "comparisonType": "lessThan", "thresholdValue": ...}]},
         "body.genesConfig[0].thresholdValue"),
        ("ListGenes", {"orderBy": "gene_names", "orderDirection": "ASC", "limit": ...}, "body.limit"),
        ("MarkerHeatmap", {"nGenes": ..., "selectedCellSet": "louvain"}, "body.nGenes"),
    ],
)  # fmt: skip
def test_the_sentence_names_the_field(task: str, body: dict[str, Any], field: str, value: object) -> None:
    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: filled(item) for key, item in part.items()}
        if isinstance(part, list):
            return [filled(item) for item in part]
        return value if part is ... else part

    with pytest.raises(WorkerError) as caught:
        find(task).read_body(filled(body))
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.message.startswith(f"{field}: ")
    assert "e+308" not in caught.value.message


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
@pytest.mark.parametrize("name", ["mads", "resolution", "separation", "min_cells", "empty_lower"])
def test_prepare_takes_no_number_that_is_none(name: str, value: object) -> None:
    with pytest.raises(WorkerError) as caught:
        read_parameters(None, {"samples": [{"path": "a.h5"}], name: value})
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert name in caught.value.message


@pytest.mark.parametrize("limit", ["inf", "-inf", "nan", "1e999"])
def test_a_limit_of_prepare_is_finite(limit: str) -> None:
    with pytest.raises(WorkerError) as caught:
        read_parameters(None, {"samples": [{"path": "a.h5"}], "set": [f"max_counts={limit}"]})
    assert "max_counts" in caught.value.message
