"""Commands that are methods: the same signature, the same answer, in every format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anndata
import pandas as pd
import pytest

import cellworker as cw
from cellworker.api.dataset import Dataset
from cellworker.cli.main import main
from cellworker.cli.methods import METHODS, docstring_parts
from cellworker.formats.common.half_written import is_stream


def run(*arguments: str | Path, capsys) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return status, printed.out, printed.err


@pytest.fixture(scope="module")
def dataset(sample: Path):
    with cw.open(sample) as opened:
        yield opened


@pytest.mark.parametrize("command", METHODS)
def test_help_names_every_argument_of_the_method(command: str, capsys) -> None:
    import inspect

    status, out, _ = run(command, "--help", capsys=capsys)
    assert status == 0
    for name, parameter in inspect.signature(getattr(Dataset, METHODS[command][0])).parameters.items():
        if name not in ("self", "path", "as_"):
            option = f"--{name.replace('_', '-')}"
            assert option in out or name.upper() in out or f"\n  {name}" in out, option
            if isinstance(parameter.default, str):
                assert f"(default: {parameter.default})" in " ".join(out.split())


def test_markers_are_those_of_python(sample: Path, dataset: Dataset, tmp_path: Path, capsys) -> None:
    assert run("markers", sample, "--by", "louvain", "--n", "3", "--out", tmp_path / "m.parquet", capsys=capsys)[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "m.parquet"), dataset.markers("louvain", n=3))


def test_a_comparison_takes_sets_by_place(sample: Path, dataset: Dataset, capsys) -> None:
    status, out, _ = run("compare", sample, "louvain-0", "louvain-1", "--format", "json", capsys=capsys)
    assert status == 0
    expected = dataset.compare("louvain-0", "louvain-1")
    assert [row["gene"] for row in json.loads(out)["rows"]] == expected["gene"].tolist()


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_text_tables(sample: Path, dataset: Dataset, tmp_path: Path, ending: str, capsys) -> None:
    file = tmp_path / f"e.{ending}"
    assert run("expression", sample, "LYZ", "CD3E", "--cells", "louvain-0", "--out", file, capsys=capsys)[0] == 0
    found = pd.read_csv(file, sep=None, engine="python", index_col="barcode")
    pd.testing.assert_frame_equal(
        found.astype("float32"), dataset.expression(["LYZ", "CD3E"], "louvain-0"), check_index_type=False
    )


def test_a_dash_is_standard_output(sample: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("expression", sample, "LYZ", "--out", "-", capsys=capsys)
    assert (status, out.splitlines()[0]) == (0, "barcode,LYZ")
    assert not list(tmp_path.glob("-*"))


def test_clusters_in_h5ad_are_a_column_of_the_whole_experiment(sample: Path, tmp_path: Path, capsys) -> None:
    assert run("cluster", sample, "--name", "mine", "--out", tmp_path / "c.h5ad", capsys=capsys)[0] == 0
    adata = anndata.read_h5ad(tmp_path / "c.h5ad")
    assert adata.n_obs == 548
    assert adata.obs["mine"].nunique() > 2


def test_a_table_in_h5ad_is_in_uns(sample: Path, tmp_path: Path, capsys) -> None:
    assert run("markers", sample, "--n", "1", "--out", tmp_path / "m.h5ad", capsys=capsys)[0] == 0
    assert list(anndata.read_h5ad(tmp_path / "m.h5ad").uns["markers"].columns[:2]) == ["group", "gene"]


def test_a_trajectory_is_two_tables(sample: Path, tmp_path: Path, capsys) -> None:
    assert run("trajectory", sample, "--out", tmp_path / "t.csv", capsys=capsys)[0] == 0
    assert list(pd.read_csv(tmp_path / "t-nodes.csv")) == ["x", "y"]
    assert list(pd.read_csv(tmp_path / "t-links.csv")) == ["from", "to"]


@pytest.mark.parametrize(("name", "begin"), [("d.h5ad", b"\x89HDF"), ("d.rds", b"\x1f\x8b")])
def test_an_experiment_is_downloaded(sample: Path, tmp_path: Path, name: str, begin: bytes, capsys) -> None:
    assert run("download", sample, "--out", tmp_path / name, capsys=capsys)[0] == 0
    assert (tmp_path / name).read_bytes().startswith(begin)
    status, _, err = run("download", sample, "--out", tmp_path / name, capsys=capsys)
    assert status == 1
    assert "force" in err


def test_expression_is_downloaded_for_chosen_cells(sample: Path, dataset: Dataset, tmp_path: Path, capsys) -> None:
    out = tmp_path / "d.csv"
    status = run("download", sample, "--kind", "expression", "--cells", "louvain-0", "--out", out, capsys=capsys)[0]
    assert status == 0
    with out.open() as file:
        barcodes = file.readline().strip().split(",")[2:]
    assert sorted(barcodes) == sorted(dataset.expression("LYZ", "louvain-0").index)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["markers", "{sample}", "--by", "leden"], 1, "--by: there is no class of cell sets 'leden'"),
        (["compare", "{sample}", "KO"], 1, "FIRST: 'KO' is no cell set"),
        (["embed", "{sample}", "--min-dist", "-1"], 1, "--min-dist: expected a number from 0, found -1"),
        (["download", "{sample}", "--out", "x.foo"], 1, "--out: expected a name that ends in .h5ad"),
        (["download", "{sample}", "--out", "x.csv"], 1, "--kind: x.csv is a name for a table: expected 'expression'"),
        (["download", "{sample}", "--out", "-", "--format", "csv"], 1, "--kind experiment as h5ad or rds or h5;"),
        (["download", "{sample}", "--out", "x.rds", "--format", "h5ad"], 1, "--format h5ad: the name in --out x.rds"),
        (["download", "{sample}", "--out", "-", "--format", "tsv"], 2, "'h5ad', 'rds', 'h5', 'csv'"),
        (["trajectory", "{sample}", "--out", "-"], 1, "2 tables (nodes, links): save them with --out FILE, or choose"),
        (["markers", "{sample}", "--out", "x.csv", "--format", "json"], 1, "--format json: the name in --out x.csv"),
        (["markers", "{sample}", "--out", "x.h5ad.gz"], 1, "--out x.h5ad.gz: .gz may follow text only"),
        (["trajectory", "/nowhere"], 1, "the result is 2 tables (nodes, links)"),
        (["download", "{sample}", "--out", __file__, "--kind", "expression"], 1, "a name that ends in .csv"),
        (["replay", "."], 1, ". holds no record of what made it"),
        (["submit", "ListGenes", "--url", "http://[::1"], 1, "--url http://[::1: expected http://HOST:PORT"),
        (["submit", "ListGenes", "--timeout", "-1"], 2, "--timeout: expected a number above 0, found '-1'"),
        (["convert", "{sample}", "x.h5ad", "--report", "./x.h5ad"], 1, "--report ./x.h5ad: that is the experiment's"),
        (["convert", "{sample}", "x.h5ad", "--report", "/nowhere/x"], 1, "--report /nowhere/x: there is no folder"),
        (["convert", "{sample}", "x.h5ad", "--report", "."], 1, "--report .: is a folder, name a file in it"),
        (["prepare", "{sample}", "--out", "x", "--mads", "-1"], 1, "prepare: mads: expected a number > 0.0;"),
        (["prepare", "/nope", "/no", "--out", "x"], 1, "cannot be prepared: (1) nope: found there is no file"),
        (
            ["call", "GetNormalizedExpression", "--format", "parquet"],
            1,
            "the result is a .csv file: leave out --format",
        ),
        (["markers", ""], 2, "argument FILE: expected a path, found ''"),
        (["markers", "{sample}", "--out", ""], 2, "argument --out: expected a path, found ''"),
        (["check", "{sample}", ""], 2, "argument PATH: expected a path, found ''"),
        (["markers", "/nowhere"], 2, "/nowhere"),
        (["compare", "{sample}"], 2, "FIRST"),
        (["embed", "{sample}", "--metric", "manhattan"], 2, "'cosine', 'euclidean'"),
        (["cluster", "{sample}", "--resolution", "fine"], 2, "--resolution: expected a number, found 'fine'"),
        (["cluster", "{sample}", "--resolution", "nan"], 2, "--resolution: expected a number, found 'nan'"),
        (["markers", "{sample}", "--n", "2.5"], 2, "argument --n: expected a whole number, found '2.5'"),
        (
            ["markers", "{sample}", "--grops", "x"],
            2,
            "cellworker markers: error: unrecognized arguments: --grops x; did",
        ),
        (["embed", "{sample}", "--perplexty=3"], 2, "did you mean --perplexity?"),
        (["tasks", "Clustercells"], 1, "TASK: there is no task 'Clustercells'; did you mean 'ClusterCells'?"),
        (["call", "x"], 1, "TASK: there is no task 'x'; 'cellworker tasks' lists them"),
        (["expression", "{sample}", "NOPE"], 1, "NOPE"),
        (["expression", "{sample}", "LYZ", "--out", "x.xlsx"], 1, ".h5ad"),
        (["expression", "{sample}", "LYZ", "--provenance"], 1, "standard output has no file beside it"),
        (["download", "{sample}"], 1, "--out"),
    ],
)
def test_mistakes_are_named(sample: Path, arguments: list[str], status: int, says: str, capsys) -> None:
    found, out, err = run(*(text.replace("{sample}", str(sample)) for text in arguments), capsys=capsys)
    assert (found, out) == (status, "")
    assert says in err
    assert "\\u000a" not in err


def test_a_file_that_is_there_is_replaced_by_an_option_of_the_line(sample: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "x.csv").touch()
    line = ("download", sample, "--kind", "expression", "--out", tmp_path / "x.csv")
    status, _, err = run(*line, capsys=capsys)
    assert (status, "choose another name, or --force." in err) == (1, True)
    assert run(*line, "--force", capsys=capsys)[0] == 0


def test_an_experiment_is_never_written_over_by_a_result_of_its_own(sample: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    file, sets, link = folder / "x.h5ad", folder / "x.cell_sets.json", tmp_path / "link.h5ad"
    assert run("convert", sample, file, capsys=capsys)[0] == 0
    link.symlink_to(file)
    before = file.read_bytes(), sets.read_bytes()
    body = ("--body", '{"limit": 1}')
    (tmp_path / "r.jsonl").write_text('{"name": "ListGenes"}')
    for line in (
        ("markers", file, "--out", link), ("markers", folder, "--out", file), ("cluster", link, "--out", file),
        ("download", file, "--out", file, "--force"), ("markers", file, "--format", "json", "--out", sets),
        ("call", "ListGenes", *body, "--experiment", file, "--format", "json", "--out", sets),
        ("call", "--requests", tmp_path / "r.jsonl", "--experiment", file, "--out", file),
    ):  # fmt: skip
        status, _, err = run(*line, capsys=capsys)
        assert (status, "that is the experiment itself: give another name" in err) == (1, True), (line, err)
    assert (file.read_bytes(), sets.read_bytes()) == before


@pytest.mark.parametrize("command", ["check", "markers"])
def test_the_folder_that_one_is_in_is_an_experiment_too(
    command: str, sample: Path, tmp_path, monkeypatch, capsys
) -> None:
    assert run("convert", sample, tmp_path / "x.zarr", capsys=capsys)[0] == 0
    for folder in (sample, tmp_path / "x.zarr"):
        monkeypatch.chdir(folder)
        status, out, err = run(command, ".", capsys=capsys)
        assert (status, bool(out)) == (0, True), err


def test_a_pipe_and_a_device_are_written_to_and_stay(sample: Path, tmp_path: Path, capsys) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status, _, err = run("markers", sample, "--n", 1, "--format", "csv", "--out", pipe, capsys=capsys)
        assert (status, err) == (0, "")
        assert os.read(reader, 5) == b"group"
        assert pipe.is_fifo()
        begun = "--provenance", "--format", "csv", "--out", pipe
        assert "no file beside it" in run("markers", sample, *begun, capsys=capsys)[2]
        assert "2 tables" in run("trajectory", sample, "--format", "csv", "--out", pipe, capsys=capsys)[2]
    finally:
        os.close(reader)
    os.mkfifo(tmp_path / "x.h5ad")
    status, _, err = run("convert", sample, tmp_path / "x.h5ad", "--force", capsys=capsys)
    assert (status, "that is a pipe or a device: name a file" in err) == (1, True)


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_what_the_system_has_opened_is_never_replaced(name: str) -> None:
    assert is_stream(Path(name))


def test_a_file_beside_which_one_can_write_is_no_stream(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to("there")
    assert not any(is_stream(tmp_path / name) for name in ("there", "not yet", "link", "."))


def test_times_are_reported_on_request(sample: Path, capsys) -> None:
    _, quiet, nothing = run("expression", sample, "LYZ", capsys=capsys)
    _, out, err = run("expression", sample, "LYZ", "-v", capsys=capsys)
    assert (nothing, out) == ("", quiet)
    assert [line.split(":")[0] for line in err.splitlines()] == ["opening", "expression", "writing"]


def test_a_docstring_is_split_into_its_parts() -> None:
    sections = "Parameters\n----------\na, b\n    Of both.\nc\n    Of one,\n    in two lines.\n\nReturns\n-------\nint"
    text = f"Do it.\n\n{sections}"
    assert docstring_parts(text) == ("Do it.", {"a": "Of both.", "b": "Of both.", "c": "Of one, in two lines."})


# ---- exit statuses into pipes


def shell(line: str, sample: Path) -> subprocess.CompletedProcess[str]:
    command = f"set -o pipefail; cw() {{ '{sys.executable}' -m cellworker.cli.main \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=False,
                          env={**os.environ, "SAMPLE": str(sample)})  # fmt: skip


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('cw compare "$SAMPLE" louvain-0 | head -1 > /dev/null', 0),
        ("cw tasks | head -1 > /dev/null", 0),
        ("cw call --help | true", 0),
        ("cw markers /nowhere 2>&1 | true", 2),
        ("cw dance 2>&1 | true", 2),
        ("cw tasks > /dev/full", 1),
        ('cw check "$SAMPLE" /nowhere | true', 2),
        ('cw check "$SAMPLE" /nowhere --json | true', 2),
        ("""printf '{"name":"GeneExpression","genes":["x"]}' | cw call --requests - | true""", 1),
        ('cw markers "$SAMPLE" --n 1 >&-', 1),
        ('cw markers "$SAMPLE" --n 1 2>&- | cat > /dev/null', 0),
        ("cw tasks nope >&- 2>&-", 1),
        ("cw dance 2>&-", 2),
        ("cw call ListGenes --body @- <&-", 1),
        ("cw call --requests - <&-", 1),
        ("""cw cluster "$SAMPLE" --name $'\\xff'""", 2),
        ("""cw submit ListGenes --url $'http://\\xff'""", 1),
    ],
)
def test_the_exit_status_is_the_same_for_any_reader_of_the_output(sample: Path, line: str, status: int) -> None:
    done = shell(line, sample)
    assert done.returncode == status
    said = done.stdout + done.stderr
    assert not any(word in said for word in ("Traceback", "Exception ignored", "a bug of cellworker"))
