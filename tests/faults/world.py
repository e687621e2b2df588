"""A platform around the real processes of a worker: queue, object store, Redis, API, and a browser that listens.

    with open_platform(folder) as platform:
        async with open_world(tmp_path, platform) as world:
            pod = world.pod("pod-1")
            pod.start()
            etag = await world.send({"name": "ListGenes", ...})
            answer = await world.answer(etag)

Everything is real but SQS and S3, which are stand-ins with exact semantics (see tests/cloud), and the API, which is a
small server here. The rights are the platform's own.

The platform is started once and serves one world after the other; each has an experiment and a queue of its own, and
leaves the platform healed and empty.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiobotocore.session
import aiohttp
import msgpack
import redis.asyncio
from aiohttp import web

from cellworker.local.merge import merge_cell_sets
from cellworker.protocol.encoding import decompress
from cellworker.sample import sample_path
from cellworker.settings import Settings
from cloud.servers import TESTER, Redis, StandIn, free_port, start_redis, start_s3, start_sqs

HERE = Path(__file__).parent
SMALL_EXPERIMENT = HERE.parent / "fixtures" / "pbmcsmall" / "v4"
"""Another experiment than the sample: 80 cells."""
ACCOUNT = "000000000001"
REGION = "eu-west-1"
RESULTS = f"worker-results-staging-{ACCOUNT}"
CELL_SETS = f"cell-sets-staging-{ACCOUNT}"
EXPERIMENTS = f"processed-matrix-staging-{ACCOUNT}"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0LW9mLWEtdXNlcg.c2lnbmF0dXJlLW9mLWEtdXNlcg"
SECRET_KEY = "planted-aws-secret-key-of-the-pod"
PASSWORD = "planted-password-of-redis"
WAIT_S = 120.0

PLATFORM_RIGHTS = [
    "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueUrl",
    "s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:PutObjectTagging",
]  # fmt: skip
"""What the pod's role may do (reliability.md C2, row 13, and reading)."""

LIST_GENES = {"name": "ListGenes", "orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 4}
GENE_EXPRESSION = {"name": "GeneExpression", "genes": ["CD3D", "MS4A1"]}
HEATMAP = {"name": "MarkerHeatmap", "nGenes": 2, "selectedCellSet": "louvain"}
"""A request of the long lane."""
NEW_SET = {
    "name": "GetExpressionCellSets",
    "genesConfig": [{"geneName": "CD3D", "comparisonType": "greaterThan", "thresholdValue": 0.5}],
}
"""A request that inserts a cell set."""
EVERY_TASK = [
    LIST_GENES,
    GENE_EXPRESSION,
    HEATMAP,
    NEW_SET,
    {"name": "GetEmbedding", "type": "umap", "useSaved": True, "config": {}},
    {"name": "GetDoubletScore"},
    {"name": "GetMitochondrialContent"},
    {"name": "GetNGenes"},
    {"name": "GetNUmis"},
    {"name": "GetNormalizedExpression", "subsetBy": {"louvain": ["louvain-0"]}},
    {"name": "DifferentialExpression", "cellSet": "louvain-0", "compareWith": "rest", "basis": "all"},
    {"name": "BatchDifferentialExpression", "cellSet": ["louvain-0", "louvain-1"], "compareWith": "rest",
     "basis": ["all"]},
    {"name": "GetBackgroundExpressedGenes", "cellSet": "louvain-0", "compareWith": "rest", "basis": "all"},
    {"name": "DotPlot", "groupBy": "louvain", "useMarkerGenes": True, "numberOfMarkers": 2,
     "filterBy": {"group": "All", "key": "All"}},
]  # fmt: skip
"""A request of every task that there is."""
FILE = {"name": "GetNormalizedExpression", "subsetBy": {}}
"""A request of the long lane whose result is a file."""


@dataclass
class Platform:
    """The servers, and what outlives a test.

    Attributes
    ----------
    sqs, s3, redis
        The servers.
    s3_folder
        Where the objects lie.
    stores
        Where all engines keep what they made of experiments, so that each experiment is read once.
    """

    sqs: StandIn
    s3: StandIn
    redis: Redis
    s3_folder: Path
    stores: Path

    def heal(self) -> None:
        """Bring back what is away, and end all faults and counts."""
        for server in (self.sqs, self.s3, self.redis):
            if server.process is not None and server.process.poll() is None:
                server.resume()
            else:
                server.start()
            wait_until(server.ready, f"{server.url} answers")
        for stand_in in (self.sqs, self.s3):
            stand_in.admin(clear=True, allow=PLATFORM_RIGHTS, deny=[], reset_counts=True)


@contextlib.contextmanager
def open_platform(folder: Path) -> Iterator[Platform]:
    """Start the servers; end them."""
    with contextlib.ExitStack() as stack:
        sqs = stack.enter_context(start_sqs(allow=PLATFORM_RIGHTS))
        s3 = stack.enter_context(
            start_s3(buckets=[RESULTS, CELL_SETS, EXPERIMENTS], allow=PLATFORM_RIGHTS, folder=folder / "s3")
        )
        bus = stack.enter_context(start_redis(password=PASSWORD))
        yield Platform(sqs, s3, bus, folder / "s3", folder / "stores")


class Process:
    """One process of a pod, its log in a file."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.command, self.environment, self.log = command, dict(environment), log
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def kill(self) -> None:
        """End it, and all that it started, by SIGKILL."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    def signal(self, number: int) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    @contextlib.asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[list[int]]:
        """Start it again whenever it ends, as Kubernetes does with a container; yields the statuses so far."""
        ends: list[int] = []

        async def keep() -> None:
            while True:
                ends.append(await self.ended(within_s=600))
                self.start()

        keeping = asyncio.create_task(keep())
        try:
            yield ends
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def ended(self, within_s: float = WAIT_S) -> int:
        """Wait until it ends; return its exit status (negative: the signal)."""
        assert self.popen is not None
        async with asyncio.timeout(within_s):
            while (status := self.popen.poll()) is None:
                await asyncio.sleep(0.01)
        return status

    def show(self) -> None:
        """Print the log; pytest shows it where the test has failed."""
        print(f"--- {self.log}\n{self.log.read_text(errors='replace') if self.log.exists() else ''}")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log; a line that is no JSON, such as a traceback of the interpreter, as ``{"event": line}``."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else []:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                found.append({"event": line})
        return found

    def said(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Lines of the log with this event and these facts."""
        return [
            line
            for line in self.lines
            if line["event"] == event and all(line.get(name) == value for name, value in facts.items())
        ]


class Pod:
    """A gateway and an engine that share a folder, as two containers share a volume."""

    def __init__(
        self,
        name: str,
        folder: Path,
        stores: Path,
        queue_hash: str,
        gateway: Mapping[str, str],
        engine: Mapping[str, str],
    ) -> None:
        folder.mkdir(parents=True)
        self.name, self.folder, self.queue_hash = name, folder, queue_hash
        self.data = folder / "data"
        self.labels = folder / "labels"
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        home = folder / "home"
        home.mkdir(mode=0o555)
        port, self.health_port = free_port(), free_port()
        self.engine_url = f"http://127.0.0.1:{port}"
        common = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(self.tmp),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOSTNAME": name,
            "CLUSTER_ENV": "staging",
            "DATA_DIR": str(self.data),
            "STORE_DIR": str(stores),
            "LABELS_FILE": str(self.labels),
            "SHORT_WORKERS": "2",
            "FAULT_DIR": str(self.faults),
        }
        python = sys.executable
        self.engine = Process(
            [python, str(HERE / "engine.py")],
            {**common, "PORT": str(port), "RELOAD_POLL_S": "0", **engine},
            folder / "engine.log",
        )
        self.gateway = Process(
            [python, "-m", "cellworker.cli.main", "gateway"],
            {
                **common,
                "ENGINE_URL": self.engine_url,
                "HEALTH_PORT": str(self.health_port),
                "METRICS": "true",
                **gateway,
            },
            folder / "gateway.log",
        )

    def label(self, experiment_id: str) -> None:
        """Write the labels, as Kubernetes does."""
        temporary = self.labels.with_suffix(".tmp")
        temporary.write_text(
            f'experimentId="{experiment_id}"\nsandboxId="default"\ntype="worker"\nworkQueueHash="{self.queue_hash}"\n'
        )
        temporary.replace(self.labels)

    def start(self) -> None:
        self.engine.start()
        self.gateway.start()

    def kill(self) -> None:
        """What the loss of a node is: all processes end at once."""
        self.gateway.kill()
        self.engine.kill()

    def destroy(self) -> None:
        """What eviction is: the volume is gone as well."""
        self.kill()
        for folder in (self.data, self.tmp):
            shutil.rmtree(folder, ignore_errors=True)

    def fault(self, what: str, task: str, content: str = "") -> None:
        """Have a task do something from now on; see `slowed`."""
        (self.faults / f"{what}-{task}").write_text(content)

    @contextlib.contextmanager
    def faulty(self, what: str, task: str) -> Iterator[None]:
        """Have a task do something inside the block."""
        self.fault(what, task)
        try:
            yield
        finally:
            self.clear(what, task)

    def clear(self, what: str, task: str) -> None:
        (self.faults / f"{what}-{task}").unlink(missing_ok=True)

    def computed(self, task: str) -> int:
        """How often a computation of the task has begun."""
        return len(list(self.faults.glob(f"began-{task}-*")))

    async def began(self, task: str, times: int = 1) -> int:
        """Wait until a computation of the task has begun so often; return the process of the last."""
        await until(lambda: self.computed(task) >= times, f"{task} began {times} times")
        return int(max(self.faults.glob(f"began-{task}-*")).read_text())

    async def ready(self) -> None:
        """Wait until it serves its experiment."""
        await until(lambda: self.engine.alive and self.engine.said("experiment ready"), "the experiment is served")

    def leftovers(self) -> list[str]:
        """Files that a request or a download has left behind."""
        scratch = [*self.tmp.glob("cellworker-scratch-*/request-*"), *self.tmp.glob("cellworker-scratch-*/results/*")]
        strange = [item for item in self.tmp.iterdir() if not item.name.startswith("cellworker-scratch-")]
        partial = [
            item for item in self.data.rglob("*") if item.name.endswith((".part", ".tmp")) or ".incoming" in str(item)
        ]
        return [str(item.relative_to(self.folder)) for item in [*scratch, *strange, *partial]]

    async def metric(self, series: str) -> float:
        """Return the value of a series, such as ``cellworker_deliveries_total{attempt="2"}``; 0 where there is none."""
        _, text = await self.health("/metrics")
        found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{series} ")]
        return float(found[0]) if found else 0.0

    async def ask_engine(self, path: str, body: Mapping[str, Any]) -> Any:
        """Ask the engine itself, as the gateway does."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.engine_url}/v0/{path}", json=body) as answer,
        ):
            return await answer.json()

    async def health(self, path: str = "/health/ready") -> tuple[int, Any]:
        """Ask the health port."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.health_port}{path}") as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text


class Api:
    """The platform's API, as far as a worker sees it: it changes cell sets, and remembers who asked."""

    def __init__(self, read: Callable[[str], "asyncio.Future[bytes]"], write: Callable[[str, bytes], Any]) -> None:
        self._read, self._write = read, write
        self.patches: list[list[dict[str, Any]]] = []
        self.tokens: list[str | None] = []
        self.fail: list[int] = []
        self.drop_answers = 0
        self.arrived = 0
        self.goes_on = asyncio.Event()
        """Cleared, the API works on what it is asked, and has changed nothing yet."""
        self.goes_on.set()

    async def patch(self, request: web.Request) -> web.Response:
        experiment_id = request.match_info["experiment"]
        if self.fail:
            status = self.fail.pop(0)
            return web.json_response({"message": "The platform says no.", "code": status}, status=status)
        operations = json.loads(await request.read())
        self.arrived += 1
        await self.goes_on.wait()
        document = json.loads(await self._read(experiment_id))
        changed = merge_cell_sets(document, operations)
        await self._write(experiment_id, json.dumps(changed).encode())
        self.patches.append(operations)
        self.tokens.append(request.headers.get("Authorization"))
        if self.drop_answers:
            self.drop_answers -= 1
            assert request.transport
            request.transport.abort()
        return web.json_response({"data": {"message": "success", "code": 200}})


class World:
    """Everything around the pods."""

    def __init__(self, folder: Path, platform: Platform, clients: Any) -> None:
        self.folder, self.platform = folder, platform
        self.sqs, self.s3, self.redis = platform.sqs, platform.s3, platform.redis
        self.experiment_id = str(uuid.uuid4())
        self.queue_hash = uuid.uuid4().hex[:8]
        self.events: list[tuple[str, Any]] = []
        self.raw_events: list[bytes] = []
        self.first_heard: dict[str, float] = {}
        self.heard = asyncio.Condition()
        self.sent: dict[str, dict[str, Any]] = {}
        self.pods: list[Pod] = []
        self.api_url = ""
        self._queue_client, self._store_client = clients
        self._queue_url = ""
        self._number = 0
        self.api = Api(self.cell_sets_text, self._write_cell_sets)  # type: ignore[arg-type]

    # --- pods ---

    def pod(
        self, name: str = "pod-1", *, label: bool = True, engine: Mapping[str, str] | None = None, **settings: Any
    ) -> Pod:
        """Make a pod; its processes are not started yet.

        `settings` are environment variables of the gateway, `engine` those of the engine.
        """
        unknown = {name for name in settings if name.lower() not in Settings.__dataclass_fields__}
        assert not unknown, f"no settings: {unknown}"
        environment = {
            "AWS_ACCOUNT_ID": ACCOUNT,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED01",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_SQS": self.sqs.url,
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "REDIS_URL": self.redis.url,
            "API_URL": self.api_url,
            "VISIBILITY_S": "30",
            "GRACE_S": "10",
            "RESCUE": "false",
            "ENGINE_SILENT_S": "40",
            **{name: str(value) for name, value in settings.items()},
        }
        folder = self.folder / f"{name}-{len(self.pods)}"
        pod = Pod(name, folder, self.platform.stores, self.queue_hash, environment, engine or {})
        self.pods.append(pod)
        if label:
            pod.label(self.experiment_id)
        return pod

    # --- the API's part ---

    async def send(
        self, body: Mapping[str, Any], *, etag: str | None = None, timeout_s: float = 300, **more: Any
    ) -> str:
        """Put a request on the queue; return its ETag."""
        self._number += 1
        etag = etag or hashlib.md5(f"{self._number}{json.dumps(body)}".encode()).hexdigest()
        envelope = {
            "signedUrl": f"{self.s3.url}/{RESULTS}/{etag}?X-Amz-Expires=900",
            "ETag": etag,
            "Authorization": f"Bearer {TOKEN}",
            "experimentId": self.experiment_id,
            "timeout": (datetime.now(UTC) + timedelta(seconds=timeout_s)).isoformat(),
            "body": dict(body),
            "requestProps": {"broadcast": False, "cacheUniquenessKey": self._number},
            **more,
        }
        self.sent[etag] = envelope
        await self.send_text(json.dumps(envelope))
        return etag

    async def create_queue(self) -> None:
        """Make the queue, as the API does when it has the first request."""
        attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        made = await self._queue_client.create_queue(
            QueueName=f"queue-job-{self.queue_hash}-staging.fifo", Attributes=attributes
        )
        self._queue_url = made["QueueUrl"]

    async def send_text(self, text: str, **more: Any) -> None:
        await self._queue_client.send_message(QueueUrl=self._queue_url, MessageBody=text, MessageGroupId="work", **more)

    async def cell_sets_text(self, experiment_id: str) -> bytes:
        return await self.object(CELL_SETS, experiment_id)

    async def _write_cell_sets(self, experiment_id: str, content: bytes) -> None:
        await self.put(CELL_SETS, experiment_id, content)

    async def cell_sets(self) -> list[dict[str, Any]]:
        """The classes as they are stored."""
        return json.loads(await self.cell_sets_text(self.experiment_id))["cellSets"]  # type: ignore[no-any-return]

    async def scratchpad(self) -> list[str]:
        """Names of the custom sets."""
        (found,) = [item for item in await self.cell_sets() if item["key"] == "scratchpad"]
        return [item["name"] for item in found["children"]]

    async def upload_experiment(self, folder: Path | None = None) -> None:
        """Store the experiment's file and its cell sets, as the pipeline does."""
        folder = folder or sample_path()
        await self.put(EXPERIMENTS, f"{self.experiment_id}/r.rds", (folder / "r.rds").read_bytes())
        await self.put(CELL_SETS, self.experiment_id, (folder / "cell_sets.json").read_bytes())

    # --- the object store, the queue ---

    async def put(self, bucket: str, key: str, content: bytes) -> None:
        await self._store_client.put_object(Bucket=bucket, Key=key, Body=content)

    async def object(self, bucket: str, key: str) -> bytes:
        answer = await self._store_client.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return await body.read()  # type: ignore[no-any-return]

    async def keys(self, bucket: str = RESULTS, prefix: str = "") -> dict[str, int]:
        """Keys and sizes of a bucket."""
        found: dict[str, int] = {}
        token: dict[str, str] = {}
        while True:
            answer = await self._store_client.list_objects_v2(Bucket=bucket, Prefix=prefix, **token)
            found |= {item["Key"]: item["Size"] for item in answer.get("Contents", ())}
            if not answer.get("IsTruncated"):
                return found
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    async def journal(self) -> list[str]:
        """Entries that are open."""
        found = await self.keys(prefix=f".journal/{self.experiment_id}/")
        return [key for key, size in found.items() if size and key.rpartition("/")[2].isdecimal()]

    async def tags(self, etag: str) -> dict[str, str]:
        answer = await self._store_client.get_object_tagging(Bucket=RESULTS, Key=etag)
        return {item["Key"]: item["Value"] for item in answer["TagSet"]}

    async def queued(self) -> tuple[int, int]:
        """Messages that are visible, and that are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self._queue_client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=names)
        visible, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, hidden

    async def empty(self) -> None:
        """Remove all objects and the queue."""
        for bucket in (RESULTS, CELL_SETS, EXPERIMENTS):
            for key in await self.keys(bucket):
                await self._store_client.delete_object(Bucket=bucket, Key=key)
        if self._queue_url:
            await self._queue_client.delete_queue(QueueUrl=self._queue_url)

    async def settled(self) -> None:
        """Wait until the queue and the journal are empty: nothing is owed to anybody."""
        async with asyncio.timeout(WAIT_S):
            while await self.queued() != (0, 0) or await self.journal():
                await asyncio.sleep(0.05)

    # --- the browser's part ---

    def payloads(self, event: str) -> list[Any]:
        return [payload for name, payload in self.events if name == event]

    def statuses(self) -> list[str]:
        """What all heartbeats said, in order."""
        return [payload["status_code"] for name, payload in self.events if name.startswith("Heartbeat-")]

    def answers(self, etag: str) -> list[Any]:
        """What came for a request: decoded results, and notices as they are."""
        return [_decoded(payload) for payload in self.payloads(f"WorkResponse-{etag}")]

    async def answer(self, etag: str, times: int = 1, within_s: float = WAIT_S) -> Any:
        """Wait for the answer of a request; return the last."""
        name = f"WorkResponse-{etag}"
        async with asyncio.timeout(within_s), self.heard:
            await self.heard.wait_for(lambda: len(self.payloads(name)) >= times)
        return self.answers(etag)[-1]

    async def error(self, etag: str, within_s: float = WAIT_S) -> str:
        """Wait for the answer of a request that is an error; return its code."""
        notice = await self.answer(etag, within_s=within_s)
        assert isinstance(notice, dict), notice
        assert notice["response"]["error"] is True, notice
        return str(notice["response"]["errorCode"])

    @contextlib.asynccontextmanager
    async def listening(self, bus: Redis) -> AsyncIterator[None]:
        """Hear what a Redis carries, through outages of it."""
        hearing = asyncio.create_task(self._listen(bus))
        try:
            await self.heeded(bus)
            yield
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def heeded(self, bus: Redis | None = None) -> None:
        """Wait until events would be heard."""
        async with asyncio.timeout(WAIT_S):
            while not await asyncio.to_thread((bus or self.redis).command_of, "PUBSUB", "NUMPAT"):
                await asyncio.sleep(0.01)

    async def _listen(self, bus: Redis) -> None:
        more: dict[str, Any] = {"ssl_ca_certs": str(bus.ca_file)} if bus.ca_file else {}
        while True:
            with contextlib.suppress(redis.exceptions.ConnectionError, OSError):
                async with redis.asyncio.from_url(bus.url, **more) as client, client.pubsub() as channel:
                    await channel.psubscribe("socket.io#/#*")
                    async for message in channel.listen():
                        if message["type"] == "pmessage":
                            await self._hear(message["data"])
            await asyncio.sleep(0.02)

    async def _hear(self, content: bytes) -> None:
        _, packet, _ = msgpack.unpackb(content, raw=False, strict_map_key=False)
        event, payload = packet["data"]
        async with self.heard:
            self.raw_events.append(content)
            self.events.append((event, payload))
            self.first_heard.setdefault(event, time.perf_counter())
            self.heard.notify_all()


def _decoded(payload: Any) -> Any:
    return json.loads(decompress(base64.b64decode(payload))) if isinstance(payload, str) else payload


async def until(holds: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Wait until something holds that has no event of its own."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None


async def eventually(holds: Callable[[], Awaitable[object]], what: str, within_s: float = WAIT_S) -> None:
    """As `until`, for what has to be asked for."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None


def wait_until(holds: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """As `until`, where there is no event loop."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@contextlib.asynccontextmanager
async def open_world(folder: Path, platform: Platform, *, queue: bool = True) -> AsyncIterator[World]:
    """Make everything but pods; end everything, pods included."""
    session = aiobotocore.session.get_session()

    def client(service: str, url: str) -> Any:
        return session.create_client(
            service, endpoint_url=url, region_name=REGION, aws_access_key_id=TESTER, aws_secret_access_key="x"
        )

    async with contextlib.AsyncExitStack() as stack:
        queue_client = await stack.enter_async_context(client("sqs", platform.sqs.url))
        store_client = await stack.enter_async_context(client("s3", platform.s3.url))
        world = World(folder, platform, (queue_client, store_client))
        if queue:
            await world.create_queue()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_patch("/v2/experiments/{experiment}/cellSets", world.api.patch)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.api_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await world.upload_experiment()
        await stack.enter_async_context(world.listening(platform.redis))
        try:
            yield world
        finally:
            for pod in world.pods:
                pod.kill()
                for process in (pod.gateway, pod.engine):
                    process.show()
            platform.heal()
            await world.empty()
