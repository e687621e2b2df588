"""Run kernels and hostile files under the address and undefined-behaviour sanitizers: ``make asan``.

A copy of ``src`` in ``build/asan`` holds the sanitized library. Two modules of the copy get lines appended: the
sandbox passes the sanitizers' variables to its child, and the child keeps all its limits but that of memory, which
the sanitizers' own maps would exceed. Before any test, two deliberate faults prove that a finding is seen in this
process and in the sandbox's child.

Options: ``--short`` (what ``make test`` runs), ``--fuzz SECONDS`` (bent files of each format). Other arguments go to
pytest. The status is 77 where the compiler has no sanitizers.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hatch_build  # noqa: E402

FOLDER = ROOT / "build" / "asan"
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Werror"]
NOT_POSSIBLE = 77
"""The exit status that means "skipped" to test runners."""
SHORT = ("tests/test_native.py", "tests/formats/qs/test_hostile.py")
LONG = (
    "tests/test_native.py", "tests/analysis", "tests/experiment", "tests/formats/qs", "tests/formats/rds",
    "tests/formats/bpcells", "tests/formats/test_anndata_hostile.py", "tests/formats/test_zarr_sums.py",
    "tests/formats/test_value_kinds.py", "tests/formats/test_gzip_blocks.py",
)  # fmt: skip
"""Left out: the sandbox's own tests crash and exhaust its child on purpose. Hostile files go through it here."""
MARKS = ("Sanitizer", "runtime error:")
_IN_SANDBOX = """

class _Findings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(mark in text for mark in {marks}):
            with open({findings!r}, "a") as file:
                file.write(text + chr(10))


_log.addHandler(_Findings())
"""
_IN_PROCESSES = """

_KEPT = (*_KEPT, "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")  # type: ignore[misc]
"""
_IN_CHILD = """

_lower_any = _lower


def _lower(what: int, limit: int) -> None:  # type: ignore[no-redef]
    if what != getattr(resource, "RLIMIT_DATA", None):
        _lower_any(what, limit)
"""
_FAULTS = """
#include <stdint.h>
__attribute__((visibility("default"))) int32_t read_beyond(const int32_t *x, int64_t n) { return x[n]; }
__attribute__((visibility("default"))) int32_t overflow(int32_t x) { return x + 1; }
"""
_CANARY = """
import ctypes, sys
import numpy as np
library = ctypes.CDLL({library!r})
def read_beyond():
    return library.read_beyond(ctypes.c_void_p(np.zeros(4000, np.int32).ctypes.data), ctypes.c_int64(4000))
def overflow():
    return library.overflow(ctypes.c_int32(2**31 - 1))
if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""
_IN_A_CHILD = """
import contextlib
from cellworker.errors import WorkerError
from cellworker.formats.opening.sandbox import run_sandboxed
with contextlib.suppress(WorkerError):
    run_sandboxed("canary:{name}", {{}}, memory_bytes=1 << 30, timeout_s=60.0, max_file_bytes=1 << 30)
"""


def libraries() -> list[str] | None:
    """Return the libraries to preload; None where the compiler has no sanitizers."""
    compiler = hatch_build.find_compiler()
    if sys.platform != "linux" or compiler is None:
        return None
    found = []
    # The C++ library too: the sanitizer intercepts its exceptions, and would not find a library that is loaded later.
    for name in ("libasan.so", "libubsan.so", "libstdc++.so.6"):
        command = [*compiler, f"-print-file-name={name}"]
        # A compiler without the library prints the bare name.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        path = Path(done.stdout.strip())
        if done.returncode != 0 or not path.is_absolute():
            return None
        found.append(str(path.resolve()))
    return found


def copy_and_build() -> None:
    """Bring the copy up to date; the library is compiled again only where its source has changed."""
    source = [ROOT / "hatch_build.py", Path(__file__), *sorted((ROOT / hatch_build.NATIVE).rglob("*.[ch]"))]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in source)).hexdigest()
    stamp, kept = FOLDER / "key", FOLDER / "kernels.so"
    target = FOLDER / "src"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "src", target, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.tmp"))
    if not kept.exists() or not stamp.exists() or stamp.read_text() != key:
        print("compiling the kernels with sanitizers", flush=True)
        hatch_build.build(FOLDER, kept, more=FLAGS)
        (FOLDER / "faults.c").write_text(_FAULTS)
        compiler = hatch_build.find_compiler() or []
        subprocess.run(
            [*compiler, *hatch_build.FLAGS, *FLAGS, str(FOLDER / "faults.c"), "-o", str(FOLDER / "faults.so")],
            check=True,
        )
        stamp.write_text(key)
    shutil.copy(kept, FOLDER / hatch_build.NATIVE / "_kernels.so")
    (FOLDER / "canary.py").write_text(_CANARY.format(library=str(FOLDER / "faults.so")))
    opening = target / "cellworker" / "formats" / "opening"
    more = _IN_SANDBOX.format(marks=MARKS, findings=str(FOLDER / "findings.txt"))
    _append(opening / "sandbox.py", more, needs=("_log",))
    _append(opening / "reader_processes.py", _IN_PROCESSES, needs=("_KEPT",))
    _append(opening / "sandbox_child.py", _IN_CHILD, needs=("_lower",))


def _append(path: Path, more: str, *, needs: tuple[str, ...]) -> None:
    text = path.read_text()
    for name in needs:
        if f"\n{name}" not in text and f"\ndef {name}" not in text:
            message = f"{path.name} has no {name} any more: scripts/asan.py must follow"
            raise SystemExit(message)
    path.write_text(text + more)


def environment(preloaded: list[str]) -> dict[str, str]:
    """Return the variables of a sanitized process."""
    options = "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096:exitcode=99"
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER / "src"), str(FOLDER)]),
        "PYTHONMALLOC": "malloc",  # Python's own allocator would hide reads beyond a small object
        "LD_PRELOAD": os.pathsep.join(preloaded),
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=99",
        "OPENBLAS_NUM_THREADS": "1",
    }


def prove(variables: dict[str, str]) -> None:
    """Fail unless faults are seen: in a plain process, and in the sandbox's child.

    Raises
    ------
    SystemExit
        Where a fault is not seen: then no test would prove anything.
    """
    findings = FOLDER / "findings.txt"
    for name, expected in (("read_beyond", "heap-buffer-overflow"), ("overflow", "signed integer overflow")):
        plain = [sys.executable, str(FOLDER / "canary.py"), name]
        done = subprocess.run(plain, env=variables, capture_output=True, text=True, check=False)
        findings.unlink(missing_ok=True)
        boxed = [sys.executable, "-c", _IN_A_CHILD.format(name=name)]
        child = subprocess.run(boxed, env=variables, capture_output=True, text=True, check=False)
        seen = findings.read_text() if findings.exists() else ""
        if done.returncode == 0 or expected not in done.stderr or expected not in seen:
            message = f"a fault ({name}) is not seen:\n{done.stderr}\n{child.stderr}\n{seen}"
            raise SystemExit(message)
    findings.unlink(missing_ok=True)


def main() -> int:
    """Build, prove, test; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--fuzz", type=float, default=0.0)
    options, more = parser.parse_known_args()
    preloaded = libraries()
    if preloaded is None:
        print("the C compiler here has no sanitizers: install gcc", file=sys.stderr)
        return NOT_POSSIBLE
    FOLDER.mkdir(parents=True, exist_ok=True)
    lock = (FOLDER / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends: a second run would replace the copy under this one
    copy_and_build()
    variables = environment(preloaded)
    prove(variables)
    chosen = [word for word in more if not word.startswith("-")]
    files: tuple[str, ...] = () if chosen else SHORT if options.short else LONG
    # Sanitizers write to the real standard error, which pytest would discard with a process that crashes.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", *files, *more]
    status = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
    if options.fuzz:
        fuzz = [sys.executable, "scripts/fuzz.py", "--seconds", str(options.fuzz)]
        status = subprocess.run(fuzz, cwd=ROOT, env=variables, check=False).returncode or status
    findings = FOLDER / "findings.txt"
    if findings.exists():
        print(f"found in the process that reads files:\n{findings.read_text()}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
