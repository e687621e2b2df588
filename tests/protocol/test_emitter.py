"""Messages for the platform's Socket.IO servers, byte for byte as the original's (contract, 3.1)."""

import math
from enum import StrEnum
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellworker.protocol.emitter import CHANNEL, packet

GOLDEN = {
    "a heartbeat": (
        "Heartbeat-e1",
        {
            "type": "WorkResponse",
            "status_code": "STARTED_TASK",
            "user_message": "Working on the requested task Embedding",
        },
        """
        93 a7 656d6974746572 83 a4 64617461 92 ac 4865617274626561742d6531
        83 a4 74797065 ac 576f726b526573706f6e7365 ab 7374617475735f636f6465 ac 535441525445445f5441534b
        ac 757365725f6d657373616765
        da0027 576f726b696e67206f6e2074686520726571756573746564207461736b20456d62656464696e67
        a4 74797065 02 a3 6e7370 a1 2f 82 a5 666c616773 a0 a5 726f6f6d73 a0
        """,
    ),
    "an inline result": (
        "WorkResponse-abc123",
        "KLUv/Si1L/0otS/9",
        """
        93a7656d697474657283a46461746192b3576f726b526573706f6e73652d616263313233b04b4c55762f5369314c2f306f74532f39
        a47479706502a36e7370a12f82a5666c616773a0a5726f6f6d73a0
        """,
    ),
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(TEXT, inner, max_size=20),
    max_leaves=30,
)


def types_in(message: bytes) -> list[int]:
    """The type byte of every value in a MessagePack text, read by the format's own table."""
    sizes = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, **{0xCC + i: 2**i for i in range(4)}}
    sizes |= {0xD0 + i: 2**i for i in range(4)}
    lengths = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
    counts = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
    found, at, values = [], 0, 1
    while values:
        byte = message[at]
        found.append(byte)
        at, values = at + 1, values - 1
        if byte <= 0x7F or byte >= 0xE0:
            continue
        if byte <= 0x8F:
            values += 2 * (byte & 0x0F)
        elif byte <= 0x9F:
            values += byte & 0x0F
        elif byte <= 0xBF:
            at += byte & 0x1F
        elif byte in sizes:
            at += sizes[byte]
        elif byte in lengths:
            at += lengths[byte] + int.from_bytes(message[at : at + lengths[byte]])
        else:
            width, each = counts[byte]
            values += each * int.from_bytes(message[at : at + width])
            at += width
    assert at == len(message)
    return found


@pytest.mark.parametrize("case", GOLDEN)
def test_messages_are_those_of_the_original_byte_for_byte(case: str) -> None:
    event, payload, expected = GOLDEN[case]
    assert packet(event, payload) == bytes.fromhex(expected)


def test_the_channel_is_that_of_everyone() -> None:
    assert CHANNEL == "socket.io#/#"


@given(TEXT, JSON)
@example("x", "a" * 32)
@example("x", "a" * 70_000)
@example("x", {"ü" * 40: ["☃" * 100, -0.0, 5e-324, 2**64 - 1, -(2**63)]})
def test_what_was_sent_is_what_is_read(event: str, payload: Any) -> None:
    sender, content, options = msgpack.unpackb(packet(event, payload), raw=False)
    assert (sender, list(content)) == ("emitter", ["data", "type", "nsp"])
    assert content == {"data": [event, payload], "type": 2, "nsp": "/"}
    assert repr(content["data"][1]) == repr(payload), "also the order of maps, and 1.0 that is not 1"
    assert options == {"flags": "", "rooms": ""}


@given(TEXT, JSON)
@example("x", "a" * 32)
@example("x", "a" * 255)
@example("x", "a" * 70_000)
@example("x", ["a" * 40] * 70_000)
@example("x", {str(key): None for key in range(70_000)})
def test_no_type_is_used_that_the_original_does_not_know(event: str, payload: Any) -> None:
    types = set(types_in(packet(event, payload)))
    assert not types & {0xD9, 0xC4, 0xC5, 0xC6}, "str8 and the binary types"
    assert 0xCA not in types, "float32"


def test_the_table_of_types_sees_the_newer_ones() -> None:
    assert 0xD9 in types_in(msgpack.packb(["a" * 40]))
    assert 0xC4 in types_in(msgpack.packb([b"a"]))


@pytest.mark.parametrize(
    "value",
    [b"KLUv", bytearray(b"a"), memoryview(b"a"), np.float64(1.0), np.int64(1), np.bool_(True), np.arange(2), {1}, 1j,
     object(), {1: "a"}, {b"a": 1}, {None: 1}, StrEnum("Colour", "RED").RED],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_does_not_know_is_refused(value: Any) -> None:
    for payload in (value, [value], {"a": {"b": (value,)}}):
        with pytest.raises(TypeError, match="event"):
            packet("x", payload)


def test_an_integer_beyond_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        packet("x", 2**64)


def test_half_a_surrogate_does_not_hold_up_an_answer() -> None:
    assert msgpack.unpackb(packet("x", {"userMessage": "gène \ud83d!"}))[1]["data"][1] == {"userMessage": "gène ?!"}


def test_a_float_that_is_no_number_stays_one() -> None:
    assert math.isnan(msgpack.unpackb(packet("x", math.nan))[1]["data"][1])
