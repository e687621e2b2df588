"""The engine is watched: one that hangs is told from one that is away, and from one that works."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from cellworker.gateway.engine_client.engine_watch import EngineAwayError, EngineHungError, EngineWatch


class Engine:
    """Answers while `goes_on` is set; otherwise it takes connections, and no more."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.ready = True
        self.asked = asyncio.Event()
        self.url = ""

    async def health(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.goes_on.wait()
        return web.json_response({"ready": self.ready}, status=200 if self.ready else 503)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    app = web.Application()
    app.router.add_get("/health/ready", engine.health)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield engine
    await runner.cleanup()


def watch(engine: Engine, **options: float) -> EngineWatch:
    return EngineWatch(engine.url, silent_s=1.0, every_s=0.01, probe_timeout_s=0.1, **options)


async def becomes(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.005)


async def test_an_engine_that_accepts_a_call_and_never_answers_hangs_and_the_call_ends(engine: Engine) -> None:
    async with watch(engine) as watched:
        await becomes(lambda: watched.answers and watched.serves)
        assert watched.trouble is None
        engine.goes_on.clear()
        with pytest.raises(EngineHungError):
            async with watched.guard():
                await asyncio.Event().wait()
        assert watched.trouble == "The engine hangs."
        with pytest.raises(EngineAwayError):
            async with watched.guard():
                raise AssertionError("nothing is asked of an engine that hangs")
        engine.goes_on.set()
        await becomes(lambda: watched.trouble is None)
        async with watched.guard():
            pass


async def test_an_engine_that_is_not_there_is_away_and_does_not_hang(engine: Engine, unused_tcp_port: int) -> None:
    engine.url = f"http://127.0.0.1:{unused_tcp_port}"
    async with watch(engine) as watched:
        for _ in range(100):
            await asyncio.sleep(0)
        assert watched.trouble == "The engine does not answer."
        assert not watched.hung.is_set()
        async with watched.guard():
            pass


async def test_one_that_does_not_come_to_listen_hangs_where_it_was_started(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with EngineWatch(url, silent_s=1.0, start_s=1.0, every_s=0.01, probe_timeout_s=0.1) as watched:
        async with asyncio.timeout(120):
            await watched.hung.wait()


async def test_an_error_of_the_call_itself_comes_through(engine: Engine) -> None:
    async with watch(engine) as watched:
        for error in (TimeoutError, ValueError):
            with pytest.raises(error):
                async with watched.guard():
                    raise error
        task = asyncio.create_task(_inside(watched))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _inside(watched: EngineWatch) -> None:
    async with watched.guard():
        await asyncio.Event().wait()


async def test_what_serves_nothing_yet_answers_and_is_not_ready(engine: Engine) -> None:
    engine.ready = False
    async with watch(engine) as watched:
        await becomes(lambda: watched.answers)
        assert not watched.serves
        watched.note_serving()
        assert watched.serves, "whoever had its word knows it before the next question"
