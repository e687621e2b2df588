"""Rows 9 to 12 of the fault matrix: requests that are malformed, unknown, too late, or asked for several times."""

import asyncio
import json
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from world import LIST_GENES, TOKEN, Pod, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGEST_MESSAGE = 1 << 20  # bytes; of SQS, since August 2025
LATER = "2099-12-31T23:59:59.000Z"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def envelope(number: int) -> dict[str, Any]:
    """A request that is in order."""
    return {
        "signedUrl": "https://s3/x",
        "ETag": f"fuzz-{number}",
        "Authorization": f"Bearer {TOKEN}",
        "experimentId": "e",
        "timeout": LATER,
        "body": dict(LIST_GENES),
        "requestProps": {"broadcast": False},
    }


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The text of a message that something is wrong with, most probably."""
    good = envelope(draw(st.integers(0, 10**9)))
    way = draw(st.sampled_from(["text", "json", "missing", "wrong", "body", "cut"]))
    if way == "text":
        # What SQS takes: no control characters, no lone surrogates.
        return draw(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]), min_size=1, max_size=60))
    if way == "json":
        return json.dumps(draw(JSON))
    if way == "cut":
        text = json.dumps(good)
        return text[: draw(st.integers(1, len(text) - 1))]
    field = draw(st.sampled_from(sorted(good)))
    if way == "missing":
        del good[field]
    elif way == "wrong":
        good[field] = draw(JSON)
    else:
        good["body"][draw(st.sampled_from(sorted(LIST_GENES)))] = draw(JSON)
    return json.dumps(good)


def collected(strategy: st.SearchStrategy[str], number: int) -> list[str]:
    """Different examples of a strategy; one message after the other would take the time of as many round trips."""
    found: dict[str, None] = {}

    @hypothesis.given(strategy)
    @hypothesis.settings(max_examples=number, database=None, phases=[hypothesis.Phase.generate])
    def collect(text: str) -> None:
        found[text] = None

    collect()
    return list(found)


def etag_of(text: str) -> str | None:
    """Where the answer to a message is expected."""

    def refuse(word: str) -> None:
        raise ValueError(word)  # NaN and Infinity, which Python writes, are no JSON

    try:
        etag = json.loads(text, parse_constant=refuse)["ETag"]
    except (ValueError, KeyError, TypeError):
        return None
    return etag if isinstance(etag, str) and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", etag) else None


async def still_works(world: World, pod: Pod, gateway: int) -> None:
    """Whether the process with this number still answers."""
    etag = await world.send(LIST_GENES)
    assert len((await world.answer(etag))["gene_names"]) == 4
    assert pod.gateway.alive
    assert pod.gateway.pid == gateway
    await world.settled()


async def test_row_09_malformed_messages_are_answered_where_it_is_known_whom_and_removed(
    shared_world: World, pod: Pod
) -> None:
    world, gateway = shared_world, pod.gateway.pid
    texts = collected(damaged(), 120)
    await asyncio.gather(*map(world.send_text, texts))
    await world.settled()
    unanswered = [text for text in texts if (etag := etag_of(text)) and not world.answers(etag)]
    assert unanswered == []
    assert not pod.gateway.said("request could not be answered")
    assert TOKEN not in json.dumps(world.events)
    await still_works(world, pod, gateway)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timeout": "tomorrow, perhaps"}, "request.timeout"),
        ({"timeout": None}, "timeout"),
        ({"body": {"nothing": 1}}, "request.body.name"),
        ({"body": [1]}, "body"),
        ({"experimentId": 5}, "experimentId"),
        ({"body": {**LIST_GENES, "limit": "ten"}}, "body.limit"),
    ],
)
async def test_row_09_errors_of_a_request_name_the_field(
    shared_world: World, pod: Pod, change: dict[str, Any], words: str
) -> None:
    etag = f"odd-{'-'.join(change)}-{words}"
    await shared_world.send_text(json.dumps({**envelope(0), "ETag": etag, **change}))
    assert await shared_world.error(etag) == "INVALID_INPUT"
    assert words in shared_world.answers(etag)[0]["response"]["userMessage"]
    await shared_world.settled()


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of the test's own client
async def test_row_09_the_largest_message_that_there_can_be_is_answered(shared_world: World, pod: Pod) -> None:
    world, gateway = shared_world, pod.gateway.pid
    message = {**envelope(0), "ETag": "largest", "body": {"name": "GeneExpression", "genes": [""]}}
    message["body"]["genes"] = ["x" * (LARGEST_MESSAGE - len(json.dumps(message)))]
    text = json.dumps(message)
    assert len(text) == LARGEST_MESSAGE
    unfinished = json.dumps(envelope(0))[:-1] + ', "more": ' + "[" * 400_000
    nested = json.dumps({**envelope(0), "ETag": "nested"})[:-1] + ', "more": ' + "[" * 900 + "]" * 900 + "}"
    for item in (text, unfinished, nested):
        await world.send_text(item)
    assert await world.error("largest") == "R_WORKER_GENE_NOT_FOUND"
    assert await world.error("nested") == "INVALID_INPUT"
    await world.settled()
    await still_works(world, pod, gateway)


async def test_row_10_an_unknown_task_is_answered_with_the_names_that_there_are(shared_world: World, pod: Pod) -> None:
    world, gateway = shared_world, pod.gateway.pid
    etag = await world.send({"name": "ListGenesOnTheMoon"})
    assert await world.error(etag) == "INVALID_INPUT"
    message = world.answers(etag)[0]["response"]["userMessage"]
    assert "ListGenesOnTheMoon" in message
    assert "ListGenes, " in message
    await still_works(world, pod, gateway)


async def test_row_11_a_request_that_comes_too_late_is_answered(shared_world: World, pod: Pod) -> None:
    computed = pod.computed("ListGenes")
    etag = await shared_world.send(LIST_GENES, timeout_s=-1)
    assert await shared_world.error(etag) == "REQUEST_EXPIRED"
    await shared_world.settled()
    assert pod.computed("ListGenes") == computed


async def test_row_12_one_result_asked_for_five_times_is_computed_once_and_announced_five_times(
    shared_world: World, pod: Pod
) -> None:
    world = shared_world
    computed = pod.computed("GetDoubletScore")
    joined = await pod.metric("cellworker_duplicates_total")
    with pod.faulty("hold", "GetDoubletScore"):
        for time in range(5):  # five tabs: the same work, five messages
            await world.send({"name": "GetDoubletScore"}, etag="asked-five-times", signedUrl=f"https://s3/{time}")

        async def all_wait() -> bool:
            return await pod.metric("cellworker_duplicates_total") == joined + 4

        await eventually(all_wait, "four requests wait for the first")
        assert world.answers("asked-five-times") == []
    await world.answer("asked-five-times", times=5)
    await world.settled()
    assert pod.computed("GetDoubletScore") == computed + 1
    assert len(world.answers("asked-five-times")) == 5
