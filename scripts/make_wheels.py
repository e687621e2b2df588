"""Build the source distribution, and from it a wheel for each platform, into `dist/`.

The library is plain C, so zig compiles it here for every platform (`hatch_build.PLATFORMS`): one machine makes all,
with a compiler of the lock's version and hash. Each library is checked: it must need no newer glibc than the
wheel's name says, and no other library, and take logarithms and the like from the system: zig's own differ in the
last bit. Platform names as arguments build only these.
"""

import io
import re
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from bootstrap import ROOT, SetupError, call, find_uv, locked_builders, step, uv_settings

sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
from hatch_build import PLATFORMS  # noqa: E402 it lies in the folder above

DIST = ROOT / "dist"
LIBRARY = "cellworker/native/_kernels.so"
MACHINES = {"x86_64": "x64", "aarch64": "AArch64"}
"""The processors, by pyelftools' names."""
SYMBOL_TABLE, IN_A_SECTION = 0x2, 0x0E
"""A command of a Mach-O file, and the kind of its symbols that are defined."""
MACHO_PROCESSORS = {"x86_64": 0x01000007, "arm64": 0x0100000C}
SYSTEM_LIBRARIES = {"manylinux": {"libc.so.6", "libm.so.6"}, "musllinux": {"libc.so"}}
_TRIGONOMETRIC = {"acos", "asin", "atan", "atan2", "cos", "sin", "sincos", "tan"}
_HYPERBOLIC = {"acosh", "asinh", "atanh", "cosh", "sinh", "tanh"}
_SPECIAL = {"erf", "erfc", "j0", "j1", "jn", "lgamma", "tgamma", "y0", "y1", "yn"}
_POWERS = {"cbrt", "exp", "exp10", "exp2", "expm1", "hypot", "log", "log10", "log1p", "log2", "pow"}
ROUNDED = frozenset(_TRIGONOMETRIC | _HYPERBOLIC | _SPECIAL | _POWERS)
"""The functions of the C library whose last bit the C standard leaves open."""
USED = frozenset({"erf", "erfc", "exp", "expm1", "log", "log10", "log1p", "log2", "pow"})
"""Those of `ROUNDED` that the kernels call."""
RUNTIMES_OWN = {"musllinux_1_2_aarch64": frozenset({"exp", "log", "log10", "log2"})}
"""Those that zig's runtime serves, as there is no better. Sums in extended precision need that runtime on aarch64, and
musl's functions have no versions by which to ask for them (c_library.h)."""


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution and return its one folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def check_wheel(wheel: Path, platform: str) -> None:
    """Check that a wheel is complete and needs nothing beyond its platform.

    Raises
    ------
    SetupError
        With what is wrong.
    """
    archive = zipfile.ZipFile(wheel)
    for wanted in (LIBRARY, "cellworker/local/page/bundle/index.html", "cellworker/py.typed"):
        if wanted not in archive.namelist():
            message = f"{wheel.name} lacks {wanted}"
            raise SetupError(message)
    library = archive.read(LIBRARY)
    wrong = elf_problems(library, platform) if "linux" in platform else macho_problems(library, platform)
    if wrong:
        message = f"{wheel.name} does not run on every {platform}: {'; '.join(wrong)}"
        raise SetupError(message)
    names = elf_names(library) if "linux" in platform else macho_names(library)
    wrong = libm_problems(*names, RUNTIMES_OWN.get(platform, frozenset()))
    if wrong:
        message = f"{wheel.name} computes other last bits than the kernels of other compilers: {'; '.join(wrong)}"
        raise SetupError(message)


def elf_problems(library: bytes, platform: str) -> list[str]:
    """Return a library's needs beyond the platform that PEP 600 (glibc) or PEP 656 (musl) defines."""
    elf = ELFFile(io.BytesIO(library))
    kind, major, minor, machine = platform.split("_", 3)
    wrong = []
    found = str(elf.get_machine_arch())
    if found != MACHINES[machine]:
        wrong.append(f"it is for {found}")
    needed = set()
    versions = []
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            needed |= {str(tag.needed) for tag in section.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]
        if isinstance(section, GNUVerNeedSection):
            versions += [symbol.name for _, symbols in section.iter_versions() for symbol in symbols]
    if needed - SYSTEM_LIBRARIES[kind]:
        wrong.append(f"it needs {', '.join(sorted(needed - SYSTEM_LIBRARIES[kind]))}")
    for version in versions:
        glibc = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", version)
        if glibc is None or (int(glibc[1]), int(glibc[2])) > (int(major), int(minor)):
            wrong.append(f"it needs {version}")
    return wrong


def libm_problems(imported: set[str], defined: set[str], own: frozenset[str] = frozenset()) -> list[str]:
    """Return which functions a library does not take from the system (but for `own`), or calls and should not."""
    wrong = [f"it has its own {name}" for name in sorted((USED - imported) | (ROUNDED & defined)) if name not in own]
    return wrong + [f"it calls {name}, as no kernel does" for name in sorted((ROUNDED & imported) - USED)]


def elf_names(library: bytes) -> tuple[set[str], set[str]]:
    """Return the names that a library of Linux imports, and those that it defines, as far as it says."""
    imported: set[str] = set()
    defined: set[str] = set()
    for section in ELFFile(io.BytesIO(library)).iter_sections():
        if isinstance(section, SymbolTableSection):
            for symbol in section.iter_symbols():
                # A linker may write the version into the name: exp@GLIBC_2.29.
                name = str(symbol.name).split("@", 1)[0]
                (imported if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(name)
    return imported, defined


def macho_names(library: bytes) -> tuple[set[str], set[str]]:
    """Return the names that a library of macOS imports, and those that it defines, as far as it says."""
    imported: set[str] = set()
    defined: set[str] = set()
    n_commands, at = struct.unpack_from("<I", library, 16)[0], 32
    for _ in range(n_commands):
        command, size = struct.unpack_from("<II", library, at)
        if command == SYMBOL_TABLE:
            symbols, n_symbols, strings = struct.unpack_from("<III", library, at + 8)
            for entry in range(symbols, symbols + 16 * n_symbols, 16):
                text, kind = struct.unpack_from("<IB", library, entry)
                start = strings + text
                # C's names have a bar in front; exp10 of macOS has two more.
                name = library[start : library.index(b"\0", start)].decode().lstrip("_")
                (defined if kind & IN_A_SECTION == IN_A_SECTION else imported).add(name)
        at += size
    return imported, defined


def macho_problems(library: bytes, platform: str) -> list[str]:
    """Return the problem of a macOS library by its header: little-endian 64 bits, and the processor."""
    magic, processor = struct.unpack_from("<II", library)
    machine = platform.rsplit("_", 1)[1] if platform.endswith("arm64") else "x86_64"
    return [] if (magic, processor) == (0xFEEDFACF, MACHO_PROCESSORS[machine]) else ["it is for another processor"]


def main(arguments: list[str]) -> int:
    """Build the named platforms, or all."""
    unknown = set(arguments) - set(PLATFORMS)
    if unknown:
        print(f"expected platforms among {', '.join(PLATFORMS)}, found {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        uv = find_uv()
        with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
            folder = Path(scratch)
            builders: list[str | Path] = ["--build-constraints", locked_builders(uv, folder), "--require-hashes"]
            env = uv_settings()
            with step("source distribution"):
                call(uv, "build", "--python", sys.executable, "--sdist", "--out-dir", DIST, *builders, env=env)
            (archive,) = DIST.glob("*.tar.gz")
            source = unpacked(archive, folder / "source")
            for platform in arguments or PLATFORMS:
                with step(platform):
                    asked = {**env, "CELLWORKER_WHEEL_FOR": platform}
                    call(
                        uv,
                        "build",
                        "--python",
                        sys.executable,
                        "--wheel",
                        "--out-dir",
                        DIST,
                        *builders,
                        source,
                        env=asked,
                    )
                    (wheel,) = DIST.glob(f"*-{platform}.whl")
                    check_wheel(wheel, platform)
    except SetupError as error:
        print(f"Building stopped. {error}", file=sys.stderr)
        return 1
    for file in sorted(DIST.iterdir()):
        if file.name != ".gitignore":
            print(f"{file.stat().st_size:>12,}  dist/{file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
