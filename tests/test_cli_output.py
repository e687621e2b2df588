"""Requests from the command line, and results to files: all or nothing."""

import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from cellworker.cli.bug import save_traceback
from cellworker.cli.output import Destination, write_file, write_result
from cellworker.cli.progress import Bar
from cellworker.cli.request_options import read_json, request_body
from cellworker.errors import WorkerError
from cellworker.tasks.catalog import find

TABLE = {"gene": ["LYZ", "IL7R", None], "score": [1.5, 2.0, 0.1]}


def tables(**named):
    return lambda value: named


def sentence(*arguments, call) -> str:
    with pytest.raises(WorkerError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_body_is_an_object_as_given() -> None:
    assert read_json("--body", '{"genes": ["LYZ"]}') == {"genes": ["LYZ"]}


def test_no_body_is_an_empty_one() -> None:
    assert read_json("--body", None) == {}


def test_a_body_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"limit": 3}')
    assert read_json("--body", f"@{tmp_path}/body.json") == {"limit": 3}


def test_a_body_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"limit": 3}'))
    assert read_json("--body", "@-") == {"limit": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{genes: 1}", "--body: not JSON"),
        ("[1]", "--body: expected an object"),
        ("3", "found int"),
        ("", "not JSON"),
        ("[" * 100_000, "--body"),
        ("@/nowhere/at-all", "--body (/nowhere/at-all): No such file"),
    ],
)
def test_a_body_that_is_none_is_refused_with_the_place(text: str, expected: str) -> None:
    assert expected in sentence("--body", text, call=read_json)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in sentence("--body", f"@{tmp_path}/body", call=read_json)


def test_a_body_may_repeat_the_name_but_not_contradict_it() -> None:
    assert request_body(find("ListGenes"), '{"name": "ListGenes", "limit": 1}') == {"limit": 1}
    assert "DotPlot" in sentence(find("ListGenes"), '{"name": "DotPlot"}', call=request_body)


def test_json_is_written_as_it_is(tmp_path: Path) -> None:
    written = write_result(Destination(f"{tmp_path}/a.json", None), {"total": 1, "name": "µ"}, None)
    assert written == [tmp_path / "a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"total": 1, "name": "µ"}


def test_json_may_be_compressed(tmp_path: Path) -> None:
    write_result(Destination(f"{tmp_path}/a.json.gz", None), [1], None)
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == b"[1]\n"


def test_a_table_becomes_csv(tmp_path: Path) -> None:
    write_result(Destination(f"{tmp_path}/a.csv", None), {}, tables(genes=TABLE))
    assert (tmp_path / "a.csv").read_text() == "gene,score\nLYZ,1.5\nIL7R,2.0\n,0.1\n"


def test_a_table_becomes_parquet(tmp_path: Path) -> None:
    write_result(Destination(f"{tmp_path}/a.parquet", None), {}, tables(genes=TABLE))
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict() == TABLE


def test_several_tables_become_several_files(tmp_path: Path) -> None:
    written = write_result(Destination(f"{tmp_path}/a.csv.gz", None), {}, tables(**{"one": TABLE, "t/wo": TABLE}))
    assert [path.name for path in written] == ["a-one.csv.gz", "a-t_wo.csv.gz"]
    assert all(gzip.decompress(path.read_bytes()).startswith(b"gene,") for path in written)


def test_several_tables_do_not_mix_on_the_terminal() -> None:
    both = tables(one=TABLE, two=TABLE)
    assert "one, two" in sentence(Destination(None, "csv"), {}, both, call=write_result)


def test_parquet_without_its_package_is_refused_with_what_to_install(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    destination = Destination(f"{tmp_path}/a.parquet", None)
    assert "[notebook]" in sentence(destination, {}, tables(genes=TABLE), call=write_result)


def test_what_is_no_table_is_not_forced_into_one(tmp_path: Path) -> None:
    assert "choose JSON" in sentence(Destination(f"{tmp_path}/a.csv", None), [1], None, call=write_result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.txt", "a", "missing/a.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(name: str, tmp_path: Path) -> None:
    assert "--out" in sentence(f"{tmp_path}/{name}", None, call=Destination)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(Destination(f"{tmp_path}/a.json", None), [float("nan")], None)

    broken = {"gene": ["LYZ"], "score": []}
    with pytest.raises(ValueError, match="shorter"):
        write_result(Destination(f"{tmp_path}/b.csv", None), {}, tables(one=TABLE, two=broken))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_damaged_file_result_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(gzip.compress(b"1,2\n" * 1000)[:-20])
    with pytest.raises(EOFError):
        write_file(Destination(f"{tmp_path}/a.csv", None), tmp_path / "result")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_file_result_stays_as_it_is_or_is_unpacked(tmp_path: Path, capfdbinary) -> None:
    packed = gzip.compress(b"1,2\n")
    (tmp_path / "result").write_bytes(packed)
    write_file(Destination(f"{tmp_path}/a.csv.gz", None), tmp_path / "result")
    assert (tmp_path / "a.csv.gz").read_bytes() == packed
    write_file(Destination(f"{tmp_path}/a.csv", None), tmp_path / "result")
    assert (tmp_path / "a.csv").read_bytes() == b"1,2\n"


def test_a_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    write_result(Destination(f"{tmp_path}/a.json", None), [1], None)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_saved_traceback_holds_no_credential() -> None:
    path = save_traceback(ValueError("Bearer abc.def"))
    try:
        assert "ValueError" in path.read_text()
        assert "abc.def" not in path.read_text()
    finally:
        path.unlink()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Bar(show_after_s=0) as bar:
        bar("Reading counts", 0.5)
    assert "Reading counts" in terminal.getvalue()
    assert "50%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_no_bar_is_drawn_for_what_is_quick_or_quiet_or_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Bar() as bar:
        bar("Reading", 0.5)
    with Bar(quiet=True, show_after_s=0) as bar:
        bar("Reading", 0.5)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    with Bar(show_after_s=0) as bar:
        bar("Reading", 0.5)
    assert pipe.getvalue() == ""


def test_an_object_is_delivered_as_it_is_under_its_own_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"X\nobject")
    for name, content in {"a.rds": packed, "a.h5ad": b"\x89HDF\r\n"}.items():
        (tmp_path / "result").write_bytes(content)
        write_file(Destination(f"{tmp_path}/{name}", None, file_result=True), tmp_path / "result")
        assert (tmp_path / name).read_bytes() == content


def test_a_name_without_a_known_ending_is_for_files_only(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="end the name in"):
        Destination(f"{tmp_path}/a.rds", None)


@pytest.mark.parametrize("name", ["a.rds", "a.h5ad", "a.bin"])
def test_an_object_is_not_saved_under_the_name_of_another_kind(tmp_path, name):
    destination = Destination(str(tmp_path / name), None, file_result=True)
    destination.check_ending(f"processed_matrix{Path(name).suffix}")
    if name == "a.rds":
        with pytest.raises(WorkerError, match=r"the result is an \.h5ad file: end its name in \.h5ad, or ask"):
            destination.check_ending("processed_matrix.h5ad")
    if name == "a.bin":
        destination.check_ending("processed_matrix.h5ad")


@pytest.mark.parametrize("name", ["a.csv", "a.zarr", "a.h5", "a.json", "a.CSV", "a.csv.gz", "a.loom"])
def test_an_object_is_not_saved_under_the_name_of_something_else(tmp_path, name):
    with pytest.raises(WorkerError, match=r"the result is an \.rds file: end its name in \.rds, or ask"):
        Destination(str(tmp_path / name), None, file_result=True).check_ending("processed_matrix.rds")


@pytest.mark.parametrize("name", ["a.rds", "a.h5ad", "a.tsv", "a.json", "a.parquet", "a.tsv.gz"])
def test_a_matrix_in_csv_is_not_saved_under_the_name_of_something_else(tmp_path, name):
    with pytest.raises(WorkerError, match=r"the result is a \.csv file: end its name in \.csv$"):
        Destination(str(tmp_path / name), None, file_result=True).check_ending("NormalizedExpression.csv.gz")


def test_a_file_keeps_the_names_that_fit_it(tmp_path):
    for name, own in [
        ("a.csv", "N.csv.gz"), ("a.csv.gz", "N.csv.gz"), ("a", "N.csv.gz"), ("a.RDS", "p.rds"), ("a.rds.gz", "p.rds"),
        ("v1.2", "p.h5ad"), ("a.h5ad", "p.h5ad"),
    ]:  # fmt: skip
        Destination(str(tmp_path / name), None, file_result=True).check_ending(own)


def test_an_h5ad_file_is_not_called_packed(tmp_path):
    with pytest.raises(WorkerError, match=r"the result is an \.h5ad file: end its name in \.h5ad$"):
        Destination(str(tmp_path / "a.h5ad.gz"), None, file_result=True).check_ending("processed_matrix.h5ad")
