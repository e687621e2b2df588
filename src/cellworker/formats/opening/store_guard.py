"""Checks an open store against its checksums once in the background, and removes a damaged one."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.checksums import lower_priority
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.opening.shelf import Shelf
from cellworker.logs import log

__all__ = [
    "CUT_SHORT",
    "READ_AT_ONCE_BYTES",
    "StoreGuard",
    "damaged_twice",
    "discard",
    "guard",
    "opened_sound",
    "verified",
]

READ_AT_ONCE_BYTES = 16 << 20
"""A store of up to this size is compared with its checksums before it is served: that takes a few milliseconds."""

CUT_SHORT = "it was cut short while it was used"

_MAX_ATTEMPTS = 2

_logger = logging.getLogger(__name__)

_Opened = TypeVar("_Opened")
_R = TypeVar("_R")


def discard(experiment: StoredExperiment, reason: str) -> None:
    """Remove a damaged store, so that the next who opens its source makes it again; says so in one line, once."""
    if experiment.discarded:
        return
    experiment.discarded = True
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

    @property
    def is_running(self) -> bool:
        """Whether it compares still."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            lower_priority()
        reason = self._experiment.damage(self._stop)
        if reason is not None and not self._stop.ended:
            self._on_damage(reason)


def guard(experiment: StoredExperiment) -> StoreGuard | None:
    """Verify a store in the background, and discard it when it is damaged; None for one that is verified already."""
    if experiment.n_bytes <= READ_AT_ONCE_BYTES:
        return None
    watched = StoreGuard(experiment, lambda reason: discard(experiment, reason))
    watched.start()
    return watched


def opened_sound(opening: Callable[[], _Opened], store_of: Callable[[_Opened], StoredExperiment | None]) -> _Opened:
    """Open an experiment with an undamaged store: a damaged one is removed, and made again by opening it.

    Nothing computes before the comparison: a damaged index may lead a kernel out of its arrays.

    Parameters
    ----------
    opening
        Opens the experiment.
    store_of
        Returns its store; None where there is none to be verified.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when the store that was made again is damaged too.
    Exception
        What `opening` raises.
    """
    for _ in range(_MAX_ATTEMPTS):
        opened = opening()
        experiment = store_of(opened)
        if experiment is None or experiment.n_bytes <= READ_AT_ONCE_BYTES:
            return opened  # verified already
        reason = experiment.damage()
        if reason is None:
            return opened
        discard(experiment, reason)
    raise damaged_twice()


def verified(
    opening: Callable[[], _Opened], store_of: Callable[[_Opened], StoredExperiment | None], use: Callable[[_Opened], _R]
) -> _R:
    """Open an experiment as `opened_sound`, and use it; once more when the store is truncated meanwhile.

    Parameters
    ----------
    opening, store_of
        As for `opened_sound`.
    use
        Makes something of it that can be made again.

    Raises
    ------
    WorkerError
        As `opened_sound`.
    Exception
        What `opening` and `use` raise; of `use` only with a whole store.
    """
    for _ in range(_MAX_ATTEMPTS):
        opened = opened_sound(opening, store_of)
        experiment = store_of(opened)
        try:
            outcome = use(opened)
        except Exception:
            if experiment is None or experiment.is_whole:
                raise
        else:
            if experiment is None or experiment.is_whole:
                return outcome
        discard(experiment, CUT_SHORT)
    raise damaged_twice()


def damaged_twice() -> WorkerError:
    """Return what is said when making a store again does not help."""
    message = "Its store was damaged twice while it was used: the disk under STORE_DIR seems to fail; choose another."
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)


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
