"""Run the tests of pinned bytes on aarch64, in an emulator: the same hashes hold on the machine that runs this.

It needs qemu's emulator and debootstrap, which are no part of a developer's environment, and root, as debootstrap does
(``apt-get install qemu-user-static debootstrap``). The first run makes `.venv/arm`: Debian's Python for aarch64, and
the packages of the lock. zig compiles the kernels anew each time. The arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bootstrap import ROOT, SetupError, call, find_uv, locked_builders, step, uv_settings

PLACE = ROOT / ".venv" / "arm"
SYSTEM, PACKAGES = PLACE / "system", PLACE / "packages"
PYTHON = SYSTEM / "usr" / "bin" / "python3.13"
RELEASE, MIRROR = "trixie", "http://deb.debian.org/debian"
"""The release of Debian that has this Python; debootstrap checks its signature."""
WHEEL = "manylinux_2_17_aarch64"
INSTALL = ["--python-version", "3.13", "--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:"]
TESTS = "tests/api/test_same_on_every_machine.py"
NEEDED = ("qemu-aarch64-static", "debootstrap", "dpkg")


def make_system() -> None:
    """Unpack Debian's packages; its own second stage would run their scripts in the emulator, for many minutes."""
    shutil.rmtree(SYSTEM, ignore_errors=True)
    unfinished = PLACE / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3"]
    call("debootstrap", *options, RELEASE, unfinished, MIRROR)
    for package in sorted((unfinished / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        call("dpkg", "--extract", package, unfinished)
        package.unlink()
    unfinished.rename(SYSTEM)


def install_packages(uv: Path, scratch: Path) -> None:
    """Install what the tests import, in the versions of the lock, and this checkout's wheel for aarch64."""
    versions = scratch / "versions.txt"
    versions.write_text(call(uv, "export", "--frozen", "--no-emit-project", "--no-hashes"))
    builders: list[str | Path] = ["--build-constraints", locked_builders(uv, scratch), "--require-hashes"]
    with step("wheel"):
        # By way of a source distribution: a build in place would put this library where that of the checkout lies.
        settings = {**uv_settings(), "CELLWORKER_WHEEL_FOR": WHEEL}
        call(uv, "build", "--python", sys.executable, "--out-dir", scratch, *builders, ROOT, env=settings)
    (wheel,) = scratch.glob(f"*-{WHEEL}.whl")
    with step("packages of uv.lock"):
        wanted = [f"cellworker[notebook] @ {wheel.as_uri()}", "pytest"]
        options = ["--python", sys.executable, *INSTALL, "--reinstall-package", "cellworker", *wanted]
        call(uv, "pip", "install", "--target", PACKAGES, "--constraints", versions, *options, env=uv_settings())


def main(arguments: list[str]) -> int:
    """Make what is missing, and test."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        lacks = f"lacks {', '.join(missing)}" if missing else "is not run by root"
        print(f"This {lacks}. Debian: apt-get install qemu-user-static debootstrap; then as root.", file=sys.stderr)
        return 1
    try:
        PLACE.mkdir(parents=True, exist_ok=True)
        if not PYTHON.exists():
            with step("Debian for aarch64"):
                make_system()
        with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
            install_packages(find_uv(), Path(scratch))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    # Bytecode is kept whatever the shell says: compiling it takes minutes in the emulator. The checkout stays clean.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(PACKAGES), "PYTHONPYCACHEPREFIX": str(PLACE / "bytecode")}
    # The project's configuration names plugins that are not installed there.
    alone = ["--noconftest", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    command: list[str | Path] = ["qemu-aarch64-static", "-L", SYSTEM, PYTHON, "-m", "pytest", "-v", *alone]
    command += [ROOT / TESTS, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
