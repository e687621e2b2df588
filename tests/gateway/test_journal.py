"""The journal: what was accepted is found by whoever comes next, and tokens lie nowhere in clear."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cellworker.gateway.core.journal import ObjectJournal, StoredObject, orphaned_experiments
from cellworker.gateway.core.ports import Delivery
from cellworker.gateway.core.sealing import Sealer

TOKEN = "Bearer hidden-token-of-a-user"
KEY = Sealer(b"k" * 32)


@dataclass
class Folder:
    """An object store with a clock of its own, whose rights do not include removing."""

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    clock: float = 1000.0
    fails: bool = False
    written: list[str] = field(default_factory=list)

    async def put(self, key: str, content: bytes) -> None:
        if self.fails:
            raise OSError("the store is away")
        await asyncio.sleep(0)
        self.written.append(key)
        self.objects[key] = (content, self.clock)

    async def get(self, key: str) -> bytes:
        return self.objects.get(key, (b"", 0))[0]

    async def listing(self, prefix: str) -> list[StoredObject]:
        await asyncio.sleep(0)
        return [
            StoredObject(key, len(content), self.clock - written)
            for key, (content, written) in sorted(self.objects.items())
            if key.startswith(prefix)
        ]

    async def remove(self, key: str) -> None:
        await self.put(key, b"")

    @property
    def entries(self) -> list[str]:
        return [key for key, (content, _) in self.objects.items() if content and key[-1].isdecimal()]


@pytest.fixture
def folder() -> Folder:
    return Folder()


def journal(folder: Folder, owner: str = "pod-1", *, sealer: Sealer = KEY, **options: Any) -> ObjectJournal:
    return ObjectJournal(folder, "x1", owner, sealer, **{"renew_s": 1000.0, "stale_s": 90.0, **options})


def message(etag: str = "e1") -> bytes:
    envelope = {
        "ETag": etag,
        "Authorization": TOKEN,
        "experimentId": "x1",
        "timeout": "2026-11-22T13:00:00Z",
        "body": {"name": "ClusterCells", "nested": {"authJWT": TOKEN}},
        "requestProps": {},
    }
    return json.dumps(envelope).encode()


async def nothing() -> None:
    pass


def delivery(etag: str = "e1", attempt: int = 1) -> Delivery:
    return Delivery(message(etag), attempt, nothing, nothing, f"id of {etag}", "Root=1-2-3")


async def test_the_next_process_of_the_pod_finds_what_was_accepted(folder: Folder) -> None:
    await journal(folder).write(delivery())
    (found,) = await journal(folder).orphans()
    assert found.body == message()
    assert (found.attempt, found.message_id, found.trace) == (2, "id of e1", "Root=1-2-3")
    (again,) = await journal(folder).orphans()
    assert again.attempt == 3


async def test_answered_requests_are_never_taken_over(folder: Folder) -> None:
    entry = await journal(folder).write(delivery())
    await entry.done()
    assert await journal(folder).orphans() == []
    folder.clock += 1000
    assert await journal(folder, "pod-2").orphans() == []
    assert folder.entries == []


async def test_what_is_worked_on_is_not_an_orphan(folder: Folder) -> None:
    first = journal(folder)
    await first.write(delivery("e1"))
    (left,) = await journal(folder).orphans()
    await first.write(delivery("e2"))
    assert left.attempt == 2
    assert await first.orphans() == []


async def test_what_was_released_is_taken_again_by_the_same_process(folder: Folder) -> None:
    kept = journal(folder)
    entry = await kept.write(delivery())
    await entry.release()
    (found,) = await kept.orphans()
    assert found.attempt == 2
    assert await kept.orphans() == []
    await found.done()
    assert folder.entries == []


async def test_a_new_entry_never_overwrites_what_an_earlier_process_left(folder: Folder) -> None:
    old = journal(folder)
    for number in range(3):
        await old.write(delivery(f"old-{number}"))
    new = journal(folder)
    await asyncio.gather(*(new.write(delivery(f"new-{number}")) for number in range(3)))
    found = await new.orphans()
    assert sorted(json.loads(item.body)["ETag"] for item in found) == ["old-0", "old-1", "old-2"]


async def test_a_pod_that_was_taken_over_loses_its_claim(folder: Folder) -> None:
    first = journal(folder)
    entry = await first.write(delivery())
    folder.clock += 91
    (taken,) = await journal(folder, "pod-2").orphans()
    assert not await entry.claim()
    assert first.entries == 0, "it is not held any more"
    assert await taken.claim()


async def test_a_restarted_container_takes_the_claim_from_the_process_before_it(folder: Folder) -> None:
    entry = await journal(folder).write(delivery())
    (taken,) = await journal(folder).orphans()
    assert not await entry.claim()
    assert await taken.claim()


async def test_the_next_attempt_knows_when_a_change_of_cell_sets_was_sent(folder: Folder) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    entry = await journal(folder, now=lambda: now).write(delivery())
    (unsent,) = await journal(folder).orphans()
    assert entry.sent_at is unsent.sent_at is None
    (sent,) = await journal(folder, now=lambda: now).orphans()
    assert await sent.claim()
    (found,) = await journal(folder).orphans()
    assert found.sent_at == now
    (later,) = await journal(folder).orphans()
    assert later.sent_at == now, "also the attempt after an attempt that came to nothing"


async def test_a_message_that_another_pod_holds_in_the_journal_is_known_by_its_id(folder: Folder) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    entry = await journal(folder).write(delivery())
    other = journal(folder, "pod-2", now=lambda: now)
    assert await other.sent_at("id of e2") is None
    assert await other.sent_at("id of e1") == now, "it may be sent at any moment"
    sent = datetime(2026, 11, 22, 11, tzinfo=UTC)
    (taken,) = await journal(folder, now=lambda: sent).orphans()
    assert await taken.claim()
    assert await other.sent_at("id of e1") == sent
    await taken.done()
    assert await other.sent_at("id of e1") is None
    assert not await entry.claim()


async def test_slots_are_used_again(folder: Folder) -> None:
    kept = journal(folder)
    for number in range(20):
        entry = await kept.write(delivery(f"e{number}"))
        await entry.done()
    assert len([key for key in folder.objects if key[-1].isdecimal()]) == 1


async def test_another_pod_waits_until_the_holder_is_silent(folder: Folder) -> None:
    await journal(folder).write(delivery())
    other = journal(folder, "pod-2")
    folder.clock += 89
    assert await other.orphans() == []
    folder.clock += 2
    (found,) = await other.orphans()
    assert found.body == message()
    assert await journal(folder).orphans() == []


async def test_a_live_holder_keeps_its_requests_however_long_they_take(folder: Folder) -> None:
    async with journal(folder, renew_s=0.001) as kept:
        await kept.write(delivery())
        other = journal(folder, "pod-2")
        for _ in range(5):
            folder.clock += 60
            signs = folder.written.count(".journal/x1/pod-1/alive")
            while folder.written.count(".journal/x1/pod-1/alive") < signs + 2:
                await asyncio.sleep(0)
            assert await other.orphans() == []


async def test_a_pod_that_shuts_down_releases_its_requests_at_once(folder: Folder) -> None:
    async with journal(folder) as kept:
        await kept.write(delivery())
    assert await orphaned_experiments(folder) == ["x1"]
    (found,) = await journal(folder, "pod-2").orphans()
    assert found.attempt == 2


async def test_idle_pods_see_which_experiments_wait_for_help(folder: Folder) -> None:
    await journal(folder).write(delivery())
    assert await orphaned_experiments(folder) == []
    folder.clock += 91
    assert await orphaned_experiments(folder) == ["x1"]
    (found,) = await journal(folder, "pod-2").orphans()
    assert await orphaned_experiments(folder) == []
    await found.done()
    folder.clock += 1000
    assert await orphaned_experiments(folder) == []


async def test_no_token_is_stored_in_clear_and_its_holder_reads_it_back(folder: Folder) -> None:
    await journal(folder).write(delivery())
    assert all(b"hidden-token" not in content for content, _ in folder.objects.values())
    (found,) = await journal(folder).orphans()
    assert json.loads(found.body)["Authorization"] == TOKEN


async def test_a_pod_with_another_key_knows_all_but_the_tokens(folder: Folder) -> None:
    await journal(folder).write(delivery())
    folder.clock += 91
    (found,) = await journal(folder, "pod-2", sealer=Sealer(b"z" * 32)).orphans()
    envelope = json.loads(found.body)
    assert "Authorization" not in envelope
    assert envelope["ETag"] == "e1"
    assert envelope["body"] == {"name": "ClusterCells", "nested": {}}


async def test_a_store_that_is_away_refuses_the_entry(folder: Folder) -> None:
    kept = journal(folder)
    await kept.write(delivery("e1"))
    folder.fails = True
    with pytest.raises(OSError, match="away"):
        await kept.write(delivery("e2"))
    folder.fails = False
    assert await kept.orphans() == []
    await kept.write(delivery("e3"))
    assert len(folder.entries) == 2


async def test_an_entry_that_is_damaged_is_put_aside_and_the_others_are_found(folder: Folder) -> None:
    kept = journal(folder)
    await kept.write(delivery("e1"))
    await kept.write(delivery("e2"))
    folder.objects[".journal/x1/pod-1/0"] = (b"{damaged", folder.clock)
    (found,) = await journal(folder).orphans()
    assert json.loads(found.body)["ETag"] == "e2"
    assert len(folder.entries) == 1


async def test_what_is_given_up_leaves_a_record_without_tokens(folder: Folder) -> None:
    await journal(folder).bury(delivery(attempt=4), f"tried 3 times {TOKEN}")
    record = json.loads(folder.objects[".dead/x1/e1"][0])
    assert (record["etag"], record["attempts"]) == ("e1", 4)
    assert record["request"]["body"]["name"] == "ClusterCells"
    assert "hidden-token" not in json.dumps(record)


def test_a_pods_key_outlives_its_process_and_no_other_pod_has_it(tmp_path: Path) -> None:
    sealed = Sealer.of("", tmp_path).seal(b"text", "e1")
    assert Sealer.of("", tmp_path).open(sealed, "e1") == b"text"
    assert Sealer.of("", tmp_path).open(sealed, "e2") is None
    assert Sealer.of("", tmp_path / "other").open(sealed, "e1") is None
    (file,) = tmp_path.glob(".journal-key")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_given_key_needs_no_file(tmp_path: Path) -> None:
    sealed = Sealer.of("a secret of the chart", tmp_path).seal(b"text", "e1")
    assert Sealer.of("a secret of the chart", tmp_path / "other").open(sealed, "e1") == b"text"
    assert list(tmp_path.iterdir()) == []
