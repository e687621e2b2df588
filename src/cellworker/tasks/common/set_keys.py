"""Keys of new cell sets."""

import random
import uuid

__all__ = ["time_uuid"]


def time_uuid() -> str:
    """Return a time-based UUID with a random node, so that it does not reveal the machine's network address."""
    return str(uuid.uuid1(node=random.SystemRandom().getrandbits(48) | 1 << 40))
