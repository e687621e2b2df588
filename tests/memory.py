"""What processes have in their memory, as root sees it."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest


def who_knows(secret: str, pids: Iterable[int]) -> set[int]:
    """Which of some processes have a text in writable memory, or show it as environment or arguments."""
    if os.geteuid() != 0:
        pytest.skip("only root sees what is hidden")
    return {pid for pid in pids if _knows(secret.encode(), Path(f"/proc/{pid}"))}


def _knows(secret: bytes, folder: Path) -> bool:
    if any(secret in (folder / name).read_bytes() for name in ("environ", "cmdline")):
        return True
    with (folder / "mem").open("rb", buffering=0) as memory:
        for line in (folder / "maps").read_text().splitlines():
            bounds, rights = line.split()[:2]
            if "w" not in rights:
                continue
            start, end = (int(text, 16) for text in bounds.split("-"))
            try:
                memory.seek(start)
                if secret in memory.read(end - start):
                    return True
            except (OSError, OverflowError, ValueError):  # [vvar] and the like
                continue
    return False
