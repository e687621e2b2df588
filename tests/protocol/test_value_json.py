"""Values become JSON text that clients read as they were meant."""

import json
from dataclasses import dataclass

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellworker.protocol.value_json import JsonText, encode


@given(arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=st.floats(width=32)))
def test_float32_come_back_to_the_bit_and_what_is_not_finite_is_null(values):
    back = np.array(json.loads(encode(values)), dtype=np.float64)
    expected = np.where(np.isfinite(values), values.astype(np.float64), np.nan)
    np.testing.assert_array_equal(back.astype(np.float32), expected.astype(np.float32))


@given(
    arrays(np.float64, array_shapes(max_dims=2, max_side=5), elements=st.floats(allow_nan=False, allow_infinity=False))
)
def test_float64_come_back_to_the_bit(values):
    np.testing.assert_array_equal(np.array(json.loads(encode(values))), values)


def test_float32_are_written_in_their_shortest_text():
    assert encode(np.array([0.1, 5.779448], np.float32)) == b"[0.1,5.779448]"


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.array(["a", "ü"]),
        np.array(["a", None], dtype=object),
        np.array([True, False]),
        np.array(7),
        np.zeros((0, 3)),
        np.arange(3, dtype=np.uint8),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("x"),
    ],
    ids=repr,
)
def test_every_layout_and_kind_of_array_is_written(values):
    assert json.loads(encode(values)) == values.tolist()


def test_text_that_is_json_already_passes_through_inside_a_structure():
    assert encode({"a": orjson.Fragment(b"[1.50]")}) == b'{"a":[1.50]}'
    assert encode({"a": JsonText(b"[1.50]")}) == b'{"a":[1.50]}'


def test_a_whole_answer_that_is_json_already_is_not_copied():
    text = b"[1.50]"
    assert encode(JsonText(text)) is text


class Inner(msgspec.Struct):
    cell_ids: np.ndarray = msgspec.field(name="cellIds")


@dataclass
class Outer:
    inner: Inner
    note: str | None


def test_structures_are_written_under_their_wire_names():
    value = Outer(Inner(np.array([1, 2], np.int32)), None)
    assert encode(value) == b'{"inner":{"cellIds":[1,2]},"note":null}'


def test_what_has_no_json_form_is_refused_by_its_type():
    with pytest.raises(TypeError, match="set"):
        encode({1, 2})
