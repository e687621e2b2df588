"""Progress heartbeats: news, and nothing but news."""

import asyncio
from typing import Any

from cellworker.gateway.core.progress import Ticker


async def test_a_heartbeat_goes_out_with_news_and_only_then() -> None:
    posted: list[dict[str, Any]] = []
    changed = asyncio.Event()

    def post(payload: dict[str, Any]) -> None:
        posted.append(payload)
        changed.set()

    async def told(stage: str, fraction: float) -> None:
        await ticker.report(stage, fraction)
        await changed.wait()
        changed.clear()

    async with asyncio.timeout(20), Ticker(post, "ListGenes", every=0.001) as ticker:
        await told("reading", 0.5)
        await ticker.report("reading", 0.501)
        for _ in range(50):
            await asyncio.sleep(0)
        await told("writing", 0.6)
    assert [(item["user_message"], item["progress_percent"]) for item in posted] == [("reading", 50), ("writing", 60)]


async def test_a_computation_without_progress_has_no_heartbeats_of_its_own() -> None:
    posted: list[dict[str, Any]] = []
    ticks = 0
    ticker = Ticker(posted.append, "ListGenes", every=0.0)
    original = ticker._run

    async def counted() -> None:
        nonlocal ticks
        running = asyncio.create_task(original())
        try:
            for ticks in range(100):  # noqa: B007 - the loop of the ticker runs in between
                await asyncio.sleep(0)
        finally:
            running.cancel()

    ticker._run = counted  # type: ignore[method-assign]
    async with ticker:
        while ticks < 99:
            await asyncio.sleep(0)
    assert posted == []
