"""Removing a store that no process has open."""

import fcntl
import os
import stat
from pathlib import Path

__all__ = ["remove_unused"]


def _open_to_lock(store: Path) -> int:
    """Open a store with a descriptor that may write: locks on network file systems ask for one."""
    try:
        return os.open(store, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:  # a store is read-only, and this is not root
        mode = store.stat().st_mode
        store.chmod(mode | stat.S_IWUSR)
        try:
            return os.open(store, os.O_RDWR | os.O_CLOEXEC)
        finally:
            store.chmod(mode)


def remove_unused(store: Path) -> bool:
    """Remove a store unless a process has it open; return whether it was removed.

    A process that opens it meanwhile waits for the lock, finds that the file was removed, and makes it again.
    """
    try:
        descriptor = _open_to_lock(store)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        store.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
