"""Benchmark "gateway": its cost beside its servers' round trips, its throughput, short requests behind a long one.

The rows "one after another" send each request when the last one was answered, through the stand-in for SQS and through
moto, whose long poll looks only once at which groups are blocked.

Everything runs as in production, each in a process of its own: gateway, engine, redis-server, and the tests' stand-ins
for SQS and S3. One more process, this one, sends and listens. All of them share two cores.

An answer's latency is counted from the moment at which its message was due to be sent, so that a sender that falls
behind hides nothing, until its ``WorkResponse`` event is read from Redis.
"""

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import large_cell_sets
from benchmarks.harness import RESULTS, cpu_of_tree, machine, memory_mb
from cellworker.gateway.aws.clients import Cloud
from cellworker.gateway.aws.s3 import S3Files, S3Results
from cellworker.gateway.platform.redis_bus import RedisBus
from cellworker.sample import sample_path
from cellworker.settings import Settings

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from cloud.servers import (  # noqa: E402
    TESTER,
    Redis,
    Server,
    StandIn,
    free_port,
    moto_server,
    start_redis,
    start_s3,
    start_sqs,
)

__all__ = ["run"]

CORES = 2
ACCOUNT = "000000000001"
QUEUE_HASH = "bench"
QUEUE = f"queue-job-{QUEUE_HASH}-staging.fifo"
BUCKETS = {kind: f"{kind}-staging-{ACCOUNT}" for kind in ("worker-results", "cell-sets", "processed-matrix")}
RIGHTS = [
    *(f"sqs:{action}" for action in ("ReceiveMessage", "DeleteMessage", "GetQueueUrl")),
    *(f"s3:{action}" for action in ("GetObject", "ListBucket", "PutObject", "PutObjectTagging")),
]
"""What the platform allows its workers."""
FETCH = {"name": "GeneExpression", "genes": ["CD3D"]}
HELD = "MarkerHeatmap"
PROBE = "probe.fifo"
WAIT_S = 300.0
BEHIND_S = 0.25
"""A rate is sustained when no more than what arrives in so many seconds is unanswered at its end."""

Figures = dict[str, Any]


def run(*, quick: bool, only: str = "") -> None:
    """Measure and write the results."""
    started, load = time.strftime("%Y-%m-%dT%H:%M:%S%z"), os.getloadavg()
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(everything)[:CORES])
    try:
        rows = asyncio.run(_measure(quick=quick, only=only))
    finally:
        os.sched_setaffinity(0, everything)
    if only:
        return
    name = "gateway-quick" if quick else "gateway"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    about = machine() | {"cores_used": CORES, "load_before": load, "load_after": os.getloadavg()}
    (RESULTS / f"{name}.meta.json").write_text(json.dumps({"started": started, "machine": about}, indent=1) + "\n")


async def _measure(*, quick: bool, only: str) -> list[Figures]:
    rows: list[Figures] = []

    def wanted(case: str) -> bool:
        return only == "ours" or only in case

    def note(case: str, figures: Figures, *bars: tuple[str, float, float]) -> None:
        """Keep and print one case; a goal has a name, the figure found, and its max."""
        judged = [
            {"bar": text, "found": _short(found), "limit": limit, "met": found <= limit} for text, found, limit in bars
        ]
        rows.append({"case": case, "figures": figures, "bars": judged})
        print(f"\n{case}")
        for name, value in figures.items():
            print(f"  {name:<34}{value}")
        for bar in judged:
            print(f"  {'met' if bar['met'] else 'MISSED'}: {bar['bar']} (found {bar['found']}, limit {bar['limit']})")
        sys.stdout.flush()

    async with _open() as platform:
        if wanted("overhead"):
            fresh, stored = await _overhead(platform, 100 if quick else 500)
            note("overhead: a fetch", fresh, ("15 ms at the median", fresh["overhead_ms"]["median"], 15))
            note("overhead: stored already", stored, ("15 ms at the median", stored["overhead_ms"]["median"], 15))
        if wanted("throughput"):
            figures = await _at_rate(platform, 200, 10 if quick else 30)
            behind = figures["unanswered_at_end"]
            note("throughput: 200 fetches a second", figures, ("unanswered at the end", behind, 200 * BEHIND_S))
        if wanted("capacity"):
            drained = await _drained(platform, 500 if quick else 2000)
            note("capacity: a queue full of fetches", drained)
            rate = drained["fetches_per_s"]
            for part in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
                figures = await _at_rate(platform, part * rate, 5 if quick else 15)
                if figures["sustained"]:
                    break
            note("capacity: the highest rate sustained, or the lowest that was tried", figures)
        if wanted("one after another: SQS"):
            figures = await _one_after_another(platform, 20 if quick else 100)
            note("one after another: SQS", figures, ("500 ms at p99", figures["latency_ms"]["p99"], 500))
    if wanted("one after another: moto"):
        async with _open(moto=True) as platform:
            figures = await _one_after_another(platform, 20 if quick else 100)
            note("one after another: moto", figures, ("500 ms at p99", figures["latency_ms"]["p99"], 500))
    if wanted("behind a long request"):
        async with _open(slowed=True) as platform:
            note("1,000 fetches behind a long request", *await _behind_a_long_one(platform, 300 if quick else 1000))
    if wanted("a million cells in 20 classes"):
        figures = await asyncio.to_thread(large_cell_sets.measure, 3 if quick else 10)
        memory, lag = figures["memory_mb"], figures["loop_cpu_ms"]["max"]
        note("a million cells in 20 classes", figures, ("memory in MB", memory, 300), ("loop in ms", lag, 100))
    return rows


# --- the platform ---------------------------------------------------------------------------------------------------


class Listener(asyncio.Protocol):
    """Receives all events of Redis at minimal cost: it stores the time of each ETag's last answer."""

    _ANSWER = re.compile(rb"WorkResponse-([0-9a-f]{32})")
    _LONGEST = 45

    def __init__(self, password: str) -> None:
        self._password = password
        self._rest = b""
        self.subscribed = asyncio.Event()
        self.heard: dict[str, float] = {}
        self.answers = self.heartbeats = 0
        self._awaited: dict[str, asyncio.Future[float]] = {}

    def connection_made(self, transport: Any) -> None:
        """Subscribe."""
        login = f"AUTH {self._password}\r\n" if self._password else ""
        transport.write(f"{login}PSUBSCRIBE socket.io#/#*\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Find the answers."""
        now = time.perf_counter()
        self.subscribed.set()
        data = self._rest + data
        self.heartbeats += data.count(b"Heartbeat-", max(0, len(self._rest) - len(b"Heartbeat-") + 1))
        end = 0
        for found in self._ANSWER.finditer(data):
            etag = found[1].decode()
            self.heard[etag] = now
            self.answers += 1
            end = found.end()
            waiting = self._awaited.pop(etag, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(now)
        self._rest = data[max(end, len(data) - self._LONGEST + 1) :]

    async def answer(self, etag: str) -> float:
        """Return when the next answer of an ETag was heard."""
        self._awaited[etag] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(WAIT_S):
            return await self._awaited[etag]

    async def all_heard(self, etags: list[str]) -> None:
        """Wait until each was heard."""
        async with asyncio.timeout(WAIT_S):
            while not all(etag in self.heard for etag in etags):  # noqa: ASYNC110 - who polls does not disturb
                await asyncio.sleep(0.02)


class Pod:
    """A gateway and an engine, each a process, with a folder that both see."""

    def __init__(self, folder: Path, sqs: Server, s3: StandIn, bus: Redis, experiment_id: str, *, slowed: bool) -> None:
        self._faults = folder / "faults"
        self._faults.mkdir()
        labels = folder / "labels"
        labels.write_text(f'experimentId="{experiment_id}"\nsandboxId="default"\nworkQueueHash="{QUEUE_HASH}"\n')
        port = free_port()
        self._log = folder / "log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "HOSTNAME": "pod-1",
            "DATA_DIR": str(folder / "data"),
            "STORE_DIR": str(folder / "stores"),
            "LABELS_FILE": str(labels),
            "CLUSTER_ENV": "staging",
            "AWS_ACCOUNT_ID": ACCOUNT,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_ENDPOINT_URL_SQS": sqs.url,
            "AWS_ENDPOINT_URL_S3": s3.url,
            "REDIS_URL": bus.url,
            "API_URL": "http://127.0.0.1:9",
            "PORT": str(port),
            "ENGINE_URL": f"http://127.0.0.1:{port}",
            "HEALTH_PORT": str(free_port()),
            "METRICS": "true",
            "FAULT_DIR": str(self._faults),
        }
        ours = ["-m", "cellworker.cli.main"]
        self._commands = [str(TESTS / "faults" / "engine.py")] if slowed else [*ours, "engine"], [*ours, "gateway"]

    def start(self) -> None:
        """Start both."""
        with self._log.open("ab") as log:
            self.engine, self.gateway = (
                subprocess.Popen(
                    [sys.executable, *command], stdout=log, stderr=log, env=self.environment, start_new_session=True
                )
                for command in self._commands
            )

    def kill(self) -> None:
        """End both, and all that they started."""
        for process in (self.gateway, self.engine):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def hold(self, task: str) -> None:
        """Let computations of a task wait from now on."""
        (self._faults / f"hold-{task}").touch()

    async def began(self, task: str) -> None:
        """Wait until a computation of a task has begun."""
        async with asyncio.timeout(WAIT_S):
            while not list(self._faults.glob(f"began-{task}-*")):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)

    def let_go(self, task: str) -> None:
        """Let them go on."""
        (self._faults / f"hold-{task}").unlink()


@dataclass(frozen=True)
class Platform:
    """Everything that runs."""

    sqs: Server
    s3: StandIn
    redis: Redis
    pod: Pod
    listener: Listener
    session: aiohttp.ClientSession
    experiment_id: str
    queues: dict[str, str]
    """The addresses of the queues, by their names."""

    @property
    def pids(self) -> dict[str, int]:
        """The processes."""
        servers = {"sqs": self.sqs, "s3": self.s3, "redis": self.redis}
        found = {name: server.process.pid for name, server in servers.items() if server.process is not None}
        return {"gateway": self.pod.gateway.pid, "engine": self.pod.engine.pid, **found}

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process until now; those of the sender are its own, all others are its children."""
        own = {"sender": time.process_time()}
        return {name: cpu_of_tree(pid) for name, pid in self.pids.items()} | own

    async def ask_queue(self, action: str, **parameters: Any) -> Mapping[str, Any]:
        """Ask SQS something as the tester, without the work of a client of AWS."""
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={TESTER}/20000101/eu-west-1/sqs/aws4_request",
        }
        async with self.session.post(self.sqs.url, data=json.dumps(parameters), headers=headers) as answer:
            content = json.loads(await answer.read())
            if answer.status != 200:
                raise RuntimeError(content)
            return content  # type: ignore[no-any-return]

    async def send(self, etag: str, body: Mapping[str, Any] = FETCH) -> None:
        """Put a request on the queue."""
        envelope = {
            "signedUrl": f"{self.s3.url}/{BUCKETS['worker-results']}/{etag}?X-Amz-Expires=900",
            "ETag": etag,
            "Authorization": "Bearer of-the-benchmark",
            "experimentId": self.experiment_id,
            "timeout": (datetime.now(UTC) + timedelta(seconds=300)).isoformat(),
            "body": body,
            "requestProps": {"broadcast": False},
        }
        await self.ask_queue(
            "SendMessage",
            QueueUrl=self.queues[QUEUE],
            MessageBody=json.dumps(envelope),
            MessageGroupId="work",
            MessageDeduplicationId=uuid.uuid4().hex,
        )


@contextlib.asynccontextmanager
async def _open(*, slowed: bool = False, moto: bool = False) -> AsyncIterator[Platform]:
    """Start everything, and have some requests answered.

    `slowed` takes the engine of the tests, which can be held; `moto` takes moto's queue instead of the stand-in's.
    """
    experiment_id = str(uuid.uuid4())
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-gateway-")))
        sqs: Server = stack.enter_context(moto_server() if moto else start_sqs(allow=RIGHTS))
        s3 = stack.enter_context(start_s3(buckets=[*BUCKETS.values()], allow=RIGHTS))
        bus = stack.enter_context(start_redis())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        pod = Pod(folder, sqs, s3, bus, experiment_id, slowed=slowed)
        _, listener = await asyncio.get_running_loop().create_connection(
            lambda: Listener(bus.password), "127.0.0.1", bus.port
        )
        await listener.subscribed.wait()
        platform = Platform(sqs, s3, bus, pod, listener, session, experiment_id, {})
        for name in (QUEUE, PROBE):
            made = await platform.ask_queue("CreateQueue", QueueName=name, Attributes={"FifoQueue": "true"})
            platform.queues[name] = made["QueueUrl"]
        for bucket, key, file in (
            (BUCKETS["processed-matrix"], f"{experiment_id}/r.rds", "r.rds"),
            (BUCKETS["cell-sets"], experiment_id, "cell_sets.json"),
        ):
            await _upload(platform, bucket, key, sample_path() / file)
        pod.start()
        stack.callback(pod.kill)
        etags = [uuid.uuid4().hex for _ in range(40)]
        for etag in etags:
            await platform.send(etag)
        await listener.all_heard(etags)
        yield platform


async def _upload(platform: Platform, bucket: str, key: str, file: Path) -> None:
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={TESTER}/none"}
    content = await asyncio.to_thread(file.read_bytes)
    async with platform.session.put(f"{platform.s3.url}/{bucket}/{key}", data=content, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(await answer.text())


# --- one request after the other --------------------------------------------------------------------------------------


async def _overhead(platform: Platform, requests: int) -> tuple[Figures, Figures]:
    """Send single requests and, by turns with them, make the round trips of one with the same clients.

    Heartbeats are not waited for, so that only the answer's own event is a round trip.
    """
    settings = Settings.from_environment({**platform.pod.environment})
    fresh: list[dict[str, float]] = []
    stored: list[dict[str, float]] = []
    before = platform.cpu_s()
    heard = platform.listener.heartbeats
    with _environment(platform.pod.environment):
        async with Cloud(settings) as cloud, RedisBus(platform.redis.url) as bus:
            probe = _Probe(platform, cloud, bus)
            for _ in range(requests):
                etag = uuid.uuid4().hex
                latency = await _answered(platform, etag)
                trips = await probe.trips()
                per_fetch = trips["sqs"] + trips["lists"] + trips["put"] + trips["publish"]
                fresh.append({"latency": latency, "trips": per_fetch, **trips})
                again = await _answered(platform, etag)
                stored.append({"latency": again, "trips": trips["sqs"] + trips["lists"] + trips["publish"], **trips})
    after = platform.cpu_s()
    published = (platform.listener.heartbeats - heard) / requests + 2
    cpu = {name: _ms((after[name] - before[name]) / requests) for name in ("gateway", "engine")}
    return (
        {**_overhead_figures(fresh), "events_of_both": published, "cpu_ms_of_both": cpu},
        _overhead_figures(stored),
    )


async def _answered(platform: Platform, etag: str) -> float:
    """Return a request's latency; leave the queue as it was found."""
    start = time.perf_counter()
    answer = asyncio.create_task(platform.listener.answer(etag))
    await platform.send(etag)
    latency = await answer - start
    await asyncio.sleep(0.01)  # the message is deleted meanwhile
    return latency


class _Probe:
    """Makes the round trips of a request, with the gateway's own clients."""

    def __init__(self, platform: Platform, cloud: Cloud, bus: RedisBus) -> None:
        self._platform = platform
        self._sqs = cloud.sqs
        self._results = S3Results(cloud.s3, BUCKETS["worker-results"], direct=cloud.direct)
        self._files = S3Files(cloud.s3, BUCKETS["processed-matrix"], platform.experiment_id)
        self._bus = bus
        self._queue = platform.queues[PROBE]
        self._content = os.urandom(1200)  # what a fetch from the sample takes when it is compressed

    async def trips(self) -> dict[str, float]:
        """Seconds of each kind of round trip, once."""
        key = uuid.uuid4().hex
        found = {"sqs": await self._through_the_queue()}
        start = time.perf_counter()
        await asyncio.gather(self._results.exists(key), self._files.list())
        listed = time.perf_counter()
        await self._results.put(key, self._content, {"experimentId": key, "requestType": "GeneExpression"})
        put = time.perf_counter()
        await self._bus.emit(f"Probe-{key}", {"status_code": "STARTED"})
        found |= {"lists": listed - start, "put": put - listed, "publish": time.perf_counter() - put}
        return found

    async def _through_the_queue(self) -> float:
        """From sending until the receiver, who was waiting, has the message."""
        receiving = asyncio.create_task(
            self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        )
        await asyncio.sleep(0.005)  # until it waits
        start = time.perf_counter()
        await self._platform.ask_queue(
            "SendMessage",
            QueueUrl=self._queue,
            MessageBody="x" * 600,
            MessageGroupId="work",
            MessageDeduplicationId=uuid.uuid4().hex,
        )
        (message,) = (await receiving)["Messages"]
        seconds = time.perf_counter() - start
        entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
        await self._sqs.delete_message_batch(QueueUrl=self._queue, Entries=entries)
        return seconds


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]):
    """Let the clients of AWS find what the gateway's find."""
    names = [name for name in wanted if name.startswith("AWS_")]
    earlier = {name: os.environ.get(name) for name in names}
    os.environ.update({name: wanted[name] for name in names})
    try:
        yield
    finally:
        for name, value in earlier.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _overhead_figures(measured: list[dict[str, float]]) -> Figures:
    overheads = [one["latency"] - one["trips"] for one in measured]
    return {
        "requests": len(measured),
        "latency_ms": _spread([one["latency"] for one in measured]),
        "round_trips_ms": _spread([one["trips"] for one in measured]),
        "overhead_ms": _spread(overheads),
        "single_trips_ms": {
            name: _ms(statistics.median(one[name] for one in measured)) for name in ("sqs", "lists", "put", "publish")
        },
    }


async def _one_after_another(platform: Platform, requests: int) -> Figures:
    """Send each fetch at the moment when the answer to the last one was heard, as who clicks through genes does."""
    latencies: list[float] = []
    start = time.perf_counter()
    for _ in range(requests):
        etag = uuid.uuid4().hex
        answer = asyncio.create_task(platform.listener.answer(etag))
        sent = time.perf_counter()
        await platform.send(etag)
        latencies.append(await answer - sent)
    took = time.perf_counter() - start
    return {"fetches": requests, "fetches_per_s": _short(requests / took), "latency_ms": _spread(latencies)}


# --- many requests ----------------------------------------------------------------------------------------------------


async def _at_rate(platform: Platform, rate: float, seconds: float) -> Figures:
    """Send fetches at a rate, whatever becomes of them; then wait for the rest."""
    before = platform.cpu_s()
    due = await _send_at_rate(platform, rate, round(rate * seconds))
    end = time.perf_counter()
    unanswered = sum(etag not in platform.listener.heard for etag in due)
    cpu = {name: _short(used - before[name]) for name, used in platform.cpu_s().items()}
    await platform.listener.all_heard([*due])
    latencies = [platform.listener.heard[etag] - at for etag, at in due.items()]
    return {
        "rate_per_s": _short(rate),
        "seconds": seconds,
        "sent": len(due),
        "unanswered_at_end": unanswered,
        "sustained": unanswered <= rate * BEHIND_S,
        "answered_s_after_end": _short(max(platform.listener.heard[etag] for etag in due) - end),
        "latency_ms": _spread(latencies),
        "cpu_s": cpu,
        "memory_mb": {name: round(memory_mb(platform.pids[name])) for name in ("gateway", "engine")},
    }


async def _send_at_rate(platform: Platform, rate: float, number: int) -> dict[str, float]:
    """Return when each ETag was due."""
    start = time.perf_counter() + 0.05
    due = {uuid.uuid4().hex: start + place / rate for place in range(number)}
    async with asyncio.TaskGroup() as sending:
        for etag, at in due.items():
            if (ahead := at - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            sending.create_task(platform.send(etag))
    return due


async def _drained(platform: Platform, number: int) -> Figures:
    """Fill the queue while the gateway stands still, and see how fast it is emptied."""
    etags = [uuid.uuid4().hex for _ in range(number)]
    platform.pod.gateway.send_signal(signal.SIGSTOP)
    for etag in etags:
        await platform.send(etag)
    before = platform.cpu_s()
    start = time.perf_counter()
    platform.pod.gateway.send_signal(signal.SIGCONT)
    await platform.listener.all_heard(etags)
    took = max(platform.listener.heard[etag] for etag in etags) - start
    cpu = {name: _ms((used - before[name]) / number) for name, used in platform.cpu_s().items()}
    return {"fetches": number, "fetches_per_s": _short(number / took), "cpu_ms_per_fetch": cpu}


async def _behind_a_long_one(platform: Platform, number: int) -> tuple[Figures, tuple[str, float, float]]:
    await platform.pod.hold(HELD)
    held = uuid.uuid4().hex
    await platform.send(held, {"name": HELD, "nGenes": 2, "selectedCellSet": "louvain"})
    await platform.pod.began(HELD)
    due = await _send_at_rate(platform, 100, number)
    await platform.listener.all_heard([*due])
    if held in platform.listener.heard:
        raise RuntimeError("the long request was answered before it was to be")
    answer = asyncio.create_task(platform.listener.answer(held))
    platform.pod.let_go(HELD)
    await answer
    latencies = _spread([platform.listener.heard[etag] - at for etag, at in due.items()])
    return {"fetches": number, "rate_per_s": 100, "latency_ms": latencies}, ("p95 in ms", latencies["p95"], 250)


def _spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ranked = sorted(seconds)

    def at(part: float) -> float:
        return _ms(ranked[min(len(ranked) - 1, math.ceil(part * len(ranked)) - 1)])

    return {"median": _ms(statistics.median(ranked)), "p95": at(0.95), "p99": at(0.99)}


def _ms(seconds: float) -> float:
    return _short(1000 * seconds)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
