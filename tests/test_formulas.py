"""CSV that people open in a spreadsheet: nothing in it is run, and nothing else in it changes."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.cli.formulas import has_formulas, without_formula, without_formulas
from cellworker.cli.output import Destination, write_file, write_result

FORMULAS = ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")', "-", "\uff1d1"]
HARMLESS = ["LYZ", "", "HLA-A", "a=b", "-1", "+1.5e-3", "-Inf", "'=1", "3-1", " x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str) -> None:
    assert without_formula(text) == f"'{text}"


@pytest.mark.parametrize("value", [*HARMLESS, -1, -1.5, None, True])
def test_everything_else_stays(value: object) -> None:
    assert without_formula(value) is value


def test_tables_are_guarded_as_csv_and_nowhere_else(tmp_path: Path) -> None:
    table = {"=name": ["=1+1", "LYZ"], "value": [-1.5, 2]}
    tables = lambda _: {"one": table}  # noqa: E731
    write_result(Destination(f"{tmp_path}/a.csv", None), table, tables)
    assert (tmp_path / "a.csv").read_text() == "'=name,value\n'=1+1,-1.5\nLYZ,2\n"
    write_result(Destination(f"{tmp_path}/b.csv", None, csv_guard=False), table, tables)
    assert (tmp_path / "b.csv").read_text() == "=name,value\n=1+1,-1.5\nLYZ,2\n"
    parquet = pytest.importorskip("pyarrow.parquet")
    write_result(Destination(f"{tmp_path}/a.parquet", None), table, tables)
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == table
    write_result(Destination(f"{tmp_path}/a.json", None), table, tables)
    assert '"=1+1"' in (tmp_path / "a.json").read_text()


MATRIX = b", ,=bc-1,AAAC-1\n1,=GENE,0,-1.5\n2,-A,1,2.25e-05\n3,LYZ,-Inf,NA\n"
GUARDED = b", ,'=bc-1,AAAC-1\n1,'=GENE,0,-1.5\n2,'-A,1,2.25e-05\n3,LYZ,-Inf,NA\n"


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("guard", [True, False])
def test_a_matrix_that_is_a_file_already_is_guarded_too(tmp_path: Path, ending: str, guard: bool) -> None:
    result = tmp_path / "NormalizedExpression.csv.gz"
    result.write_bytes(gzip.compress(MATRIX))
    write_file(Destination(f"{tmp_path}/out{ending}", None, file_result=True, csv_guard=guard), result)
    content = (tmp_path / f"out{ending}").read_bytes()
    assert (gzip.decompress(content) if ending.endswith("gz") else content) == (GUARDED if guard else MATRIX)


def test_a_matrix_without_formulas_is_left_as_it_came(tmp_path: Path) -> None:
    result = tmp_path / "NormalizedExpression.csv.gz"
    result.write_bytes(gzip.compress(b", ,AAAC-1\n1,LYZ,-0.5\n", 1))
    write_file(Destination(f"{tmp_path}/out.csv.gz", None, file_result=True), result)
    assert (tmp_path / "out.csv.gz").read_bytes() == result.read_bytes()


CELLS = st.one_of(st.sampled_from(FORMULAS + HARMLESS), st.text(max_size=6), st.floats().map(str))


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_text_of_a_table_is_guarded_as_its_cells_are(rows: list[list[str]]) -> None:
    rows = [[cell.replace("\0", "").replace("\r", "").replace("\n", "") for cell in row] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    guarded = b"".join(without_formulas(io.BytesIO(text.getvalue().encode("utf-8", "surrogatepass"))))
    found = list(csv.reader(io.StringIO(guarded.decode("utf-8", "surrogatepass"))))
    wanted = [[without_formula(cell) for cell in row] for row in rows]
    assert found == wanted
    assert not has_formulas(io.BytesIO(guarded))
