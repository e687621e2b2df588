"""Events on Redis for the platform's Socket.IO servers (contract, 3.1): the channel and its messages.

The receiver is the npm package ``socket.io-redis``: each message is a MessagePack array of sender, packet and options.
"""

from typing import Any

import msgpack

__all__ = ["CHANNEL", "packet"]

CHANNEL = "socket.io#/#"
"""The channel of every event: prefix, namespace ``/``, and no room, which means everyone."""

_SENDER = "emitter"
_EVENT_PACKET = 2
_OPTIONS = {"flags": "", "rooms": ""}
_SCALARS = frozenset({str, int, float, bool, type(None)})


def packet(event: str, payload: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the message that sends an event to all browsers.

    Parameters
    ----------
    event
        Its name.
    payload
        JSON values: str, int, float, bool, None, and lists, tuples and dicts with text keys of these. The order of a
        dict is kept; integers must fit in 64 bits. A lone surrogate becomes a question mark.

    Raises
    ------
    TypeError
        For anything else: NumPy's numbers, and bytes, which a browser receives as a buffer and takes for an error.
    OverflowError
        For larger integers.
    """
    _check(payload)
    content = [_SENDER, {"data": [event, payload], "type": _EVENT_PACKET, "nsp": "/"}, _OPTIONS]
    try:
        return _pack(content)
    except UnicodeEncodeError:  # a lone surrogate in the text of an error must not prevent the answer
        return _pack(content, unicode_errors="replace")


def _pack(content: list[Any], **options: str) -> bytes:
    # Only the old raw types, as in the original: browsers accept text of the newer types, but their bytes break them.
    packed: bytes = msgpack.packb(content, use_bin_type=False, **options)
    return packed


def _check(value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                message = f"the keys of an event must be text, found {type(key).__name__}"
                raise TypeError(message)
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif type(value) not in _SCALARS:
        message = f"an event cannot carry {type(value).__name__}"
        raise TypeError(message)
