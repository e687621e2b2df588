"""Cell sets of any size are read as small ones are: the same sets, the same refusals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment import packed_cell_sets
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.packed_cell_sets import keys_in, pack, unpack

COMMON = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.sampled_from('ab"\\[]:, {}cellIds\n\u00e9'), max_size=24) | st.just('x"cellIds": [1, 2]')
IDS = st.lists(st.integers(0, 2**31 - 1), max_size=40)
SETS = st.fixed_dictionaries(
    {"key": TEXT, "name": TEXT, "color": st.none() | TEXT, "cellIds": IDS | st.integers(0, 99)},
    optional={"type": st.none() | TEXT, "note": TEXT, "ids": IDS},
)
CLASSES = st.fixed_dictionaries(
    {
        "key": TEXT,
        "name": TEXT,
        "rootNode": st.just(True),
        "type": st.none() | TEXT,
        "children": st.lists(SETS, max_size=4),
    },
    optional={"column": TEXT},
)
DOCUMENTS = st.fixed_dictionaries({"cellSets": st.lists(CLASSES, max_size=4)}, optional={"clusters": TEXT})
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


@pytest.fixture(autouse=True)
def every_list_is_long(monkeypatch):
    monkeypatch.setattr(packed_cell_sets, "_LONG_BYTES", 1)


def through_a_file(folder: Path, content: bytes) -> CellSets:
    (folder / "cell_sets.json").write_bytes(content)
    packed = json.loads(json.dumps(pack(str(folder / "cell_sets.json"), str(folder / "ids"))))
    found = unpack(packed, folder / "ids")
    (folder / "ids").unlink()
    return found


@COMMON
@given(DOCUMENTS, SEPARATORS, st.booleans())
def test_the_same_sets_come_out(tmp_path, document, separators, ascii_only):
    content = json.dumps(document, separators=separators, ensure_ascii=ascii_only).encode()
    found = through_a_file(tmp_path, content)
    assert found.encode() == CellSets.parse(content).encode()
    assert all(child.cell_ids.dtype == np.int32 and not child.cell_ids.flags.writeable for _, child in found.sets())
    wanted = {(item["key"], child["key"]) for item in document["cellSets"] for child in item["children"]}
    assert keys_in(content) == wanted


@COMMON
@given(st.text(st.sampled_from('0123456789,.-e \nnull"[]{}'), max_size=20))
def test_what_is_no_list_of_ids_is_refused_in_the_same_words(tmp_path, inside):
    child = b'{"key":"b","name":"b","cellIds":[%b]}' % inside.encode()
    content = b'{"cellSets":[{"key":"a","name":"a","children":[%b]}]}' % child
    try:
        wanted = CellSets.parse(content).encode()
    except WorkerError as error:
        # The place in the text differs where long lists were taken out of it.
        words = "not JSON" if "not JSON" in error.message else re.escape(error.message)
        with pytest.raises(WorkerError, match=words) as caught:
            through_a_file(tmp_path, content)
        assert caught.value.code is ErrorCode.CELL_SETS_INVALID
    else:
        assert through_a_file(tmp_path, content).encode() == wanted


def test_a_text_that_stands_for_ids_cannot_be_guessed(tmp_path):
    content = b'{"cellSets":[{"key":"a","name":"a","children":[{"key":"b","name":"b","cellIds":{"0":0}}]}]}'
    with pytest.raises(WorkerError, match="expected an array of integers"):
        through_a_file(tmp_path, content)


def test_too_many_sets_are_refused_in_words(tmp_path):
    child = '{"key":"%d","name":"a set with a name","color":"#aabbcc","cellIds":[1,2,3]}'
    children = ",".join(child % number for number in range(100_000))
    content = '{"cellSets":[{"key":"a","name":"a","children":[' + children + "]}]}"
    with pytest.raises(WorkerError, match="100,000 sets") as caught:
        through_a_file(tmp_path, content.encode())
    assert caught.value.code is ErrorCode.CELL_SETS_INVALID
