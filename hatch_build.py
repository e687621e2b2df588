"""Compile the C kernels into one shared library beside their Python bindings, and bundle the explorer's page.

The library is plain C behind ctypes: it depends on neither the Python version nor NumPy's ABI, a fresh process pays no
compile pause, and a read-only or unprivileged container needs no cache folder. A machine without a C compiler gets one
from the package index (`ziglang`), so that nothing but Python is needed.

The page is bundled by `web_build.py`, with Node from the package index where the machine has none. A source
distribution holds the page, so that it installs without Node, and no library.

``CELLWORKER_WHEEL_FOR`` names one of `PLATFORMS`: then zig compiles the wheel for that platform, on whatever
machine this is (`scripts/make_wheels.py`). Without it a wheel is for the machine that builds it.

A build of the workflow on GitHub also writes the repository's addresses into the package's metadata (`project.urls`):
the sources do not hold these addresses.

Run as a script it builds in place: ``python hatch_build.py``.
"""

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import web_build

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # run as a script, outside a build
    BuildHookInterface = MetadataHookInterface = object

NATIVE = Path("src/cellworker/native")
# -ffp-contract=off: no fused multiply-add, so that sums are the same to the last bit on every machine.
FLAGS = ["-std=c11", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
# clang makes pow(2, x) exp2(x), which differs in the last bit.
FLAGS += ["-fno-builtin-pow"]
# Vectors are passed to inlined functions only; clang does not know the hints that are for gcc.
FLAGS += ["-Wall", "-Wextra", "-Wshadow", "-Wno-psabi", "-Wno-unknown-pragmas"]


PLATFORMS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
    "macosx_13_0_x86_64": "x86_64-macos.13.0",
    "macosx_13_0_arm64": "aarch64-macos.13.0",
}
"""The platforms of published wheels, by PyPA's platform tags, with zig's targets."""


def wheel_platform() -> str | None:
    """Return the wanted platform, None where the wheel is for this machine.

    Raises
    ------
    RuntimeError
        For a platform without wheels.
    """
    name = os.environ.get("CELLWORKER_WHEEL_FOR")
    if name and name not in PLATFORMS:
        message = f"CELLWORKER_WHEEL_FOR: expected one of {', '.join(PLATFORMS)}, found {name!r}"
        raise RuntimeError(message)
    return name or None


def _works(compiler: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <stdint.h>\n#include <math.h>\nint probe(void) { return (int)floor(1.5); }\n")
        command = [*compiler, *FLAGS, str(source), "-o", str(Path(folder, "probe.so")), "-lm"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler that works here and compiles for the wheel's platform, or None."""
    platform = wheel_platform()
    if platform is not None:
        found = importlib.util.find_spec("ziglang")
        return [sys.executable, "-m", "ziglang", "cc", "-target", PLATFORMS[platform]] if found else None
    candidates = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    candidates += [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    try:
        import ziglang  # type: ignore[import-not-found]  # noqa: F401, PLC0415

        candidates.append([sys.executable, "-m", "ziglang", "cc"])
    except ImportError:
        pass
    return next((candidate for candidate in candidates if _works(candidate)), None)


def build(root: Path, target: Path | None = None, more: Sequence[str] = ()) -> Path:
    """Compile every C file of the package under `root`, with `more` flags, and return the library's path."""
    compiler = find_compiler()
    if compiler is None:
        message = "no working C compiler: install gcc or clang, or the Python package 'ziglang'"
        raise RuntimeError(message)
    folder = root / NATIVE
    target = target or folder / "_kernels.so"
    sources = sorted(str(path) for path in folder.rglob("*.c"))
    staging = target.with_suffix(f".{os.getpid()}.tmp")
    # Bindings that were made from another header than the one compiled here refuse the library.
    interface = hashlib.sha256((folder / "include" / "cellworker.h").read_bytes()).hexdigest()
    names = [f"-I{folder / 'include'}", "-include", "c_library.h", f'-DCW_INTERFACE="{interface}"']
    # Published libraries hold no names of local symbols, which are three quarters of zig's file.
    more = [*more, "-Wl,-s"] if wheel_platform() else more
    # Baseline instructions of the platform: a library built on one machine runs, with the same results, on every other.
    subprocess.run([*compiler, *FLAGS, *more, *names, *sources, "-o", str(staging), "-lm"], check=True)
    staging.replace(target)  # atomic: a running process keeps the library that it has mapped
    return target


class KernelsBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Hatchling's hook: compile for wheels and for editable installs."""

    def dependencies(self) -> list[str]:
        """Require a compiler and Node from the package index only where they are needed and missing."""
        compiler = [] if self.target_name == "sdist" or find_compiler() else ["ziglang>=0.13"]
        return [*compiler, *web_build.requirements(Path(self.root))]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the library and name the wheel after the platform, not after the Python version."""
        root = Path(self.root)
        with ThreadPoolExecutor(1) as aside:
            # In parallel: the page mostly waits for the registry, the kernels for the processor.
            page = aside.submit(web_build.build, root)
            # A source distribution holds no library: it would be for an unknown machine.
            target = None if self.target_name == "sdist" else build(root)
        problem = page.result()
        if problem:
            self.app.display_warning(problem)
        build_data["artifacts"].append(f"/{web_build.BUNDLE.as_posix()}/**")
        if target is None:
            return
        build_data["artifacts"].append(str(target.relative_to(root)))
        build_data["pure_python"] = False
        platform = wheel_platform() or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def project_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of the repository of a GitHub workflow run; empty anywhere else."""
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if not server or not repository:
        return {}
    home = f"{server}/{repository}"
    pages = {"Changelog": "blob/main/CHANGELOG.md", "Documentation": "tree/main/docs", "Issues": "issues"}
    return {"Repository": home, **{name: f"{home}/{page}" for name, page in pages.items()}}


class CustomMetadataHook(MetadataHookInterface):  # type: ignore[misc]  # hatchling is only there during a build
    """Gives the package's metadata the addresses of its repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `urls`."""
        urls = project_urls(os.environ)
        if urls:
            metadata["urls"] = urls


if __name__ == "__main__":
    root = Path(__file__).parent
    print(build(root))
    print(web_build.build(root) or root / web_build.BUNDLE)
