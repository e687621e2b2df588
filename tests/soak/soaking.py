"""Requests of all kinds for minutes, while processes are killed: is everything answered, stored once, and nothing left?

    soak = Soak(world, seconds=120, seed=7)
    await soak.run()
    await soak.judge()

For two thirds of the time something goes wrong every few seconds, in an order that the seed decides: gateway, engine,
Redis or the object store is killed or paused (SIGSTOP), the engine hangs until somebody ends it, the object store is
slow, or a reader is killed while it makes the store again. In the last third nothing does, so that memory and open
files can be compared.

What is published while nobody is subscribed is gone: Redis keeps nothing. So an answer may be missing at the listener
where the gateway says, between the killing of Redis and the listener's return, that it sent it; such a request counts
as excused, its result has to be stored all the same, and the number of them is told. Any other is a loss.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from test_life import children
from world import CELL_SETS, PASSWORD, RESULTS, SECRET_KEY, TOKEN, Api, Pod, Process, World, until

from cellworker.protocol.encoding import decompress
from cloud.servers import Server
from secret_scan import assert_no_secrets

OUTSTANDING = 30
"""Requests that may be unanswered at a time; more are not sent meanwhile."""
FORGOTTEN_S = 60.0
"""A request that is unanswered for so long counts no more as outstanding."""
BETWEEN_KILLS_S = (4.0, 10.0)
AWAY_S = (0.0, 2.0)
SILENT_S = 2
"""An engine that is silent for so long hangs."""
SLOW_S = 0.2
"""The object store needs so much longer for each answer while it is slow."""
READS_WITHIN_S = 20.0
LAST_ANSWER_S = 180.0
MARGIN_S = 1.0
"""The gateway's log is so much later than the event, and the listener's return so much later than known."""
UNFETCHED_S = 5.0
"""A file result that was made so long before its gateway was killed may still be on its way to the object store."""
GROWTH, GROWTH_MB, GROWTH_FILES = 1.2, 15.0, 20

# What a fault of the time may turn an answer into. Each of these says that it should be tried again.
FOR_WANT = frozenset({"CELL_SETS_UPDATE_FAILED", "RESULT_NOT_STORED", "TASK_CRASHED", "EXPERIMENT_OUT_OF_DATE"})
FOR_WANT_MOST = 0.02
"""So many of all requests may be answered like that."""

_ETAG = re.compile(rb"[0-9a-f]{32}")
_GENES = ("CD3D", "MS4A1", "FABP4", "CCL2", "CXCL5", "ISG15", "NOC2L")
_OTHER = {"compareWith": "rest", "basis": "all", "comparisonType": "within"}


@dataclass(frozen=True)
class Sent:
    """One request: what became due when, and what it should end as ("stored", "patched", or an error's code)."""

    etag: str
    task: str
    expected: str
    at: float
    name: str = ""
    """Of the cell set that it inserts."""


class CarefulApi(Api):
    """Changes cell sets one request after the other, as a transaction; says 503 while its own store is away."""

    def __init__(self, world: World) -> None:
        super().__init__(world.cell_sets_text, world._write_cell_sets)  # type: ignore[arg-type]
        self._turn = asyncio.Lock()

    async def patch(self, request: web.Request) -> web.Response:
        async with self._turn:
            try:
                return await super().patch(request)
            except Exception as error:
                return web.json_response({"message": type(error).__name__}, status=503)


@dataclass
class Soak:
    """Traffic, faults, and the judgement."""

    world: World
    seconds: float
    seed: int
    pod: Pod = field(init=False)
    sent: dict[str, Sent] = field(default_factory=dict)
    messages: int = 0
    timeline: list[str] = field(default_factory=list)
    absent: list[tuple[float, float]] = field(default_factory=list)
    """When nobody listened, by the clock of the day."""
    excused: set[str] = field(default_factory=set)
    unfetched: list[str] = field(default_factory=list)
    """File results whose gateway was killed before it had fetched them."""
    kills: Counter[str] = field(default_factory=Counter)
    middle: dict[str, tuple[float, int]] = field(default_factory=dict)
    end: dict[str, tuple[float, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        # Its own, so that the kills do not depend on how many requests were drawn before each.
        self._fate = random.Random(f"kills {self.seed}")
        self._heard: set[str] = set()
        self._read = 0
        self._started = time.monotonic()
        self._thresholds = 0
        self._gateway_killed: list[float] = []
        self._contents: set[bytes] = set()

    # --- the course of it ---

    async def run(self) -> None:
        """Send and kill for the time given, then wait until nothing is owed any more."""
        async with self._api():
            self.pod = self.world.pod(VISIBILITY_S=5, MAX_ATTEMPTS=50, ENGINE_SILENT_S=SILENT_S)
            self.pod.engine.command = [sys.executable, "-m", "cellworker.cli.main", "engine"]
            self.pod.gateway.command = [sys.executable, "-m", "cellworker.cli.main", "gateway"]
            self.pod.start()
            await self.pod.ready()
            self._started = time.monotonic()
            sending = asyncio.create_task(self._send())
            try:
                await self._kill_until(self._started + self.seconds * 2 / 3)
                await self._sleep_until(self._started + self.seconds * 5 / 6)
                self.middle = self._usage()
                await self._sleep_until(self._started + self.seconds)
                self.end = self._usage()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            self._note("nothing more is sent")
            await self._settle()

    @contextlib.asynccontextmanager
    async def _api(self) -> AsyncIterator[None]:
        self.world.api = CarefulApi(self.world)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_patch("/v2/experiments/{experiment}/cellSets", self.world.api.patch)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.world.api_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _settle(self) -> None:
        """Wait until queue and journal are empty and all answers came that will."""
        deadline = time.monotonic() + LAST_ANSWER_S
        while time.monotonic() < deadline:
            if await self.world.queued() == (0, 0) and not await self.world.journal():
                self._listen()
                if not self._unaccounted():
                    return
            await asyncio.sleep(0.5)

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))

    def _note(self, what: str) -> None:
        self.timeline.append(f"{datetime.now(UTC):%H:%M:%S.%f} {time.monotonic() - self._started:7.2f} s  {what}")

    # --- requests ---

    async def _send(self) -> None:
        """Send one burst after the other, as long as the worker keeps up."""
        while True:
            self._listen()
            while self._outstanding() >= OUTSTANDING:
                await asyncio.sleep(0.05)
                self._listen()
            for _ in range(self._random.randint(1, 10)):
                await self._one()
            await asyncio.sleep(self._random.uniform(0.0, 0.15))

    async def _one(self) -> None:
        body, expected, more = self._draw()
        if body is None:
            self.messages += 1
            await self.world.send_text(more["text"])
            return
        name = ""
        if body.get("name") == "GetExpressionCellSets":
            name = f"CD3D>{body['genesConfig'][0]['thresholdValue']:g}"
        etag = f"{self._random.getrandbits(128):032x}"
        # Noted first: the answer may come before the queue has said that it has the message.
        self.sent[etag] = Sent(etag, str(body.get("name")), expected, time.monotonic(), name)
        for _ in range(2 if expected == "stored" and self._random.random() < 0.1 else 1):
            self.messages += 1
            await self.world.send(body, etag=etag, **more)

    def _draw(self) -> tuple[dict[str, Any] | None, str, dict[str, Any]]:
        """Draw a request: its body, what it should end as, and what is peculiar about its envelope."""
        kind = self._random.choices(
            ["short", "long", "patch", "expired", "unknown", "blank", "malformed", "wrong", "no request"],
            [60, 8, 6, 5, 4, 3, 4, 6, 2],
        )[0]
        if kind == "short":
            return self._random.choice(self._short()), "stored", {"requestProps": {"broadcast": False}}
        if kind == "long":
            return self._random.choice(self._long()), "stored", {}
        if kind == "patch":
            self._thresholds += 1
            condition = {"geneName": "CD3D", "comparisonType": "greaterThan"}
            config = {**condition, "thresholdValue": round(0.5 + self._thresholds / 100000, 5)}
            return {"name": "GetExpressionCellSets", "genesConfig": [config]}, "patched", {
                "requestProps": {"broadcast": True}
            }  # fmt: skip
        if kind == "expired":
            return self._short()[0], "REQUEST_EXPIRED", {"timeout_s": -5}
        if kind == "unknown":
            return {"name": f"NoSuchTask{self._random.randrange(9)}"}, "INVALID_INPUT", {}
        if kind == "blank":
            return {"name": "CASSIAAnnotate", "species": "Human", "tissue": " "}, "INVALID_INPUT", {}
        if kind == "malformed":
            return {"name": "ListGenes", "offset": "no number", "limit": -3}, "INVALID_INPUT", {}
        if kind == "wrong":
            return {"name": "GetEmbedding"}, "INVALID_INPUT", {"experimentId": 7}
        text = self._random.choice(["no JSON", "[1, 2]", '{"ETag": "../escape"}', "{" * 50])
        return None, "", {"text": f"{text} {self._random.random()}" if text == "no JSON" else text}

    def _short(self) -> list[dict[str, Any]]:
        genes = self._random.sample(_GENES, self._random.randint(1, 4))
        return [
            {"name": "GeneExpression", "genes": genes},
            {
                "name": "ListGenes",
                "selectFields": ["gene_names", "dispersions"],
                "orderBy": "dispersions",
                "orderDirection": "DESC",
                "offset": self._random.randrange(100),
                "limit": 20,
            },
            {"name": "GetEmbedding", "type": "umap", "useSaved": True, "config": {"minimumDistance": 0.3}},
            {"name": "GetBackgroundExpressedGenes", "cellSet": "louvain-0", **_OTHER},
            {"name": "GetDoubletScore"},
            {"name": "GetMitochondrialContent"},
            {"name": "GetNGenes"},
            {"name": "GetNUmis"},
        ]

    def _long(self) -> list[dict[str, Any]]:
        return [
            {"name": "MarkerHeatmap", "nGenes": self._random.randint(1, 5), "selectedCellSet": "louvain"},
            {"name": "DifferentialExpression", "cellSet": "louvain-0", **_OTHER},
            {
                "name": "BatchDifferentialExpression",
                **_OTHER,
                "cellSet": ["louvain-0", "louvain-1"],
                "basis": ["all"],
            },
            {
                "name": "DotPlot",
                "useMarkerGenes": False,
                "numberOfMarkers": 3,
                "customGenesList": list(_GENES[:3]),
                "groupBy": "louvain",
                "filterBy": {"group": "All", "key": "All"},
            },
            {"name": "GetNormalizedExpression", "subsetBy": {"louvain": ["louvain-0"]}},
        ]

    def _listen(self) -> None:
        """Take note of what was heard since the last time."""
        events = self.world.events
        for name, _ in events[self._read :]:
            if name.startswith("WorkResponse-"):
                self._heard.add(name.removeprefix("WorkResponse-"))
        self._read = len(events)

    def _outstanding(self) -> int:
        now = time.monotonic()
        return sum(
            now - sent.at < FORGOTTEN_S and sent.etag not in self._heard for sent in [*self.sent.values()][-1000:]
        )

    # --- faults ---

    async def _kill_until(self, end: float) -> None:
        faults = {
            "gateway killed": self._gateway,
            "engine killed": self._engine,
            "redis killed": self._redis,
            "object store killed": self._store,
            "gateway paused": self._paused(self.pod.gateway),
            "engine paused": self._paused(self.pod.engine),
            "redis paused": self._away(self.world.redis),
            "object store paused": self._away(self.world.s3),
            "object store slow": self._slow,
            "engine hangs": self._hang,
            "reader killed": self._reader,
        }
        turn: list[str] = []
        while True:
            pause = self._fate.uniform(*BETWEEN_KILLS_S)
            if time.monotonic() + pause > end:
                await self._sleep_until(end)
                return
            await asyncio.sleep(pause)
            often = ["gateway killed", "engine killed"]
            turn = turn or self._fate.sample([*faults, *often], len(faults) + len(often))
            name = turn.pop()
            away_s = self._fate.uniform(*AWAY_S)
            self.kills[name] += 1
            self._note(f"{name}, for {away_s:.2f} s")
            await faults[name](away_s)
            self._note(f"{name}: over")

    async def _gateway(self, away_s: float) -> None:
        self.pod.gateway.kill()
        self._gateway_killed.append(time.time())
        await asyncio.sleep(away_s)
        self.pod.gateway.start()

    async def _engine(self, away_s: float) -> None:
        self.pod.engine.kill()
        await asyncio.sleep(away_s)
        self.pod.engine.start()

    async def _redis(self, away_s: float) -> None:
        began = time.time()
        self.world.redis.kill()
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.world.redis.start)
        await self.world.heeded()
        self.absent.append((began - MARGIN_S, time.time() + MARGIN_S))

    async def _store(self, away_s: float) -> None:
        self.world.s3.kill()
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.world.s3.start)

    def _paused(self, process: Process) -> Callable[[float], Awaitable[None]]:
        async def pause(away_s: float) -> None:
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(away_s)
            process.signal(signal.SIGCONT)

        return pause

    def _away(self, server: Server) -> Callable[[float], Awaitable[None]]:
        async def pause(away_s: float) -> None:
            server.pause()
            await asyncio.sleep(away_s)
            server.resume()

        return pause

    async def _slow(self, away_s: float) -> None:
        await asyncio.to_thread(self.world.s3.fault, "*", latency_s=SLOW_S)
        await asyncio.sleep(away_s + 1.0)
        await asyncio.to_thread(self.world.s3.clear)

    async def _hang(self, away_s: float) -> None:
        """The engine hangs until the gateway has noticed; then it is started again, as the kubelet would do."""
        noticed = len(self.pod.gateway.said("engine hangs"))
        self.pod.engine.signal(signal.SIGSTOP)
        await until(lambda: len(self.pod.gateway.said("engine hangs")) > noticed, "an engine that hangs is noticed")
        await self._engine(away_s)

    async def _reader(self, away_s: float) -> None:
        """Somebody removes the store, and the process that makes it again is killed."""
        for store in self.world.platform.stores.glob("*.h5ad"):
            store.unlink()
        end = time.monotonic() + READS_WITHIN_S
        while not (readers := children(self.pod.engine.pid, "cellworker.formats.opening.sandbox_child")):
            if time.monotonic() > end:
                self._note("nobody reads")  # the engine has not been asked for anything meanwhile
                return
            await asyncio.sleep(0.005)
        for reader in readers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(reader, signal.SIGKILL)
        await asyncio.sleep(away_s)

    # --- the judgement ---

    def _unaccounted(self) -> list[str]:
        """ETags that nobody heard of, less those whose answer went out while nobody listened."""
        silent = [etag for etag in self.sent if etag not in self._heard]
        if silent:
            told = {
                line.get("etag")
                for line in self.pod.gateway.lines
                if line["event"] in ("request answered", "message refused") and self._nobody_listened(line["time"])
            }
            self.excused = set(silent) & told
        return [etag for etag in silent if etag not in self.excused]

    def _nobody_listened(self, when: str) -> bool:
        at = datetime.fromisoformat(when).timestamp()
        return any(begin <= at <= end for begin, end in self.absent)

    async def judge(self) -> None:
        """Assert what was promised."""
        complaints = [*self._losses()]
        complaints += [f"queue holds {count}" for count in await self.world.queued() if count]
        complaints += [f"journal entry open: {key}" for key in await self.world.journal()]
        complaints += [complaint async for complaint in self._stored_wrongly()]
        complaints += await self._inserted_wrongly()
        complaints += [*self._grown()]
        complaints += [*self._left_behind()]
        complaints += [f"upload open: {upload}" for upload in self.world.s3.admin()["uploads"]]
        if complaints:
            shown = "\n".join(complaints[:40])
            raise AssertionError(
                f"{self}\n{len(complaints)} complaints:\n{shown}\n\nfaults:\n" + "\n".join(self.timeline)
            )
        await asyncio.to_thread(self._no_secrets)

    def __str__(self) -> str:
        return (
            f"soak, seed {self.seed}: {self.messages} messages, {len(self.sent)} ETags, {len(self._heard)} answered, "
            f"{len(self.excused)} answered while nobody listened, "
            f"{len(self.unfetched)} file results of killed gateways unfetched, faults {dict(self.kills)}, "
            f"MB and files in the middle {self.middle}, at the end {self.end}"
        )

    def _losses(self) -> Iterator[str]:
        for etag in self._unaccounted():
            lines = "\n".join(f"    {json.dumps(line)}" for line in self.pod.gateway.lines if etag in json.dumps(line))
            yield f"LOST {self.sent[etag]}\n{lines}"
        codes: Counter[str] = Counter()
        for sent in self.sent.values():
            if sent.etag not in self._heard:
                continue
            found = self._outcomes(sent.etag)
            wanted = "done" if sent.expected in ("stored", "patched") else sent.expected
            if wanted in found:
                continue
            codes += Counter(found)
            if wanted != "done" or not found <= FOR_WANT:
                yield f"answered with {sorted(found)}: {sent}"
        if codes.total() > FOR_WANT_MOST * len(self.sent):
            yield f"too many requests came to nothing: {dict(codes)}"

    def _outcomes(self, etag: str) -> set[str]:
        """What the events of a request said: ``done``, or codes of errors."""
        return self._by_etag().get(etag, set())

    def _by_etag(self) -> dict[str, set[str]]:
        if not hasattr(self, "_outcome_sets"):
            found: dict[str, set[str]] = {}
            for name, payload in self.world.events:
                if name.startswith("WorkResponse-"):
                    response = payload["response"] if isinstance(payload, dict) else {"error": False}
                    code = response["errorCode"] if response["error"] else "done"
                    found.setdefault(name.removeprefix("WorkResponse-"), set()).add(code)
            self._outcome_sets = found
        return self._outcome_sets

    async def _stored_wrongly(self) -> AsyncIterator[str]:
        objects = self.world.s3.admin()["objects"][RESULTS]
        for key in objects.keys() - self.sent.keys():
            self._contents.add(await self.world.object(RESULTS, key))
        for sent in self.sent.values():
            there = sent.etag in objects
            if sent.expected != "stored":
                if there:
                    yield f"should not be stored: {sent}"
                continue
            if not there:
                if "done" in self._outcomes(sent.etag) or sent.etag in self.excused:
                    yield f"not stored: {sent}"
                continue
            tags = objects[sent.etag]["tags"]
            if tags != {"experimentId": self.world.experiment_id, "requestType": sent.task}:
                yield f"tagged {tags}: {sent}"
            stored = await self.world.object(RESULTS, sent.etag)
            if stored in self._contents:
                continue
            self._contents.add(stored)
            content = decompress(stored)
            if sent.task == "GetNormalizedExpression":
                if not content.endswith(b"\n"):
                    yield f"not whole: {sent}"
                continue
            try:
                json.loads(content)
            except ValueError:
                yield f"not whole: {sent}"

    async def _inserted_wrongly(self) -> list[str]:
        names = Counter(await self.world.scratchpad())
        wrong = []
        for sent in self.sent.values():
            if sent.expected != "patched":
                continue
            done = "done" in self._outcomes(sent.etag)
            if (done and names[sent.name] != 1) or names[sent.name] > 1:
                wrong.append(f"inserted {names[sent.name]} times: {sent}")
        return wrong

    def _left_behind(self) -> Iterator[str]:
        """Name files that should be gone; the engine keeps what a killed gateway has not fetched for an hour."""
        for name in self.pod.leftovers():
            path = self.pod.folder / name
            made = path.stat().st_mtime
            if path.parent.name == "results" and any(-1.0 <= at - made <= UNFETCHED_S for at in self._gateway_killed):
                self.unfetched.append(name)
            else:
                yield f"left behind: {name}"
        stores = self.world.platform.stores
        yield from (f"half a store: {path.name}" for path in [*stores.glob("build-*.spool"), *stores.glob(".*.tmp")])

    def _usage(self) -> dict[str, tuple[float, int]]:
        return {name: usage(process.pid) for name, process in self._processes()}

    def _processes(self) -> list[tuple[str, Any]]:
        return [("gateway", self.pod.gateway), ("engine", self.pod.engine)]

    def _grown(self) -> Iterator[str]:
        for name, (megabytes, files) in self.end.items():
            before_mb, before_files = self.middle[name]
            if megabytes > GROWTH * before_mb + GROWTH_MB:
                yield f"{name} grew from {before_mb} to {megabytes} MB"
            if files > GROWTH * before_files + GROWTH_FILES:
                yield f"{name} had {before_files} files open, and now {files}"

    def _no_secrets(self) -> None:
        folder = self.pod.folder
        assert_no_secrets(
            {"the user's token": TOKEN, "the key of AWS": SECRET_KEY, "the password of Redis": PASSWORD},
            {
                "gateway's log": folder / "gateway.log",
                "engine's log": folder / "engine.log",
                # Many results are the same but for the ETag, and looking into one takes long.
                "events": [*{_ETAG.sub(b"", event) for event in self.world.raw_events}],
                "objects": self.world.s3.admin()["objects"],
                "results": [*self._contents],
                "cell sets": self.world.platform.s3_folder / CELL_SETS,
                "data": self.pod.data,
                "temporary files": self.pod.tmp,
            },
        )


def usage(pid: int) -> tuple[float, int]:
    """Private memory (MiB) and open files of a process and all that it started; zeros where there is no /proc."""
    megabytes, files = 0.0, 0
    for one in (pid, *_descendants(pid)):
        with contextlib.suppress(OSError):
            found = re.search(r"^RssAnon:\s+(\d+)", Path(f"/proc/{one}/status").read_text(), re.MULTILINE)
            megabytes += int(found[1]) / 1024 if found else 0.0
            files += len(list(Path(f"/proc/{one}/fd").iterdir()))
    return round(megabytes, 1), files


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found
