"""Packets of both protocol generations, against the examples of the public description."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.local.door.engineio import event_packet, handshake_packet, join_payload, split_payload

packets = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e")).map("4".__add__), min_size=1
)


@given(packets)
def test_joined_payloads_of_either_generation_are_split_again(some: list[str]) -> None:
    for version in (3, 4):
        assert split_payload(version, join_payload(version, some)) == some  # type: ignore[arg-type]


def test_revision_3_counts_as_javascript_does() -> None:
    assert join_payload(3, ["4hello", "4€€€"]) == "6:4hello4:4€€€"
    assert join_payload(3, ["4😀"]) == "3:4😀"


def test_revision_4_separates() -> None:
    assert join_payload(4, ["4hello", "4€€€"]) == "4hello\x1e4€€€"


@pytest.mark.parametrize("body", ["x", "6", ":4", "-1:4", "3:4a", "2:4a3", "99999999999999999999999:4", "²:4", "1e3:4"])
def test_lengths_that_do_not_fit_are_refused(body: str) -> None:
    with pytest.raises(ValueError):
        split_payload(3, body)


@given(st.text())
def test_any_text_is_read_or_refused(body: str) -> None:
    try:
        read = split_payload(3, body)
    except ValueError:
        return
    assert join_payload(3, read) == body or any(part.startswith("0") for part in body.split(":"))


@pytest.mark.parametrize("version", [3, 4])
def test_a_handshake_has_times_in_milliseconds(version: int) -> None:
    packet = handshake_packet(
        version,  # type: ignore[arg-type]
        "sid1",
        upgrades=["websocket"],
        ping_interval=25,
        ping_timeout=20,
        max_payload=1_000_000,
    )
    told = json.loads(packet[1:])
    assert packet[0] == "0"
    assert (told["sid"], told["pingInterval"], told["pingTimeout"]) == ("sid1", 25000, 20000)
    assert told.get("maxPayload") == (1_000_000 if version == 4 else None)


def test_an_event_is_a_json_array_of_name_and_payload() -> None:
    assert event_packet("Heartbeat-x", {"a": None, "b": "é"}) == '42["Heartbeat-x",{"a":null,"b":"é"}]'
