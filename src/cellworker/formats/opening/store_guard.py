"""Whether an open store is still what was written: checked once in the background, and removed when it is not."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cellworker.experiment.store.checksums import lower_priority
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.opening.shelf import Shelf
from cellworker.logs import log

__all__ = ["READ_AT_ONCE_BYTES", "StoreGuard", "discard", "guard"]

READ_AT_ONCE_BYTES = 16 << 20
"""A store of up to this size is compared with its checksums before it is served: that takes a few milliseconds."""

_logger = logging.getLogger(__name__)


def discard(experiment: StoredExperiment, reason: str) -> None:
    """Remove a damaged store, so that the next who opens its source makes it again; says so in one line."""
    log(_logger, logging.WARNING, "store damaged, to be made again", store=experiment.store.name, reason=reason)
    Shelf.discard(experiment)


class StoreGuard:
    """Compares a store with its checksums in a thread that yields to all others.

    It takes at most half of the disk's time: it rests after each block for as long as that took.

    Parameters
    ----------
    experiment
        The open store.
    on_damage
        Called in that thread, with what is wrong; not called when nothing is.
    """

    def __init__(self, experiment: StoredExperiment, on_damage: Callable[[str], object]) -> None:
        self._experiment = experiment
        self._on_damage = on_damage
        self._stop = _Resting()
        self._thread = threading.Thread(target=self._run, name="verify-store", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it does so after at most one block."""
        self._stop.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            lower_priority()
        reason = self._experiment.damage(self._stop)
        if reason is not None and not self._stop.ended:
            self._on_damage(reason)


def guard(experiment: StoredExperiment) -> None:
    """Verify a store in the background as long as it is in use, and discard it when it is damaged."""
    if experiment.n_bytes <= READ_AT_ONCE_BYTES:
        return  # verified already
    watched = StoreGuard(experiment, lambda reason: discard(experiment, reason))
    watched.start()


class _Resting(threading.Event):
    """Asked after each block whether to stop; the answer takes as long as the block did."""

    def __init__(self) -> None:
        super().__init__()
        self._last = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether the end was asked for; tells at once."""
        return super().is_set()

    def is_set(self) -> bool:
        """Whether the end was asked for, after a rest."""
        self.wait(min(1.0, time.monotonic() - self._last))
        self._last = time.monotonic()
        return super().is_set()
