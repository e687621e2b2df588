"""Text packets of Engine.IO and Socket.IO, in both revisions that browsers and scripts use.

Written from the public protocol descriptions (Engine.IO revisions 3 and 4, Socket.IO revisions 4 and 5). Only text
packets are handled: nothing that the worker sends is binary.
"""

from collections.abc import Iterable
from typing import Any, Literal

import orjson

__all__ = ["Version", "event_packet", "handshake_packet", "join_payload", "split_payload"]

Version = Literal[3, 4]

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"
CONNECT, DISCONNECT, EVENT, CONNECT_ERROR = "40", "41", "42", "44"

_SEPARATOR = "\x1e"


def event_packet(event: str, payload: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return an event of the default namespace."""
    return EVENT + orjson.dumps([event, payload]).decode()


def handshake_packet(
    version: Version, sid: str, *, upgrades: list[str], ping_interval: float, ping_timeout: float, max_payload: int
) -> str:
    """Return the packet that opens a session; times in seconds, as milliseconds on the wire."""
    handshake: dict[str, Any] = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": round(1000 * ping_interval),
        "pingTimeout": round(1000 * ping_timeout),
    }
    if version == 4:
        handshake["maxPayload"] = max_payload
    return OPEN + orjson.dumps(handshake).decode()


def join_payload(version: Version, packets: Iterable[str]) -> str:
    """Join packets to the body of one long-polling answer.

    Revision 3 writes each packet's length before it, in the units of JavaScript's ``length`` (UTF-16 code units);
    revision 4 separates packets with a control character that JSON never holds bare.
    """
    if version == 4:
        return _SEPARATOR.join(packets)
    return "".join(f"{_utf16_length(packet)}:{packet}" for packet in packets)


def split_payload(version: Version, body: str) -> list[str]:
    """Split the body of a long-polling request into packets.

    Raises
    ------
    ValueError
        When the lengths of revision 3 do not fit the text.
    """
    if version == 4:
        return body.split(_SEPARATOR)
    return _split_lengths(body)


def _split_lengths(body: str) -> list[str]:
    packets = []
    # Two bytes per unit make the positions of JavaScript's strings plain arithmetic.
    units = body.encode("utf-16-le", "surrogatepass")
    at, colon = 0, ":".encode("utf-16-le")
    while at < len(units):
        end = at
        while units[end : end + 2] != colon:
            if end - at >= 20 or end >= len(units):
                raise ValueError("a packet's length is missing")
            end += 2
        digits = units[at:end].decode("utf-16-le", "surrogatepass")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError("a packet's length is not a number")
        at, length = end + 2, 2 * int(digits)
        if at + length > len(units):
            raise ValueError("a packet is cut short")
        packets.append(units[at : at + length].decode("utf-16-le", "surrogatepass"))
        at += length
    return packets


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
