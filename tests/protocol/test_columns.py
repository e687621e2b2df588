"""Typed columns: what is written is read, by the page and by a reader made from the documentation."""

import base64
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.column_reader import decode_columns

from cellworker.protocol.columns import (
    MEDIA_TYPE,
    ColumnTable,
    Labels,
    Logicals,
    Numbers,
    Sparse,
    Texts,
    accepts_columns,
    encode_columns,
)
from cellworker.protocol.value_json import encode

FIXTURES = Path(__file__).parent.parent / "fixtures" / "columns"
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

EVERY_KIND = ColumnTable(
    {
        "single": Numbers(np.array([1.5, np.nan, -0.25], np.float32)),
        "double": Numbers(np.array([1e300, 0.1, np.nan])),
        "small": Numbers(np.array([-1, 2, 100])),
        "large": Numbers(np.array([0, 4_000_000_000, 7]), np.array([False, False, True])),
        "logical": Logicals(np.array([True, False, False]), np.array([False, False, True])),
        "category": Labels(np.array([1, -1, 0], np.int32), ["B cells", "Zelle <ä>"]),
        "text": Texts(["CD3D", None, "ünï"]),
        "sparse": Sparse(np.array([2, 0], np.int32), np.array([0.5, 2.5], np.float32), 3),
    },
    {"byCell": True, "colors": ["#aabbcc", None]},
)
"""Written to fixtures/columns/every_kind.bin by `python tests/protocol/test_columns.py`."""


def missing(n: int) -> st.SearchStrategy[Any]:
    return st.none() | hnp.arrays(np.bool_, n)


@st.composite
def tables(draw: st.DrawFn) -> ColumnTable:
    n = draw(st.integers(0, 40))
    floats = hnp.arrays(np.float32, n, elements=st.floats(width=32)) | hnp.arrays(np.float64, n)
    whole = hnp.arrays(np.int64, n, elements=st.integers(-(2**53), 2**53) | st.integers(-200, 300))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    labels = draw(st.lists(text, max_size=300, unique=True))
    rows = draw(st.lists(st.integers(0, max(0, n - 1)), unique=True, max_size=n))
    single = hnp.arrays(np.float32, len(rows), elements=st.floats(width=32))
    column = st.one_of(
        floats.map(Numbers),
        st.builds(Numbers, whole, missing(n)),
        st.builds(Logicals, hnp.arrays(np.bool_, n), missing(n)),
        st.builds(Labels, hnp.arrays(np.int32, n, elements=st.integers(-1, len(labels) - 1)), st.just(labels)),
        st.lists(st.none() | text, min_size=n, max_size=n).map(Texts),
        single.map(lambda values: Sparse(np.array(rows, np.int32), values, n)),
    )
    return ColumnTable(draw(st.dictionaries(text, column, max_size=5)), {"n": n, "note": draw(text)})


def plain(table: ColumnTable) -> Any:
    """What is in a table, with one form for each value: what is no finite number, or missing, is None."""
    return json.loads(encode(table))


def same(found: ColumnTable, wanted: ColumnTable) -> None:
    assert found.facts == wanted.facts
    assert list(found.columns) == list(wanted.columns)
    for name, column in wanted.columns.items():
        other = found.columns[name]
        assert type(other) is type(column)
        if isinstance(column, Numbers) and column.values.dtype.kind == "f":
            assert np.array_equal(other.values, column.values, equal_nan=True)
            assert other.values.dtype == column.values.dtype
    assert plain(found) == plain(wanted)


@SLOW
@given(tables())
def test_what_is_written_is_read(table: ColumnTable) -> None:
    same(decode_columns(encode_columns(table)), table)


def test_the_bytes_stay_those_of_the_fixture() -> None:
    content = (FIXTURES / "every_kind.bin").read_bytes()
    assert encode_columns(EVERY_KIND) == content
    same(decode_columns(content), EVERY_KIND)
    assert plain(EVERY_KIND) == json.loads((FIXTURES / "every_kind.json").read_text())


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 127], "i1"), ([0, 128], "u1"), ([-1, 128], "i2"), ([65535], "u2"), ([-40000], "i4"), ([2**32 - 1], "u4"),
        ([-1, 2**32 - 1], "f8"), ([], "i1"),
    ],
)  # fmt: skip
def test_whole_numbers_take_the_narrowest_type(values: list[int], wanted: str) -> None:
    content = encode_columns(ColumnTable({"x": Numbers(np.array(values, np.int64))}))
    assert f'"type":"{wanted}"'.encode() in content


def test_the_header_accept_is_read_as_browsers_write_it() -> None:
    assert accepts_columns(MEDIA_TYPE)
    assert accepts_columns(f"text/html, {MEDIA_TYPE.upper()};q=0.9")
    assert not accepts_columns(None)
    assert not accepts_columns("*/*")


# --- the page's side ------------------------------------------------------------------------------------------------

READ = """
import { createInterface } from "node:readline";
import { decodeColumns } from "./columns.js";
const none = (v) => typeof v === "number" && !Number.isFinite(v);
const plain = (values, missing) => Array.from(values, (v, i) => (missing?.[i] || none(v) ? null : v));
for await (const line of createInterface({ input: process.stdin })) {
  const bytes = Buffer.from(line, "base64");
  const { facts, columns } = decodeColumns(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const told = [];
  for (const [name, c] of columns) {
    const out = { name, kind: c.kind, values: plain(c.values, c.missing) };
    if (c.kind === "sparse") Object.assign(out, { length: c.length, rows: plain(c.rows) });
    if (c.kind === "category") out.values = out.values.map((v) => (v < 0 ? null : v));
    if (c.kind === "category") out.labels = c.labels;
    if (c.kind === "logical") out.values = out.values.map((v) => (v === null ? null : v === 1));
    told.push(out);
  }
  console.log(JSON.stringify({ ...facts, columns: told }));
}
"""

Read = Callable[[bytes], Any]


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    """The page's module, compiled by TypeScript and run by Node.js."""
    web_build = pytest.importorskip("web_build")
    compiler = root / "web" / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.is_file():
        pytest.skip("the page's TypeScript compiler is not installed: make web")
    found = web_build.find_node()
    if found is None:
        pytest.skip("there is no Node.js here")
    node = found[0]
    folder = tmp_path_factory.mktemp("page")
    options = ["--outDir", folder, "--module", "esnext", "--target", "es2022", "--lib", "es2022,dom"]
    source = root / "web" / "src" / "wire" / "columns.ts"
    subprocess.run([node, compiler, *options, "--ignoreConfig", source], check=True, cwd=folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "read.js").write_text(READ)
    with subprocess.Popen(
        [node, folder / "read.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        assert process.stdin
        assert process.stdout

        def read(content: bytes) -> Any:
            process.stdin.write(base64.b64encode(content).decode() + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield read
        process.stdin.close()


def test_the_page_reads_the_fixture(page: Read) -> None:
    assert page((FIXTURES / "every_kind.bin").read_bytes()) == json.loads((FIXTURES / "every_kind.json").read_text())


@SLOW
@given(table=tables())
def test_the_page_reads_what_is_written(page: Read, table: ColumnTable) -> None:
    found, wanted = page(encode_columns(table)), plain(table)
    assert [column["name"] for column in found["columns"]] == [column["name"] for column in wanted["columns"]]
    for one, other in zip(found["columns"], wanted["columns"], strict=True):
        assert one.keys() == other.keys()
        close = one["kind"] in ("number", "sparse")  # float32 has another text in JavaScript, and the same value
        for name, part in other.items():
            if close and name == "values":
                assert [_single(v) for v in one[name]] == [_single(v) for v in part]
            else:
                assert one[name] == part


def _single(value: float | None) -> float | None:
    if value is None:
        return None
    with np.errstate(over="ignore"):
        single = float(np.float32(value))
    return single if math.isfinite(single) else value


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / "every_kind.bin").write_bytes(encode_columns(EVERY_KIND))
    (FIXTURES / "every_kind.json").write_bytes(orjson.dumps(plain(EVERY_KIND), option=orjson.OPT_INDENT_2) + b"\n")
