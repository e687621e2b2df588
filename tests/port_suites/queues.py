"""What every adapter of the port `Queue` promises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from cellworker.gateway.core.ports import Delivery, Queue

WITHIN_S = 120.0


@dataclass(frozen=True)
class QueueUnderTest:
    """An adapter over an empty queue whose rights are complete, with the ways of those around it.

    Attributes
    ----------
    queue
        The adapter.
    send
        Adds a message, as whoever asks the worker does.
    close
        Ends the iteration over deliveries.
    """

    queue: Queue
    send: Callable[[str], Awaitable[None]]
    close: Callable[[], None]


async def following(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(WITHIN_S):
        return await anext(deliveries)


class QueueTests:
    """A subclass gives the fixture `line`, a `QueueUnderTest`."""

    async def test_messages_come_in_order_as_they_were_sent(self, line: QueueUnderTest) -> None:
        bodies = ["one", "zwei ✓", '{"three": 3}']
        line.queue.offer(10)
        for body in bodies:
            await line.send(body)
        deliveries = line.queue.deliveries()
        taken = [await following(deliveries) for _ in bodies]
        assert [delivery.body.decode() for delivery in taken] == bodies
        assert [delivery.attempt for delivery in taken] == [1, 1, 1]

    async def test_whoever_waits_gets_what_comes_later(self, line: QueueUnderTest) -> None:
        line.queue.offer(0)  # whoever waits takes one all the same
        waiting = asyncio.create_task(following(line.queue.deliveries()))
        await asyncio.sleep(0)
        await line.send("later")
        assert (await waiting).body == b"later"

    async def test_what_is_done_is_gone_and_the_next_one_comes(self, line: QueueUnderTest) -> None:
        deliveries = line.queue.deliveries()
        for body in ("one", "two", "three"):
            await line.send(body)
            delivery = await following(deliveries)
            assert (delivery.body.decode(), delivery.attempt) == (body, 1)
            await delivery.done()

    async def test_what_is_handed_back_comes_again_with_its_number(self, line: QueueUnderTest) -> None:
        await line.send("one")
        deliveries = line.queue.deliveries()
        seen = []
        for _ in range(3):
            delivery = await following(deliveries)
            seen.append((delivery.body, delivery.attempt, delivery.message_id))
            await delivery.release()
        last = await following(deliveries)
        await last.done()
        assert [(body, attempt) for body, attempt, _ in seen] == [(b"one", 1), (b"one", 2), (b"one", 3)]
        assert {message_id for _, _, message_id in seen} == {last.message_id}, "one message keeps its id"

    async def test_two_messages_have_two_ids(self, line: QueueUnderTest) -> None:
        line.queue.offer(10)
        await line.send("one")
        await line.send("two")
        deliveries = line.queue.deliveries()
        first, second = await following(deliveries), await following(deliveries)
        assert first.message_id
        assert second.message_id
        assert first.message_id != second.message_id

    async def test_what_is_held_is_ours(self, line: QueueUnderTest) -> None:
        await line.send("one")
        delivery = await following(line.queue.deliveries())
        assert await delivery.claim()

    async def test_closing_ends_the_waiting(self, line: QueueUnderTest) -> None:
        waiting = asyncio.create_task(following(line.queue.deliveries()))
        await asyncio.sleep(0)
        line.close()
        with pytest.raises(StopAsyncIteration):
            await waiting

    async def test_a_closed_queue_gives_nothing_and_what_was_taken_can_still_be_answered(
        self, line: QueueUnderTest
    ) -> None:
        line.queue.offer(1)
        await line.send("one")
        await line.send("two")
        deliveries = line.queue.deliveries()
        taken = await following(deliveries)
        line.close()
        with pytest.raises(StopAsyncIteration):
            await following(deliveries)
        await taken.done()
