"""The whole local run: real processes, a real experiment, an orderly end, and no secret anywhere."""

import asyncio
import gzip
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.reader import read_rds
from cellworker.local.door.admission import split_token
from cellworker.local.experiment import find_experiment
from cellworker.local.run import LocalRun, run_local, start_local
from cellworker.local.submit import submit_async
from cellworker.settings import Settings
from cellworker.tasks.catalog import find

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from memory import who_knows  # noqa: E402
from model_endpoint import listening  # noqa: E402

from .conftest import Listener  # noqa: E402

WAIT_S = 60
OPAQUE = "sesame-of-a-user-0123456789"
TOKEN = f"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.{OPAQUE}"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: the sample is read once."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def language_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of a language model on this machine."""
    monkeypatch.syspath_prepend(str(TESTS / "stand_ins"))
    with listening() as endpoint:
        yield endpoint.url


@pytest.fixture
def settings(stores: Path, tmp_path: Path, language_model: str) -> Settings:
    table = tmp_path / "markers.json"
    table.write_text('{"Immune system": {"positive": {"T": ["CD3D", "CD3E"], "B": ["MS4A1", "CD79A"], "M": ["LYZ"]}}}')
    pinned = f"{table}#sha256={hashlib.sha256(table.read_bytes()).hexdigest()}"
    return Settings(
        port=0, data_dir=tmp_path / "data", store_dir=stores, sctype_table=pinned,
        short_workers=1, long_workers=1, threads=1, cassia_url=language_model, cassia_model="some-model",
    )  # fmt: skip


@pytest.fixture
async def run(settings: Settings, sample: Path) -> AsyncIterator[LocalRun]:
    async with start_local(None, settings) as started:
        await started.ready()
        yield started


def everything_under(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


# A language model and a table of marker genes are not on every machine; both have tests of their own.
ELSEWHERE = {"CASSIAAnnotate", "ScTypeAnnotate"}


async def test_the_sample_answers_every_task(run: LocalRun, tmp_path: Path) -> None:
    served = await run.ready()
    assert served.summary["cells"] > 100
    answered = []
    for name, body in served.examples.items():
        if name in ELSEWHERE or find(name).ours:
            continue
        got = await submit_async(run.url, body, folder=tmp_path)
        answered.append(name)
        if got.file:
            start = b"X\n" if name == "DownloadAnnotSeuratObject" else b", ,"
            assert gzip.decompress(got.file.read_bytes()).startswith(start)
    assert len(answered) + len(ELSEWHERE) == 21


async def test_the_annotated_object_holds_the_embedding_that_was_computed_before(run: LocalRun, tmp_path: Path) -> None:
    embedding = await submit_async(run.url, {"name": "GetEmbedding", "type": "pca"})
    body = {"name": "DownloadAnnotSeuratObject", "embeddingMethod": "tsne"}
    got = await submit_async(run.url, {**body, "embeddingETag": embedding.etag}, folder=tmp_path)
    assert got.file
    reductions = read_rds(got.file, tmp_path).root.slots["reductions"]  # type: ignore[union-attr]
    pca, tsne = (reductions.get(name).slots["cell.embeddings"].values for name in ("pca", "tsne"))  # type: ignore[union-attr]
    np.testing.assert_allclose(tsne, pca[: len(tsne)], rtol=1e-6)
    with pytest.raises(WorkerError, match="embeddingETag"):
        await submit_async(run.url, {**body, "embeddingETag": "f" * 32})


async def test_a_new_cell_set_of_the_sample_is_kept_in_the_users_data_folder(
    run: LocalRun, tmp_path: Path, sample: Path
) -> None:
    before = (sample / "cell_sets.json").read_bytes()
    body = (await run.ready()).examples["GetExpressionCellSets"]
    await submit_async(run.url, body)
    async with aiohttp.ClientSession() as session, session.get(f"{run.url}/v2/experiments/sample/cellSets") as response:
        classes = (await response.json())["cellSets"]
    (scratchpad,) = (item for item in classes if item["key"] == "scratchpad")
    assert scratchpad["children"][-1]["name"] == f"{body['genesConfig'][0]['geneName']}>0.5"
    assert (sample / "cell_sets.json").read_bytes() == before
    (kept,) = (tmp_path / "user" / "home" / "cellworker").iterdir()
    assert kept.name.startswith("r.rds-")
    assert json.loads(kept.read_bytes())["own"][0]["key"] == "scratchpad"
    assert not sample.joinpath("r.rds.cellworker.json").exists()


async def test_a_second_run_answers_from_what_the_first_stored(settings: Settings, sample: Path) -> None:
    body = {"name": "ListGenes", "limit": 2}
    async with start_local(None, settings) as run:
        first = await submit_async(run.url, body)
    async with start_local(None, settings) as run:
        again = await submit_async(run.url, body)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.content == again.content


async def test_running_ends_when_asked_and_says_where_it_listens(
    settings: Settings, sample: Path, listener: Listener
) -> None:
    async with asyncio.timeout(WAIT_S):
        assert await run_local(None, settings, say=listener, stop=listener.stop) == 0
    assert "http://127.0.0.1:" in listener.said[0]
    assert "cells x" in listener.said[1]


async def test_an_experiment_that_cannot_be_read_ends_the_run_with_its_reason(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "r.rds").write_bytes(b"this is no object")
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(WorkerError) as told:
            await run_local(tmp_path / "broken", settings, say=lambda line: None)
    assert told.value.code is ErrorCode.EXPERIMENT_UNREADABLE


async def test_a_port_that_is_taken_is_reported_in_a_sentence(settings: Settings, sample: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WorkerError, match=f"Port {port}.*choose another with PORT"):
            await run_local(None, replace(settings, port=port), say=lambda line: None)


def test_an_experiment_is_found_by_path_by_id_and_by_default(tmp_path: Path, sample: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "1234").mkdir()
    (tmp_path / "my data").mkdir()
    (tmp_path / "my data" / "tumour.rds").touch()
    assert find_experiment("1234", settings).path == tmp_path / "1234"
    assert not find_experiment("1234", settings).keep_original
    elsewhere = replace(settings, data_dir=tmp_path / "1234")
    assert find_experiment(tmp_path / "my data", elsewhere).keep_original
    by_setting = find_experiment(None, replace(settings, experiment_id="1234"))
    assert (by_setting.path, by_setting.experiment_id) == (tmp_path / "1234", "1234")
    assert find_experiment(tmp_path / "my data", settings).experiment_id == "my-data"
    assert find_experiment(tmp_path / "my data" / "tumour.rds", settings).experiment_id == "tumour"
    by_default = find_experiment(None, settings)
    assert (by_default.path, by_default.experiment_id, by_default.keep_original) == (sample, "sample", True)


@pytest.mark.parametrize("wanted", ["nowhere", "../..", "/no/such/place", "a/../../b"])
def test_an_experiment_that_is_not_there_is_reported_with_the_places(tmp_path: Path, wanted: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WorkerError) as told:
        find_experiment(None, Settings(data_dir=empty, experiment_id=wanted))
    assert told.value.code is ErrorCode.EXPERIMENT_NOT_FOUND
    assert wanted in told.value.message


def running() -> dict[int, tuple[int, str]]:
    """Parent and command of every process that still runs: from /proc where there is one, `ps` is not everywhere."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid=,stat=,args="]
        listing = subprocess.run(command, capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=3) for line in listing.stdout.splitlines()]
        return {int(pid): (int(parent), args) for pid, parent, state, args in rows if not state.startswith("Z")}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if state != "Z":
            found[int(folder.name)] = (int(parent), command)
    return found


def alive(pids: set[int]) -> list[str]:
    """What still runs of these processes."""
    return [command for pid, (_, command) in running().items() if pid in pids]


class Process:
    """`cellworker run` as a person starts it."""

    def __init__(self, folder: Path, stores: Path, **environment: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log = (folder / "output.txt").open("w+b")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cellworker.cli.main", "run", "--port", str(self.port)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env={
                **os.environ,
                "DATA_DIR": str(folder / "data"),
                "STORE_DIR": str(stores),
                "TMPDIR": str(self.temporary),
                "LOG_LEVEL": "DEBUG",
                **environment,
            },
        )
        self.url = f"http://127.0.0.1:{self.port}"

    async def up(self) -> dict[str, Any]:
        """Wait until the experiment is open."""
        async with asyncio.timeout(WAIT_S), aiohttp.ClientSession() as session:
            while True:
                assert self.process.poll() is None, self.output()
                try:
                    async with session.get(f"{self.url}/health") as response:
                        facts: dict[str, Any] = await response.json()
                        if facts["status"] == "up":
                            return facts
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()

    def descendants(self) -> set[int]:
        """Process ids of everything that it started, and that these started."""
        parents = {pid: parent for pid, (parent, _) in running().items()}
        family = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family - {self.process.pid}

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def process(tmp_path: Path, stores: Path, sample: Path) -> Iterator[Process]:
    started = Process(tmp_path / "run", stores)
    yield started
    started.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_everything_and_leaves_nothing(process: Process, how: signal.Signals) -> None:
    facts = await process.up()
    assert facts["experimentId"] == "sample"
    await submit_async(
        process.url, {"name": "GetNormalizedExpression", "subsetBy": {}}, folder=process.temporary.parent
    )
    family = process.descendants()
    assert any("cellworker" in line or "python" in line for line in alive(family))
    assert process.end(how) == 0, process.output()
    assert alive(family) == []
    assert list(process.temporary.iterdir()) == []
    assert "Traceback" not in process.output()
    left = [path.name for path, _ in everything_under(process.temporary.parent / "data") if path.suffix == ".tmp"]
    assert left == []


async def test_no_token_is_logged_emitted_or_stored(process: Process) -> None:
    await process.up()
    heard: list[str] = []
    no_gene = {"geneName": "no such gene", "comparisonType": "lessThan", "thresholdValue": 1}
    bodies: list[dict[str, Any]] = [
        {"name": "ListGenes", "limit": 1, "config": {"authJwt": TOKEN}},
        {"name": "GeneExpression", "genes": ["no such gene"], "authJWT": TOKEN},
        {"name": "GetExpressionCellSets", "genesConfig": [no_gene], "authJWT": TOKEN},
        {"name": "GetNormalizedExpression", "subsetBy": {"louvain": ["nowhere"]}},
        {"name": "CASSIAAnnotate", "species": "Human", "tissue": "Blood"},
    ]
    async with aiohttp.ClientSession() as session:
        socket_url = f"{process.url}/socket.io/?EIO=3&transport=websocket"
        async with session.ws_connect(socket_url, max_msg_size=0) as events:
            await events.receive_str()
            await events.receive_str()
            for body in bodies:
                address = f"{process.url}/v2/workRequest/sample"
                props = {"broadcast": True, "Authorization": TOKEN}
                question = {"body": body, "requestProps": props, "authJWT": TOKEN}
                async with session.post(address, json=question, headers={"Authorization": TOKEN}) as response:
                    etag = (await response.json())["data"]["ETag"]
                packet = ""
                while f"WorkResponse-{etag}" not in packet:
                    packet = await events.receive_str()
                    heard.append(packet)
            for path in ("/health", "/console.json"):
                async with session.get(f"{process.url}{path}") as response:
                    heard.append(await response.text())
            bad = {"body": {"name": "ListGenes", "limit": TOKEN}, "authJWT": TOKEN}
            async with session.post(address, json=bad, headers={"Authorization": TOKEN}) as response:
                assert response.status == 400
                heard.append(await response.text())
    assert process.end(signal.SIGTERM) == 0
    assert sum("WorkResponse-" in packet for packet in heard) == len(bodies)
    assert any("INVALID_INPUT" in packet for packet in heard)
    everything = [("events", "\n".join(heard).encode()), ("output", process.output().encode())]
    everything += [(str(path), content) for path, content in everything_under(process.temporary.parent)]
    assert any("request answered" in content.decode(errors="ignore") for _, content in everything)
    assert [name for name, content in everything if OPAQUE.encode() in content] == []
    assert json.loads(heard[-1])["errors"]


def environment_of(pid: int) -> str:
    """What the system shows of the environment that a process was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except PermissionError:  # hidden even from its own user
        return ""


async def test_a_worker_that_is_opened_to_a_network_asks_for_the_token_that_it_prints(
    settings: Settings, sample: Path
) -> None:
    said: list[str] = []
    stop = asyncio.Event()
    opened = replace(settings, host="0.0.0.0", allowed_hosts="box.lab.example")
    running = asyncio.create_task(run_local(None, opened, say=said.append, stop=stop))
    try:
        async with asyncio.timeout(WAIT_S):
            while not any(line.startswith("Open ") for line in said):
                await asyncio.sleep(0.01)
        (address,) = {word for line in said for word in line.split() if word.startswith("http://box.lab")}
        assert "warning: HOST=0.0.0.0 opens this worker to the network" in "\n".join(said)
        url, token = split_token(address)
        port = int(url.rpartition(":")[2])
        here = f"http://127.0.0.1:{port}"
        with pytest.raises(WorkerError, match="needs its token"):
            await submit_async(here, {"name": "ListGenes", "limit": 1})
        got = await submit_async(f"{here}/?token={token}", {"name": "ListGenes", "limit": 1})
        assert got.value["total"] > 0
    finally:
        stop.set()
        assert await running == 0


async def test_the_key_of_the_language_model_reaches_no_other_process(
    tmp_path: Path, stores: Path, sample: Path
) -> None:
    modules = os.pathsep.join([str(TESTS / "stand_ins"), os.environ.get("PYTHONPATH", "")])
    with listening() as endpoint:
        endpoint.status = 418  # and cites the key
        process = Process(
            tmp_path / "run", stores, PYTHONPATH=modules, CASSIA_URL=endpoint.url, CASSIA_MODEL="m", CASSIA_KEY=OPAQUE,
            HOST="x86_64-conda-linux-gnu",
        )  # fmt: skip
        try:
            await process.up()
            family = {process.process.pid, *process.descendants()}
            keeper = {pid for pid in family if "annotators.keeper" in running()[pid][1]}
            assert len(keeper) == 1
            assert [pid for pid in family if OPAQUE in environment_of(pid)] == []
            with pytest.raises(WorkerError, match="HTTP 418") as told:
                await submit_async(process.url, {"name": "CASSIAAnnotate", "species": "Human", "tissue": "Blood"})
            assert told.value.code is ErrorCode.R_WORKER_CASSIA_ERROR
            assert OPAQUE not in told.value.message
            assert who_knows(OPAQUE, {process.process.pid, *process.descendants()}) == keeper
            assert process.end(signal.SIGTERM) == 0
            assert "request answered" in process.output()
            assert OPAQUE not in process.output()
            told = "x86_64-conda-linux-gnu is the machine type that conda's compilers export"
            assert process.output().count(told) == 1
            async with asyncio.timeout(WAIT_S):
                while keeper & {*running()}:  # it ends with the worker
                    await asyncio.sleep(0.01)
        finally:
            process.close()
    assert set(endpoint.keys) == {f"Bearer {OPAQUE}"}
    assert [path for path, content in everything_under(tmp_path) if OPAQUE.encode() in content] == []
