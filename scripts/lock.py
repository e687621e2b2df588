"""Resolve the dependencies anew and write a `uv.lock` that holds versions and hashes but no address.

uv writes the address of every file into the lock, which ties it to one index and breaks behind a mirror. Versions and
SHA-256 hashes are what makes an environment the same everywhere, so only those are kept: set-up exports them to a list
that any index can serve (`uv export --frozen`).
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent.parent / "uv.lock"


def without_addresses(text: str) -> str:
    """Return the lock with file names in place of addresses."""
    text = re.sub(r'\burl = "[^"]*/([^"/]+)"', r'path = "\1"', text)
    return re.sub(r'\bregistry = "[^"]*"', 'registry = "index"', text)


def main() -> int:
    """Lock, strip, verify that nothing that looks like an address is left."""
    uv = shutil.which("uv")
    if uv is None:
        print("uv is not on the PATH: say 'make lock', which brings it", file=sys.stderr)
        return 1
    before = LOCK.read_bytes() if LOCK.exists() else None
    # uv takes no versions from a lock without addresses: it starts afresh.
    LOCK.unlink(missing_ok=True)
    try:
        subprocess.run([uv, "lock", *sys.argv[1:]], cwd=LOCK.parent, check=True)
        text = without_addresses(LOCK.read_text())
        if "://" in text:
            message = "uv.lock still holds an address"
            raise ValueError(message)
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        if before is not None:
            LOCK.write_bytes(before)
        print(f"uv.lock is as it was: {error}", file=sys.stderr)
        return 1
    LOCK.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
