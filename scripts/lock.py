"""Resolve the dependencies and write a `uv.lock` that holds versions and hashes but no address.

uv writes the address of every file into the lock, which ties it to one index and breaks behind a mirror. Versions and
SHA-256 hashes make an environment the same everywhere, so only those are kept: set-up exports them to a list
that any index can serve (`uv export --frozen`).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap import uv_settings

LOCK = Path(__file__).parent.parent / "uv.lock"


def without_addresses(text: str) -> str:
    """Return the lock with file names instead of addresses."""
    text = re.sub(r'\burl = "[^"]*/([^"/]+)"', r'path = "\1"', text)
    return re.sub(r'\bregistry = "[^"]*"', 'registry = "index"', text)


def main() -> int:
    """Lock, strip, and verify that no address is left."""
    uv = shutil.which("uv")
    if uv is None:
        print("uv is not on the PATH: say 'make lock', which brings it", file=sys.stderr)
        return 1
    before = LOCK.read_bytes() if LOCK.exists() else None
    # uv takes no versions from a lock without addresses: it starts afresh.
    LOCK.unlink(missing_ok=True)
    done = subprocess.run(
        [uv, "lock", *sys.argv[1:]], cwd=LOCK.parent, env={**os.environ, **uv_settings()}, check=False
    )
    text = without_addresses(LOCK.read_text()) if LOCK.exists() else ""
    if done.returncode != 0 or "://" in text:
        if before is not None:
            LOCK.write_bytes(before)
        print("uv failed, or left an address: uv.lock is as it was", file=sys.stderr)
        return 1
    LOCK.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
