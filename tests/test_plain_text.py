"""Nothing in a file can change how a terminal or a log shows it."""

import ast
import json
import logging
import os
import pty
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellworker
from cellworker.cli.main import main
from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import configure, log
from cellworker.plain_text import as_html, one_line, shown
from cellworker.preparing.figures import histogram, scatter
from cellworker.preparing.report import _table
from cellworker.settings import Settings

HOSTILE = [
    "\x1b[2J\x1b[31mred", "a\rforged", "two\nlines: can be served", "tab\tbed", "bell\x07", "del\x7f", "csi\x9b31m",
    "\u202eright to left", "\u2066isolate\u2069", "\u2028separator", "hidden\u200b", "\ufeffmark", "tag\U000e0041",
]  # fmt: skip


def steers(text: str, *, breaks: str = "") -> list[str]:
    """The characters in it that a terminal obeys or hides."""
    harmless = {*breaks, "\u200c", "\u200d"}
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in harmless]


@given(st.text() | st.sampled_from(HOSTILE))
def test_shown_text_has_nothing_that_steers_and_what_is_plain_stays(text: str) -> None:
    assert steers(one_line(text)) == []
    assert steers(shown(text), breaks="\n") == []
    assert one_line(one_line(text)) == one_line(text)
    plain = "".join(c for c in text if unicodedata.category(c)[0] not in "CZ" or c == " ")
    assert one_line(plain) == shown(plain) == plain


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_shown_json_document_is_the_same_document(value: object) -> None:
    assert json.loads(shown(json.dumps(value, ensure_ascii=False))) == value


def test_commands_speak_in_one_way_only(root: Path) -> None:
    speaking = set()
    for path in (root / "src").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(isinstance(node.func, ast.Name) and node.func.id == "print" for node in calls):
            speaking.add(path.name)
    assert speaking == {"plain_text.py"}


def test_pages_are_written_in_one_way_only(root: Path) -> None:
    escaping = set()
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "html":
                escaping.add(path.name)
            if isinstance(node, ast.Import) and any(item.name == "html" for item in node.names):
                escaping.add(path.name)
    assert escaping == {"plain_text.py"}


@pytest.mark.parametrize("name", [*HOSTILE, "<b>&\"'\x1b"])
def test_nothing_steers_in_a_page_or_in_an_error_of_python(name: str) -> None:
    assert steers(as_html(name), breaks="\n") == []
    assert not {"<", '"', "'"} & set(as_html(name))
    error = WorkerError(ErrorCode.INVALID_INPUT, f"genes: there is no gene {name}.")
    assert steers(str(error)) == []
    assert error.message == f"genes: there is no gene {name}."


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AnnData file in which every name steers."""
    import anndata
    import pandas as pd

    n = len(HOSTILE)
    rng = np.random.default_rng(3)
    obs = pd.DataFrame({"leiden": pd.Categorical([HOSTILE[i % 3] for i in range(2 * n)])})
    for name in HOSTILE:
        obs[name] = pd.Categorical([name, "b"] * n)
    obs.index = [f"{name}{i}" for i in range(2) for name in HOSTILE]
    data = anndata.AnnData(rng.poisson(2.0, (2 * n, n)).astype(np.float32), obs, pd.DataFrame(index=HOSTILE))
    data.obsm["X_\x1b[2J"] = data.obsm["X_umap"] = rng.normal(size=(2 * n, 2))
    path = tmp_path_factory.mktemp("hostile") / "a\x1b[31m.h5ad"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path)
    return path


def test_no_command_prints_what_steers(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    commands = [
        ["check", str(hostile)],
        ["check", "--json", str(hostile)],
        ["convert", "--quiet", str(hostile), str(tmp_path / "b\x1b[2J.zarr")],
        ["convert", "--quiet", str(hostile), str(tmp_path / "b\x07.xyz")],
        ["check", str(hostile.with_name("missing\x9b"))],
        ["call", "GeneExpression", "--quiet", "--experiment", str(hostile), "--body", '{"genes": ["\\u001b[2J"]}'],
        ["call", "GetEmbedding", "--quiet", "--experiment", str(hostile), "--body", '{"type": "\\u001b[2J"}'],
    ]
    for command in commands:
        main(command)
        printed = capsys.readouterr()
        assert steers(printed.out + printed.err, breaks="\n") == [], command
        said += printed.out + printed.err
    for name in HOSTILE:
        assert one_line(name) in said
    # A line break in a name begins no line.
    assert not any(line.startswith("lines: can be served") for line in said.splitlines())


def test_what_a_notebook_shows_of_an_experiment_does_not_steer(hostile: Path, tmp_path: Path) -> None:
    with cellworker.open(hostile, settings=Settings(store_dir=tmp_path / "stores", make_missing=False)) as dataset:
        shown_there = [repr(dataset), dataset._repr_html_()]
        assert [steers(text) for text in shown_there] == [[], []]
        assert "\\u001b[2J" in shown_there[1]
        with pytest.raises(WorkerError) as told:
            dataset.expression(["nothing\x1b[2J"])
    assert steers(str(told.value)) == []


def test_pictures_and_tables_of_the_report_of_prepare_do_not_steer() -> None:
    points, codes = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40, dtype=np.int32) % len(HOSTILE)
    pages = [
        _table(HOSTILE, [HOSTILE]),
        *(histogram(name, points[:, 0], [(name, 0.0)]) for name in HOSTILE),
        scatter(HOSTILE[0], points, codes, HOSTILE),
    ]
    for page in pages:
        assert steers(page, breaks="\n") == []


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_at_a_terminal_is_shown_and_a_file_is_exact(hostile: Path, tmp_path: Path, form: str) -> None:
    body = json.dumps({"orderBy": "gene_names", "orderDirection": "ASC", "offset": 0, "limit": 50})
    command = [
        sys.executable,
        "-m",
        "cellworker.cli.main",
        "call",
        "ListGenes",
        "--quiet",
        "--experiment",
        str(hostile),
    ]
    command += ["--body", body, "--format", form]
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        try:
            done = subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, check=False)
        finally:
            os.close(theirs)
        seen = b""
        while chunk := _rest(terminal.fileno()):
            seen += chunk
    assert done.returncode == 0
    text = seen.decode().replace("\r\n", "\n")
    assert steers(text, breaks="\n") == []
    assert "\\u001b[2J\\u001b[31mred" in text
    exact = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    if form == "csv":
        assert "\x1b[2J\x1b[31mred" in exact
    else:
        assert set(json.loads(exact)["gene_names"]) >= {"\x1b[2J\x1b[31mred", "a\rforged"}


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so at the end
        return b""


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("name", HOSTILE)
def test_logs_show_it_as_text(style: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", style=style)  # type: ignore[arg-type]
    logger = logging.getLogger("test")
    log(logger, logging.INFO, "opened", path=name, more={"names": [name]})
    logger.warning("the process that reads files said: %s", name)
    log(logger, logging.ERROR, "failed", error=ValueError(name))
    printed = capsys.readouterr().err
    assert steers(printed, breaks="\n") == []
    if style == "json":
        assert json.loads(printed.splitlines()[0])["path"] == name
    else:
        assert [line for line in printed.splitlines() if line.startswith("lines:")] == []
