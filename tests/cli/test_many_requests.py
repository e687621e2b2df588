"""Many requests on one opening; several experiments checked; a task explained."""

import json
from pathlib import Path

import pytest

from cellworker.cli.main import main
from cellworker.cli.task_methods import METHODS_OF_TASKS
from cellworker.tasks.catalog import TASKS


def run(*arguments: str | Path, capsys) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return status, printed.out, printed.err


LIST = {"name": "ListGenes", "limit": 2}


def test_each_line_is_answered_in_order_with_the_wires_bytes(sample: Path, tmp_path: Path, capsys) -> None:
    lines = [LIST, {"body": LIST, "pagination": None}, {"name": "GetNUmis"}]
    (tmp_path / "r.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    status, out, _ = run("call", "--experiment", sample, "--requests", tmp_path / "r.jsonl", capsys=capsys)
    answers = [json.loads(line) for line in out.splitlines()]
    alone = json.loads(run("call", "ListGenes", "--experiment", sample, "--body", '{"limit": 2}', capsys=capsys)[1])
    assert status == 0
    assert [(answer["line"], answer["name"]) for answer in answers] == [
        (1, "ListGenes"),
        (3, "ListGenes"),
        (5, "GetNUmis"),
    ]
    assert answers[0]["result"] == answers[1]["result"] == alone


def test_one_that_fails_does_not_stop_the_others(sample: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "r.jsonl").write_text(
        '{"name": "GeneExpression", "genes": ["NOPE"]}\n{"name": "ListGenes", "limit": 1}\n'
    )
    out = tmp_path / "answers.jsonl"
    command = ("call", "--experiment", sample, "--requests", tmp_path / "r.jsonl", "--out", out)
    assert run(*command, capsys=capsys)[:2] == (1, "")
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["error"]["code"] == "R_WORKER_GENE_NOT_FOUND"
    assert second["result"]["total"] > 1


@pytest.mark.parametrize(
    ("out", "says"),
    [("/nowhere/x", "--out /nowhere/x: there is no folder /nowhere"), (".", "--out .: is a folder, name a file in it")],
)
def test_a_place_where_nothing_can_be_written_is_refused(out: str, says: str, sample: Path, tmp_path, capsys) -> None:
    (tmp_path / "r.jsonl").write_text('{"name": "ListGenes", "limit": 1}\n')
    command = ("call", "--experiment", sample, "--requests", tmp_path / "r.jsonl", "--out", out)
    status, _, err = run(*command, capsys=capsys)
    assert (status, says in err) == (1, True), err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "ListGenes"}\n{"limit": 3}', "line 2: expected a body with a name"),
        ('{"name": "ListGenes"}\n{', "line 2: not JSON"),
        ('{"name": "ListGenes", "limit": -1}', "line 1: body.limit"),
        ('{"name": "ListGenes", "lmit": 1}', "line 1: body.lmit: ListGenes has no field 'lmit'"),
        ('{"name": "Dance"}', "line 1: "),
        ('{"name": "GetNormalizedExpression"}', "is a file; ask for it alone"),
        ('{"body": {"name": "ListGenes"}, "pagination": 3}', "line 1: pagination"),
        ("\n", "holds no request"),
    ],
)
def test_a_line_that_cannot_be_asked_is_named_before_anything_is_opened(
    tmp_path: Path, text: str, says: str, capsys
) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    command = ("call", "--experiment", "/nowhere", "--requests", tmp_path / "r.jsonl")
    status, out, err = run(*command, capsys=capsys)
    assert (status, out) == (1, "")
    assert says in err


@pytest.mark.parametrize("arguments", [["call"], ["call", "ListGenes", "--requests", "x"]])
def test_one_request_or_many_but_not_neither_nor_both(arguments: list[str], capsys) -> None:
    status, _, err = run(*arguments, capsys=capsys)
    assert status == 2
    assert "usage: cellworker call" in err


def test_several_experiments_are_checked_and_the_worst_is_the_status(sample: Path, tmp_path: Path, capsys) -> None:
    status, out, _ = run("check", sample, tmp_path / "nothing.h5ad", sample, capsys=capsys)
    assert status == 2
    assert out.count("can be served\n") == 2
    assert [line for line in out.splitlines() if line.startswith("== ")] == [
        f"== {sample}", f"== {tmp_path / 'nothing.h5ad'}", f"== {sample}"
    ]  # fmt: skip
    reports = json.loads(run("check", sample, sample, "--json", capsys=capsys)[1])
    assert len(reports) == 2
    assert reports[0] == reports[1]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_explained(name: str, capsys) -> None:
    status, out, _ = run("tasks", name, capsys=capsys)
    facts = json.loads(run("tasks", name, "--json", capsys=capsys)[1])
    assert status == 0
    assert METHODS_OF_TASKS[name].words in " ".join(out.split())
    assert all(field["name"] in out and field["type"] in out for field in facts["fields"])
    assert "contract" not in out


def test_the_methods_of_every_task_are_known() -> None:
    assert set(METHODS_OF_TASKS) == set(TASKS)


def test_an_unknown_task_is_refused(capsys) -> None:
    status, _, err = run("tasks", "ListGene", capsys=capsys)
    assert status == 1
    assert "ListGene" in err
