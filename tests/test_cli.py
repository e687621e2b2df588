"""The command line: one sentence for each mistake, never a traceback, and exit statuses that scripts can use."""

import csv
import gzip
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cellworker
from cellworker.cli.main import main
from cellworker.settings import Settings

SAVED = '{"type": "umap", "useSaved": true}'
GENES = '{"genes": ["LYZ", "IL7R"]}'


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return status, printed.out, printed.err


def process(*arguments: str | Path, **more) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cellworker.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


# ---- as a whole


def test_the_version_is_that_of_the_package(capsys) -> None:
    assert run("--version", capsys=capsys) == (0, f"cellworker {cellworker.__version__}\n", "")
    assert run("version", capsys=capsys) == (0, f"cellworker {cellworker.__version__}\n", "")


def test_help_imports_nothing_that_takes_long() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "cellworker.cli.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "Answers the analysis requests" in done.stdout
    assert not imported & {"numpy", "aiohttp", "h5py", "msgspec", "asyncio", "orjson"}


@pytest.mark.parametrize("arguments", [[], ["dance"], ["call"], ["run", "--port", "x"], ["run", "--port", "70000"]])
def test_wrong_use_has_status_2_and_says_how(arguments: list[str], capsys) -> None:
    status, out, err = run(*arguments, capsys=capsys)
    assert (status, out) == (2, "")
    assert "usage: cellworker" in err


def test_a_setting_that_cannot_be_understood_is_refused_by_name(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PORT", "four thousand")
    status, _, err = run("settings", capsys=capsys)
    assert status == 1
    assert err == "INVALID_INPUT: environment variable PORT: expected a whole number, found 'four thousand'\n"


def test_a_bug_is_one_sentence_and_a_file_with_the_traceback(monkeypatch, capsys) -> None:
    def broken(options):
        raise ZeroDivisionError

    monkeypatch.setattr("cellworker.cli.commands.tasks.command", broken)
    status, _, err = run("tasks", capsys=capsys)
    assert status == 70
    assert err.startswith("PYTHON_WORKER_ERROR: an unexpected error (ZeroDivisionError)")
    assert err.count("\n") == 1
    log = Path(re.search(r"details are in (\S+),", err)[1])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()
    with pytest.raises(ZeroDivisionError):
        main(["tasks", "--debug"])


def test_ctrl_c_ends_quietly(monkeypatch, capsys) -> None:
    def interrupted(options):
        raise KeyboardInterrupt

    for place in ("commands.tasks.command", "main.parser_for"):
        with monkeypatch.context() as patched:
            patched.setattr(f"cellworker.cli.{place}", interrupted)
            assert run("tasks", capsys=capsys) == (130, "", "")


def test_a_reader_that_has_seen_enough_is_no_error(sample: Path) -> None:
    with process("call", "GetEmbedding", "--experiment", sample, "--body", SAVED) as child:
        child.stdout.close()
        assert child.stderr.read() == ""


# ---- settings and tasks


def test_settings_say_where_each_value_comes_from(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PORT", "4321")
    status, out, _ = run("settings", "--json", capsys=capsys)
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert (rows["PORT"]["value"], rows["PORT"]["origin"]) == (4321, "environment")
    assert rows["HOST"]["origin"] == "default"
    assert len(run("settings", capsys=capsys)[1].splitlines()) == len(rows)


def test_every_task_of_the_platform_is_listed(capsys) -> None:
    from cellworker.tasks.catalog import TASKS

    _, out, _ = run("tasks", "--json", capsys=capsys)
    rows = json.loads(out)
    assert [row["task"] for row in rows] == list(TASKS)
    assert run("tasks", capsys=capsys)[1].count("\n") == len(TASKS) >= 21


# ---- call


def call(task: str, *arguments: str | Path, sample: Path, capsys) -> tuple[int, str, str]:
    return run("call", task, "--experiment", sample, *arguments, capsys=capsys)


def test_a_result_is_printed_as_json(sample: Path, capsys) -> None:
    body = '{"orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 3}'
    status, out, err = call("ListGenes", "--body", body, sample=sample, capsys=capsys)
    result = json.loads(out)
    assert (status, err) == (0, "")
    assert len(result["gene_names"]) == 3
    assert result["total"] > 1000


def test_without_an_experiment_the_sample_answers(capsys) -> None:
    status, out, _ = run("call", "GetNGenes", capsys=capsys)
    assert status == 0
    assert len(json.loads(out)) > 100


def test_a_table_is_printed_as_csv(sample: Path, capsys) -> None:
    _, out, _ = call("GetEmbedding", "--body", SAVED, "--format", "csv", sample=sample, capsys=capsys)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["cell_id", "x", "y"]
    assert len(rows) > 100


def test_json_and_csv_hold_the_same_numbers(sample: Path, capsys) -> None:
    points = json.loads(call("GetEmbedding", "--body", SAVED, sample=sample, capsys=capsys)[1])
    text = call("GetEmbedding", "--body", SAVED, "--format", "csv", sample=sample, capsys=capsys)[1]
    for row in csv.DictReader(io.StringIO(text)):
        assert points[int(row["cell_id"])] == [float(row["x"]), float(row["y"])]


def test_several_tables_are_saved_side_by_side(sample: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "lyz.csv"
    assert call("GeneExpression", "--body", GENES, "--out", out, sample=sample, capsys=capsys)[:2] == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lyz-expression.csv", "lyz-genes.csv"]


def test_the_matrix_is_saved_as_it_is_or_unpacked(sample: Path, tmp_path: Path, capsys) -> None:
    body = '{"subsetBy": {"louvain": ["louvain-0"]}}'
    for name in ("m.csv.gz", "m.csv"):
        out = tmp_path / name
        assert call("GetNormalizedExpression", "--body", body, "--out", out, sample=sample, capsys=capsys)[0] == 0
    assert gzip.decompress((tmp_path / "m.csv.gz").read_bytes()) == (tmp_path / "m.csv").read_bytes()


def test_a_body_in_a_file_is_as_good(sample: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "body.json").write_text(GENES)
    status, out, _ = call("GeneExpression", "--body", f"@{tmp_path}/body.json", sample=sample, capsys=capsys)
    assert status == 0
    assert set(json.loads(out)["orderedGeneNames"]) == {"LYZ", "IL7R"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["GetNope"], "INVALID_INPUT: TASK: there is no task 'GetNope'"),
        (["GeneExpression"], "INVALID_INPUT: body.genes"),
        (["GeneExpression", "--body", '{"genes": 3}'], "INVALID_INPUT: body.genes"),
        (["GeneExpression", "--body", "{"], "INVALID_INPUT: --body: not JSON"),
        (["GeneExpression", "--body", '{"genes": ["NOPE"]}'], "R_WORKER_GENE_NOT_FOUND: Gene(s): NOPE not found!"),
        (["GetEmbedding", "--body", '{"type": "tsnee", "useSaved": true}'], "REDUCTION_NOT_FOUND: "),
        (["ListGenes", "--pagination", '{"limit": "x"}'], "INVALID_INPUT: --pagination"),
        (["ListGenes", "--pagination", '{"lmit": 3}'], "INVALID_INPUT: --pagination.lmit: ListGenes has no field"),
        (["ListGenes", "--body", '{"lmit": 3}'], "INVALID_INPUT: body.lmit: ListGenes has no field 'lmit'"),
        (["ListGenes", "--out", "/nowhere/x.csv"], "INVALID_INPUT: --out /nowhere/x.csv: there is no folder"),
    ],
)
def test_a_refused_request_has_status_1_and_one_sentence(arguments, expected: str, capsys) -> None:
    status, out, err = run("call", *arguments, capsys=capsys)
    assert (status, out) == (1, "")
    assert err.startswith(expected)
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["call", "GetNUmis", "--experiment"], ["engine"], ["run"], ["check"]])
def test_an_experiment_that_is_not_there_has_status_2(command: list[str], capsys) -> None:
    status, out, err = run(*command, "/nowhere/at/all", capsys=capsys)
    assert status == 2
    assert "/nowhere/at/all" in out + err


def test_a_file_that_is_no_experiment_has_status_2_and_leaves_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "r.rds").write_bytes(b"hello" * 100)
    out = tmp_path / "x.json"
    status, _, err = call("GetNUmis", "--out", out, sample=tmp_path, capsys=capsys)
    assert status == 2
    assert err.startswith("EXPERIMENT_UNREADABLE: ")
    assert [path.name for path in tmp_path.iterdir()] == ["r.rds"]


def test_a_full_disk_is_reported_in_words_and_leaves_nothing(sample: Path, monkeypatch, tmp_path: Path, capsys) -> None:
    def full(_):
        raise OSError(28, "No space left on device", str(tmp_path / "x.json"))

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = call("GetNUmis", "--out", tmp_path / "x.json", sample=sample, capsys=capsys)
    assert status == 1
    assert err == f"DISK_FULL: there is no space left for {tmp_path}/x.json\n"
    assert list(tmp_path.iterdir()) == []


# ---- check


def test_check_says_what_is_in_an_experiment(sample: Path, capsys) -> None:
    status, out, _ = run("check", sample, capsys=capsys)
    assert status == 0
    assert "can be served" in out
    assert "548" in out


def test_check_speaks_json(sample: Path, tmp_path: Path, capsys) -> None:
    report = json.loads(run("check", "--json", sample, capsys=capsys)[1])
    assert report["status"] == 0
    (tmp_path / "r.rds").write_bytes(b"hello")
    status, out, _ = run("check", "--json", tmp_path, capsys=capsys)
    assert status == json.loads(out)["status"] == 2
    assert json.loads(out)["problems"]


# ---- processes that listen


@contextmanager
def worker(command: str, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server, and wait until it has said where it listens and that it is ready."""
    child = process(command, *arguments, "--port", "0")
    try:
        lines = iter(child.stdout.readline, "")
        url = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        next(line for line in lines if re.search(r"cells|Ready", line))
        yield child, url
    finally:
        if child.poll() is None:
            child.terminate()
        child.communicate(timeout=60)


def test_run_answers_submit_and_ends_with_stop(capsys) -> None:
    with worker("run") as (child, url):
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            health = json.load(answer)
        assert (health["status"], health["experimentId"]) == ("up", "sample")
        body = '{"orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 3}'
        status, asked, err = run("submit", "ListGenes", "--url", url, "--body", body, capsys=capsys)
        assert (status, err) == (0, "")
        assert asked == run("call", "ListGenes", "--body", body, capsys=capsys)[1]
        again = run("submit", "ListGenes", "--url", url, "--body", body, capsys=capsys)
        assert again[:2] == (0, asked)
        status, _, err = run("submit", "GeneExpression", "--url", url, "--body", '{"genes": ["NOPE"]}', capsys=capsys)
        assert (status, err) == (1, "R_WORKER_GENE_NOT_FOUND: Gene(s): NOPE not found!\n")
        port = url.rsplit(":", 1)[1]
        status, _, err = run("run", "--port", port, capsys=capsys)
        assert status == 1
        assert f"port {port}" in err
        assert "request answered" in (Settings.from_environment().data_dir / ".run" / f"{port}.log").read_text()
        assert run("stop", "--port", port, capsys=capsys)[:2] == (0, f"Stopped the worker on port {port}.\n")
        assert child.wait(timeout=60) == 0
        assert "No worker" in run("stop", "--port", port, capsys=capsys)[1]


def test_a_file_result_comes_through_submit(tmp_path: Path, capsys) -> None:
    body = '{"subsetBy": {"louvain": ["louvain-1"]}}'
    with worker("run") as (_, url):
        arguments = ["GetNormalizedExpression", "--body", body]
        assert run("submit", *arguments, "--url", url, "--out", tmp_path / "a.csv", capsys=capsys)[0] == 0
    run("call", *arguments, "--out", tmp_path / "b.csv", capsys=capsys)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_engine_serves_and_ends_in_order(number: int, sample: Path) -> None:
    with worker("engine", sample) as (child, url):
        request = urllib.request.Request(
            f"{url}/v0/getNUmis", data=b"{}", headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert len(json.load(answer)["data"]) > 100
        child.send_signal(number)
        assert child.wait(timeout=60) == 0


def test_a_port_that_is_taken_is_reported_in_words(sample: Path, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["run"], ["engine", sample]):
            status, _, err = run(*command, "--port", str(port), capsys=capsys)
            assert status == 1
            assert str(port) in err


def test_submit_reports_that_no_worker_listens(capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    status, _, err = run("submit", "GetNUmis", "--url", f"http://127.0.0.1:{port}", capsys=capsys)
    assert status == 1
    assert "cellworker run" in err
    assert "expected http" in run("submit", "GetNUmis", "--url", "ftp://x", capsys=capsys)[2]
