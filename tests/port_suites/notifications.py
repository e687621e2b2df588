"""What every adapter of the port `Notifications` promises."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cellworker.gateway.core.ports import Notifications

Events = list[tuple[str, Any]]
WITHIN_S = 120.0


@dataclass(frozen=True)
class BusUnderTest:
    """An adapter that is connected, with two who listen.

    Attributes
    ----------
    notifications
        The adapter.
    heard
        One a listener: returns its events from the first on, once they are so many.
    """

    notifications: Notifications
    heard: tuple[Callable[[int], Awaitable[Events]], Callable[[int], Awaitable[Events]]]


class NotificationsTests:
    """A subclass gives the fixture `bus_under_test`, a `BusUnderTest`."""

    @pytest.mark.parametrize(
        "payload",
        [None, "KLUv/Si1", "zwei ✓ 😀", {"response": {"error": False}, "n": [1, -2.5, 2**40, True, None]}],
        ids=["null", "text", "unicode", "object"],
    )
    async def test_everyone_hears_an_event_with_its_payload(self, bus_under_test: BusUnderTest, payload: Any) -> None:
        await bus_under_test.notifications.emit("WorkResponse-e1", payload)
        for heard in bus_under_test.heard:
            assert await heard(1) == [("WorkResponse-e1", payload)]

    async def test_what_is_posted_keeps_its_place_among_what_is_emitted(self, bus_under_test: BusUnderTest) -> None:
        told: list[bool] = []
        for number in range(20):
            bus_under_test.notifications.post("posted", number, told.append)
            bus_under_test.notifications.post("posted", number, told.append)
            await bus_under_test.notifications.emit("emitted", number)
        wanted = [(name, number) for number in range(20) for name in ("posted", "posted", "emitted")]
        for heard in bus_under_test.heard:
            assert await heard(60) == wanted
        assert told == [True] * 40

    async def test_events_of_many_callers_arrive_once_each_callers_in_order(self, bus_under_test: BusUnderTest) -> None:
        async def call(caller: int) -> None:
            for step in range(10):
                await bus_under_test.notifications.emit("x", [caller, step])

        await asyncio.gather(*map(call, range(30)))
        for heard in bus_under_test.heard:
            payloads = [payload for _, payload in await heard(300)]
            assert sorted(payloads) == [[caller, step] for caller in range(30) for step in range(10)]
            for caller in range(30):
                assert [step for of, step in payloads if of == caller] == list(range(10))

    async def test_a_large_result_arrives_whole(self, bus_under_test: BusUnderTest) -> None:
        text = "Gzr" * 400_000
        await bus_under_test.notifications.emit("x", text)
        for heard in bus_under_test.heard:
            assert await heard(1) == [("x", text)]

    async def test_what_cannot_be_said_is_refused_and_harms_nobody(self, bus_under_test: BusUnderTest) -> None:
        with pytest.raises(TypeError):
            await bus_under_test.notifications.emit("x", object())
        with pytest.raises(TypeError):
            bus_under_test.notifications.post("x", object(), lambda _: None)
        await bus_under_test.notifications.emit("x", "text")
        for heard in bus_under_test.heard:
            assert await heard(1) == [("x", "text")]
