"""The engine is told the trace that a request belongs to."""

from aiohttp import web

from cellworker.gateway.engine_client.http_engine import HttpEngine
from cellworker.tasks.catalog import find

TRACEPARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


async def test_a_call_to_the_engine_carries_the_span_it_belongs_to() -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent"))
        return web.Response(body=b'{"data":1,"error":null}', content_type="application/json")

    app = web.Application()
    app.router.add_post("/v0/listGenes", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    spans: list[str | None] = [TRACEPARENT, None]
    try:
        async with HttpEngine(url, find, traceparent=lambda: spans.pop(0)) as engine:
            assert await engine.compute("ListGenes", b"{}") == b"1"
            assert await engine.compute("ListGenes", b"{}") == b"1"
    finally:
        await runner.cleanup()
    assert seen == [TRACEPARENT, None]
