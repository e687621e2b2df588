"""Typed columns at the door of the real local run: chosen by Accept, answered at once, with the errors of all tasks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from tests.column_reader import decode_columns

from cellworker import open_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import write_cells
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.core.question import Question
from cellworker.local import server
from cellworker.local.columns import ColumnAnswers
from cellworker.local.experiment import LocalExperiment
from cellworker.local.run import start_local
from cellworker.local.server import Served
from cellworker.protocol.columns import MEDIA_TYPE
from cellworker.sample import sample_path
from cellworker.settings import Settings
from cellworker.tasks.catalog import find
from cellworker.tasks.common import sent_cells

WAIT_S = 60


@dataclass
class Door:
    url: str
    session: aiohttp.ClientSession

    async def ask(self, body: dict[str, Any], accept: str = MEDIA_TYPE, **more: Any) -> tuple[int, str, bytes]:
        async with self.session.post(self.url, json={"body": body, **more}, headers={"Accept": accept}) as answer:
            return answer.status, answer.content_type, await answer.read()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    settings = Settings(data_dir=tmp_path, store_dir=tmp_path / "stores", port=0)
    async with start_local(None, settings) as run, aiohttp.ClientSession() as session:
        await run.ready()
        yield Door(f"{run.url}/v2/workRequest/{run.experiment_id}", session)


async def test_many_cells_of_a_test_reach_the_engine(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    louvain = open_experiment(sample_path()).cell_sets.find_class("louvain")
    assert louvain is not None
    body = {"name": "DifferentialExpression", "cellSet": louvain.children[0].key, "compareWith": "rest", "basis": "all"}
    few = await door.ask(body)
    monkeypatch.setattr(sent_cells, "_MANY", 1)
    many = await door.ask(body)
    assert many == few
    assert many[:2] == (200, MEDIA_TYPE)


async def test_answers_are_those_of_python(door: Door) -> None:
    opened = open_experiment(sample_path())
    gene, column = opened.experiment.genes.names[0], "orig.ident"
    bodies = [
        {"name": "GeneExpression", "genes": [gene]},
        {"name": "GetCellColumn", "column": column},
        {"name": "GetEmbedding", "type": "umap", "useSaved": True},
        {"name": "GetNGenes"},
        {"name": "ScoreGenes", "genes": opened.experiment.genes.names[:3], "method": "scanpy"},
    ]
    for body in bodies:
        status, kind, content = await door.ask(body)
        assert (status, kind) == (200, MEDIA_TYPE), content
        table = decode_columns(content)
        assert table.columns
        assert table.facts["byCell"] is True
    assert (await door.ask(bodies[0]))[2] == (await door.ask(bodies[0]))[2]
    scores = decode_columns(content).columns["score"].values
    wanted = opened.call("ScoreGenes", genes=bodies[-1]["genes"], method="scanpy")["columns"][0]["values"]
    assert np.array_equal(scores, np.array(wanted, np.float64), equal_nan=True)


async def test_a_batch_of_comparisons_is_one_answer_with_a_table_for_each(door: Door) -> None:
    opened = open_experiment(sample_path())
    classes = {item.name: [child.key for child in item.children] for item in opened.cell_sets.classes}
    for kind, (first, second) in (("within", classes["louvain clusters"][:2]), ("between", classes["Group"])):
        asked = {"cellSet": [first], "compareWith": "rest", "basis": [second, "all", "all"], "comparisonType": kind}
        status, media, content = await door.ask({"name": "BatchDifferentialExpression", **asked})
        assert (status, media) == (200, MEDIA_TYPE), content
        table = decode_columns(content)
        none, *wanted = opened.call("BatchDifferentialExpression", **asked)
        assert isinstance(none["data"], str)
        assert table.facts["totals"] == [None, *(item["total"] for item in wanted)]
        for i, item in enumerate(wanted, start=1):
            for name in ("gene_names", "Gene"):
                own = table.columns.get(f"{i}/{name}", table.columns[f"1/{name}"])
                assert own.texts == item["data"][name]
            for name in ("p_val", "logFC"):
                values = [None if np.isnan(v) else v for v in table.columns[f"{i}/{name}"].values.tolist()]
                assert values == item["data"][name]
    assert "2/gene_names" in table.columns, "tables of samples have orders of their own"


async def test_columns_that_took_long_are_stored(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STORED_AFTER_S", 0.0)
    config = {"perplexity": 7, "learningRate": 211}
    body = {"name": "GetEmbedding", "type": "tsne", "useSaved": False, "config": config}
    first = await door.ask(body)
    assert first[1] == MEDIA_TYPE
    stored = [path for path in (tmp_path / ".results").iterdir() if not path.name.endswith(".json")]
    assert [path.read_bytes() for path in stored] == [first[2]]
    monkeypatch.setattr(ColumnAnswers, "answer", None)
    assert await door.ask(body) == first, "read, not computed"


async def test_columns_of_an_experiment_that_was_replaced_meanwhile_are_not_stored(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STORED_AFTER_S", 0.0)
    answer, served = ColumnAnswers.answer, LocalExperiment.served

    async def another(source: LocalExperiment) -> Served:
        return replace(await served(source), key="another")

    async def answered_late(*args: Any) -> bytes:
        content = await answer(*args)
        monkeypatch.setattr(LocalExperiment, "served", another)
        return content

    monkeypatch.setattr(ColumnAnswers, "answer", answered_late)
    body = {"name": "GetEmbedding", "type": "tsne", "useSaved": False, "config": {"perplexity": 7, "learningRate": 211}}
    assert (await door.ask(body))[1] == MEDIA_TYPE
    assert not [*(tmp_path / ".results").glob("*")]


async def test_a_selection_is_compared_with_the_rest(door: Door) -> None:
    opened = open_experiment(sample_path())
    cells = write_cells(opened.experiment.cell_ids[:100])
    body = {"cellSet": cells, "compareWith": "background", "basis": "all", "comparisonType": "within"}
    status, kind, content = await door.ask({"name": "DifferentialExpression", **body})
    assert (status, kind) == (200, MEDIA_TYPE), content
    table = decode_columns(content)
    wanted = opened.call("DifferentialExpression", **body)["data"]
    assert table.columns["gene_names"].texts == wanted["gene_names"]
    assert table.columns["p_val"].values.tolist() == wanted["p_val"]
    assert table.facts["total"] == len(wanted["Gene"])
    page = {"orderBy": "logFC", "orderDirection": "DESC", "offset": 0, "limit": 5, "filters": []}
    _, _, content = await door.ask({"name": "DifferentialExpression", **body}, requestProps={"pagination": page})
    few = decode_columns(content).columns["logFC"].values
    assert few.tolist() == np.sort(np.array(wanted["logFC"], np.float64))[::-1][:5].tolist()


async def test_who_does_not_ask_for_columns_gets_none(door: Door) -> None:
    for body, accept in (({"name": "GetNGenes"}, "*/*"), ({"name": "ListCellColumns"}, MEDIA_TYPE)):
        status, kind, content = await door.ask(body, accept)
        assert (status, kind) == (200, "application/json")
        assert "ETag" in json.loads(content)["data"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "GetCellColumn", "column": "nope"}, ErrorCode.R_WORKER_COLUMN_NOT_FOUND),
        ({"name": "GeneExpression", "genes": ["nope"]}, ErrorCode.R_WORKER_GENE_NOT_FOUND),
        ({"name": "DifferentialExpression", "cellSet": "ranges:2-1", "compareWith": "rest"}, ErrorCode.INVALID_INPUT),
    ],
)
async def test_a_refusal_is_the_tasks_own_in_the_form_of_its_event(
    door: Door, body: dict[str, Any], code: ErrorCode
) -> None:
    status, kind, content = await door.ask(body)
    assert (status, kind) == (200, "application/json")
    told = json.loads(content)["response"]
    assert (told["error"], told["errorCode"]) == (True, code)
    assert any(word in told["userMessage"] for word in ("body.", "not found", "cellSet: expected"))


async def test_a_malformed_request_is_refused_as_without_columns(door: Door) -> None:
    status, _, content = await door.ask({"name": "GetCellColumn"})
    assert status == 400
    assert json.loads(content)["message"].startswith("body.column:")


class _Never:
    """A computation that does not come to an end unless it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.begun = 0

    async def compute(self, *_: Any) -> bytes:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""


GENES = Question.of({"name": "GetNGenes"}, "GetNGenes", find)


class _Sets:
    async def read(self, experiment_id: str) -> bytes:
        return CellSets.empty().encode()


class _SlowSets(_Sets):
    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def read(self, experiment_id: str) -> bytes:
        self.asked.set()
        await self.go.wait()
        return await super().read(experiment_id)


COMPARED = {"cellSet": "ranges:0-1", "compareWith": "ranges:2-3", "basis": "all", "comparisonType": "within"}


@pytest.fixture
def never() -> _Never:
    return _Never()


def _answers(never: _Never, grace_s: float) -> ColumnAnswers:
    return ColumnAnswers("e", never.compute, _Sets(), None, grace_s=grace_s)  # type: ignore[arg-type]


async def _refused(asked: Awaitable[bytes]) -> None:
    with pytest.raises(WorkerError) as caught:
        async with asyncio.timeout(WAIT_S):
            await asked
    assert caught.value.code is ErrorCode.REQUEST_CANCELLED


async def test_who_hangs_up_for_good_cancels_the_computation(never: _Never) -> None:
    await _refused(_answers(never, grace_s=0.01).answer(GENES, None, lambda: True))
    async with asyncio.timeout(WAIT_S):
        await never.cancelled.wait()


async def test_who_comes_back_or_asks_the_same_waits_for_the_same_computation(never: _Never) -> None:
    answers = _answers(never, grace_s=WAIT_S)
    await _refused(answers.answer(GENES, None, lambda: True))
    assert not never.cancelled.is_set()
    pages = [asyncio.create_task(answers.answer(GENES, None, name=name)) for name in ("one", "two")]
    async with asyncio.timeout(WAIT_S):
        while not answers.cancel("two"):
            await asyncio.sleep(0)
    await _refused(pages[1])
    assert not never.cancelled.is_set(), "the other page still waits"
    assert answers.cancel("one")
    await _refused(pages[0])
    async with asyncio.timeout(WAIT_S):
        await never.cancelled.wait()
    assert never.begun == 1
    assert not answers.cancel("one"), "nobody of that name waits"


async def test_who_cancels_while_the_cell_sets_are_read_is_not_computed_for(never: _Never) -> None:
    sets = _SlowSets()
    question = Question.of({"name": "DifferentialExpression", **COMPARED}, "DifferentialExpression", find)
    answers = ColumnAnswers("e", never.compute, sets, None)  # type: ignore[arg-type]
    asked = asyncio.create_task(answers.answer(question, None, name="one"))
    async with asyncio.timeout(WAIT_S):
        await sets.asked.wait()
    assert answers.cancel("one")
    sets.go.set()
    await _refused(asked)
    assert never.begun == 0
    assert not answers.cancel("one"), "nobody of that name waits"


async def test_who_asks_the_same_of_another_experiment_waits_for_another_computation(never: _Never) -> None:
    answers = _answers(never, grace_s=WAIT_S)
    for key in ("a file", "the file in its place", "a file"):
        await _refused(answers.answer(GENES, None, lambda: True, experiment_key=key))
    assert never.begun == 2
    answers.close()


async def test_what_nobody_came_back_for_ends_with_the_door(never: _Never) -> None:
    answers = _answers(never, grace_s=WAIT_S)
    await _refused(answers.answer(GENES, None, lambda: True))
    answers.close()
    async with asyncio.timeout(WAIT_S):
        await never.cancelled.wait()
