"""What a collector gets to see of a request, over real OTLP/HTTP."""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.tracing import NoTracing, TraceOrigin, Tracing, parse_trace_header
from cellworker.gateway.observe.tracing import make_tracing

TRACE = "5759e988bd862e3fe1be46a994272793"
PARENT = "53995c3f42cd8ad8"
HEADER = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1"
TASKS = ["ListGenes", "MarkerHeatmap"]
SECRET = "hunter2-hunter2-hunter2"


@dataclass
class Collector:
    """Stands in for a collector: keeps the bodies that it is sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        self.paths.append(request.path)
        body = await request.read()
        self.asked.set()
        if self.hold:
            await self.hold.wait()
        if self.status == 200:
            self.bodies.append(body)
        return web.Response(status=self.status)

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def span(self, name: str) -> Span:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def resource(self) -> dict[str, Any]:
        return facts(self.requests[0].resource_spans[0].resource)


def facts(holder: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes}


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collector.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    if collector.hold:
        collector.hold.set()
    await runner.cleanup()


async def one_request(tracing: Tracing, header: str | None = HEADER, task: str = "ListGenes") -> None:
    async with tracing.request(header, task, "e1", 1) as span:
        span.outcome("done")


async def test_a_request_continues_the_trace_of_its_message(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)
    async with tracing.request(HEADER, "ListGenes", "0af", 2) as span:
        span.outcome("done")
    await tracing.close()
    sent = collector.span("work ListGenes")
    assert sent.trace_id.hex() == TRACE
    assert sent.parent_span_id.hex() == PARENT
    assert facts(sent) == {
        "cellworker.task": "ListGenes",
        "cellworker.etag": "0af",
        "cellworker.attempt": 2,
        "cellworker.outcome": "done",
    }
    assert sent.status.code == Status.STATUS_CODE_UNSET
    assert collector.resource()["service.name"] == "cellworker"
    assert collector.paths == ["/v1/traces"]


async def test_steps_are_children_of_their_request_and_of_each_other(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)
    async with tracing.request(HEADER, "ListGenes", "e1", 1):
        with tracing.step("engine"):
            await asyncio.sleep(0)
        with tracing.step("upload"), tracing.step("encode"):
            pass
    await tracing.close()
    request, upload = collector.span("work ListGenes"), collector.span("upload")
    assert collector.span("engine").parent_span_id == upload.parent_span_id == request.span_id
    assert collector.span("encode").parent_span_id == upload.span_id
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert request.start_time_unix_nano <= upload.start_time_unix_nano <= upload.end_time_unix_nano
    assert upload.end_time_unix_nano <= request.end_time_unix_nano


async def test_requests_worked_on_at_the_same_time_do_not_mix(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)
    everybody = asyncio.Barrier(20)

    async def step_in_a_task_of_its_own(number: int) -> None:
        with tracing.step(f"engine {number}"):
            await everybody.wait()

    async def work(number: int) -> str | None:
        header = f"Root=1-5759e988-{number:024x};Parent={number:016x};Sampled=1"
        async with tracing.request(header, "ListGenes", f"e{number}", 1):
            await everybody.wait()
            await asyncio.create_task(step_in_a_task_of_its_own(number))
            with tracing.step(f"upload {number}"):
                await everybody.wait()
                return tracing.current_traceparent()

    traceparents = await asyncio.gather(*(work(number) for number in range(1, 21)))
    assert tracing.current_traceparent() is None
    await tracing.close()
    requests = {facts(span)["cellworker.etag"]: span for span in collector.spans if span.name == "work ListGenes"}
    assert len(requests) == 20
    for number in range(1, 21):
        request = requests[f"e{number}"]
        assert request.trace_id.hex() == f"5759e988{number:024x}"
        assert request.parent_span_id.hex() == f"{number:016x}"
        for step in ("engine", "upload"):
            child = collector.span(f"{step} {number}")
            assert (child.trace_id, child.parent_span_id) == (request.trace_id, request.span_id)
        upload = collector.span(f"upload {number}")
        assert traceparents[number - 1] == f"00-{upload.trace_id.hex()}-{upload.span_id.hex()}-01"


async def test_a_message_without_a_span_of_its_sender_keeps_its_trace(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)
    await one_request(tracing, f"Root=1-{TRACE[:8]}-{TRACE[8:]};Sampled=1")
    await one_request(tracing, None, "MarkerHeatmap")
    await tracing.close()
    assert collector.span("work ListGenes").trace_id.hex() == TRACE
    assert collector.span("work ListGenes").parent_span_id == b""
    assert collector.span("work MarkerHeatmap").trace_id.hex() != TRACE


@pytest.mark.parametrize("header", [HEADER, HEADER.replace(f";Parent={PARENT}", "")])
async def test_a_trace_that_is_not_recorded_is_not_sent_and_says_so_to_the_engine(
    collector: Collector, header: str
) -> None:
    tracing = make_tracing(collector.url, TASKS)
    async with tracing.request(header.replace("Sampled=1", "Sampled=0"), "ListGenes", "e1", 1) as span:
        with tracing.step("engine"):
            traceparent = tracing.current_traceparent()
        span.outcome("done")
    await one_request(tracing, HEADER, "MarkerHeatmap")
    await tracing.close()
    assert [span.name for span in collector.spans] == ["work MarkerHeatmap"]
    assert traceparent is not None
    assert traceparent.startswith(f"00-{TRACE}-")
    assert traceparent.endswith("-00")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        "Root=1-5759e988;Parent=53995c3f42cd8ad8;Sampled=1",
        f"Root={TRACE};Sampled=1",
        f"Root=1-{'0' * 8}-{'0' * 24};Sampled=1",
        f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent=xyz;Sampled=1",
        f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={'0' * 16};Sampled=1",
        HEADER + ";" * 5000,
    ],
)
async def test_a_malformed_header_begins_a_new_trace(collector: Collector, header: str | None) -> None:
    assert parse_trace_header(header) is None
    tracing = make_tracing(collector.url, TASKS)
    await one_request(tracing, header)
    await tracing.close()
    (span,) = collector.spans
    assert span.trace_id.hex() not in (TRACE, "0" * 32)
    assert span.parent_span_id == b""


def test_a_header_is_read_in_any_order_and_with_what_is_not_asked_for() -> None:
    expected = TraceOrigin(int(TRACE, 16), int(PARENT, 16), sampled=True)
    assert parse_trace_header(HEADER) == expected
    header = f"Self=1-67891234-12456789abcdef012345678; Sampled=? ;Parent={PARENT.upper()};Lineage=a:1;"
    assert parse_trace_header(f"{header}Root=1-{TRACE[:8].upper()}-{TRACE[8:]}") == expected


async def test_a_failure_is_marked_by_its_kind_and_its_text_stays_here(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)

    async def work() -> None:
        async with tracing.request(HEADER, "ListGenes", "e1", 1):
            with tracing.step("upload"):
                raise ConnectionError(SECRET)

    with pytest.raises(ConnectionError):
        await work()
    async with tracing.request(HEADER, f"Bearer {SECRET}", "e2", 1) as span:
        span.outcome(str(ErrorCode.INVALID_INPUT))
    await tracing.close()
    for name in ("work ListGenes", "upload"):
        assert collector.span(name).status.code == Status.STATUS_CODE_ERROR
        assert facts(collector.span(name))["error.type"] == "ConnectionError"
        assert not collector.span(name).events
    unknown = collector.span("work unknown")
    assert unknown.status.code == Status.STATUS_CODE_ERROR
    assert facts(unknown)["cellworker.outcome"] == "INVALID_INPUT"
    assert all(SECRET.encode() not in body for body in collector.bodies)


async def test_a_step_outside_of_a_request_is_not_traced(collector: Collector) -> None:
    tracing = make_tracing(collector.url, TASKS)
    with tracing.step("sync"):
        assert tracing.current_traceparent() is None
    await tracing.close()
    assert collector.paths == []


async def test_an_address_with_a_path_is_used_as_it_is(collector: Collector) -> None:
    tracing = make_tracing(f"{collector.url}/otlp/traces", TASKS)
    await one_request(tracing)
    await tracing.close()
    assert collector.paths == ["/otlp/traces"]


async def test_a_collector_that_never_answers_holds_up_the_end_for_two_seconds(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.hold = asyncio.Event()
    tracing = make_tracing(collector.url, TASKS)
    await one_request(tracing)
    began = time.monotonic()
    await tracing.close()
    assert 1.5 < time.monotonic() - began < 6
    assert collector.asked.is_set()
    assert "traces left unsent at the end" in caplog.messages


async def test_a_collector_that_refuses_is_reported_once(
    collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds between batches
    caplog.set_level(logging.INFO)
    collector.status = 400
    tracing = make_tracing(f"{collector.url}/?key={SECRET}", TASKS)
    for _ in range(3):
        collector.asked.clear()
        await one_request(tracing)
        await asyncio.wait_for(collector.asked.wait(), 10)
    collector.status = 200
    collector.asked.clear()
    await one_request(tracing)
    await asyncio.wait_for(collector.asked.wait(), 10)
    await tracing.close()
    assert [record.message for record in caplog.records if "trace" in record.message] == [
        "traces cannot be sent",
        "traces are sent again",
    ]
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert len(collector.spans) == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [f"collector:{SECRET}", f"ftp://u:{SECRET}@host", f"http://[{SECRET}", "http://"])
def test_an_address_that_cannot_be_one_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(WorkerError) as caught:
        make_tracing(url, TASKS)
    assert "TRACES_URL" in caught.value.message
    assert SECRET not in caught.value.message


async def test_without_an_address_nothing_is_traced() -> None:
    tracing = make_tracing("", TASKS)
    assert isinstance(tracing, NoTracing)
    async with tracing.request(HEADER, "ListGenes", "e1", 1) as span:
        with tracing.step("engine"):
            assert tracing.current_traceparent() is None
        span.outcome("done")
    await tracing.close()


def test_without_an_address_opentelemetry_is_not_even_loaded() -> None:
    script = """
import sys
from cellworker.gateway.observe.tracing import make_tracing
make_tracing("", [])
assert not any(name.startswith("opentelemetry") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
