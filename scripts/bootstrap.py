"""Make `.venv` from a bare Python; `make run` and `make test` call this first.

It needs Python 3.11 to 3.14 and nothing else: it fetches uv where there is none, installs the versions and hashes of
`uv.lock`, and compiles the kernels (with a compiler from the package index where the machine has none). Second runs do
not start it at all: the Makefile checks a stamp file.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = VENV / "tools"
PYTHON = VENV / "bin" / "python"
OLDEST, NEWEST = (3, 11), (3, 14)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""Where systems keep the certificates that they trust, for a Python that was built with another place."""
OLDEST_UV = (0, 6)

GROUPS = {
    "run": ["--no-dev", "--extra", "notebook"],  # the commands that answer with tables, and a notebook beside the page
    "dev": [],
    "bench": ["--group", "bench"],
}
"""Arguments of `uv export` for each purpose."""

WEB = "web"
"""The purpose that installs no packages and only builds the project again, when the page has changed."""


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print one line for a step and its duration."""
    print(f"  {name} ", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"({time.monotonic() - started:.1f} s)", flush=True)


def call(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command quietly; its output matters only when it fails."""
    arguments = [str(part) for part in command]
    environment = {**os.environ, **(env or {})}
    # A name like VIRTUAL_ENV of the caller's shell would win over the environment that is being made.
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    done = subprocess.run(arguments, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-25:]
        raise SetupError("\n".join([f"'{' '.join(arguments[:4])} ...' failed:", *(f"    {line}" for line in lines)]))
    return done.stdout


def succeeds(*command: str) -> bool:
    """Whether a command exists and succeeds."""
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def python_version(python: Path) -> tuple[int, int] | None:
    """Return major and minor version of an interpreter, None where it does not run."""
    try:
        text = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = text.split()
    return int(major), int(minor)


def usable_uv(path: str | None) -> Path | None:
    """Return the path when that uv runs and is new enough to read the lock."""
    if path is None:
        return None
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"(\d+)\.(\d+)", text)
    return Path(path) if found and (int(found[1]), int(found[2])) >= OLDEST_UV else None


def find_uv() -> Path:
    """Return uv: an installed one, else one fetched into `.venv/tools`, apart from the locked packages."""
    for candidate in (str(TOOLS / "bin" / "uv"), shutil.which("uv")):
        if found := usable_uv(candidate):
            return found
    shutil.rmtree(TOOLS, ignore_errors=True)
    if not importlib.util.find_spec("pip") and not importlib.util.find_spec("ensurepip"):
        install_ensurepip()
    with step("uv, the installer"), tempfile.TemporaryDirectory() as scratch:
        pip = find_pip(Path(scratch))
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", *certificates(pip)]
        wanted = Path(scratch) / "uv.txt"
        wanted.write_text(locked("uv"))
        call(*pip, "install", *options, "--target", TOOLS, "-r", wanted)
    found = usable_uv(str(TOOLS / "bin" / "uv"))
    if found is None:
        raise SetupError("the uv that was fetched does not run here; install uv by hand and run make again")
    return found


def locked(name: str) -> str:
    """Return a package's version and hashes from the lock, as a pip requirement; it must need no other package."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (found,) = [package for package in packages if package["name"] == name]
    files = [*found.get("wheels", []), *([found["sdist"]] if "sdist" in found else [])]
    return " ".join([f"{name}=={found['version']}", *(f"--hash={file['hash']}" for file in files)])


def locked_builders(uv: Path, folder: Path) -> Path:
    """Write the build requirements, with the versions and hashes of the lock, for ``--build-constraints``."""
    target = folder / "builders.txt"
    target.write_text(call(uv, "export", "--frozen", "--no-emit-project", "--only-group", "installer"))
    return target


def find_pip(scratch: Path) -> list[str | Path]:
    """Return a command for pip: this Python's, else that of a temporary environment."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    call(sys.executable, "-m", "venv", scratch / "venv")
    return [scratch / "venv" / "bin" / "python", "-m", "pip"]


def certificates(pip: list[str | Path]) -> list[str]:
    """Return pip's option to trust what the system trusts, as pip 24.2 and newer do by themselves."""
    try:
        text = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=True).stdout
        told = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found = re.match(r"pip (\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (24, 2)
    if version >= (24, 2):
        return []
    if version >= (23, 3):  # the first that brings what the option needs
        return ["--use-feature=truststore"]
    named = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & set(os.environ) or ".cert=" in told
    bundle = None if named else system_bundle()
    return [] if bundle is None else ["--cert", str(bundle)]


def system_bundle() -> Path | None:
    """Return the file of the certificates that the system trusts, where it has one."""
    paths = ssl.get_default_verify_paths()
    for name in (paths.cafile, paths.openssl_cafile, *BUNDLES):
        if name and Path(name).is_file():
            return Path(name)
    return None


def install_ensurepip() -> None:
    """Debian and Ubuntu split pip's installer from Python: install that package, or say how."""
    package = f"python3.{sys.version_info.minor}-venv"
    advice = f"{sys.executable} comes without pip. Install it once and run make again:\n    "
    if shutil.which("apt-get") is None:
        advice += "the package of your system that holds Python's venv and ensurepip modules"
        raise SetupError(advice)
    advice += f"sudo apt-get install {package}"
    admin = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if admin and not succeeds(*admin, "true"):
        raise SetupError(advice)
    apt = [*admin, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
    install = [*apt, "install", "--no-install-recommends", package]
    with step(f"{package}, from apt"):
        try:
            # The first try fails mostly because there are no package lists.
            if not succeeds(*install):
                call(*apt, "update")
                call(*install)
        except SetupError as error:
            message = f"{error}\n{advice}"
            raise SetupError(message) from None
    importlib.invalidate_caches()


def index_settings() -> dict[str, str]:
    """Return uv's settings from pip's on this machine: mirrors, certificates, local folders of wheels.

    uv does not read pip's configuration. Mixing indexes is safe here because every file must have the lock's hash.
    """
    if any(name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX", "UV_FIND_LINKS")) for name in os.environ):
        return {}
    # `.venv` holds no pip; the Python that it was made from has the same settings.
    python = sys.executable if importlib.util.find_spec("pip") else getattr(sys, "_base_executable", sys.executable)
    command = [python, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    told = {}
    for line in listing.splitlines():
        if found := re.fullmatch(r"(?:global|install|:env:)\.([a-z-]+)='(.*)'", line.strip()):
            told[found[1]] = found[2].replace("\\n", " ").split()
    settings = {}
    if told.get("index-url"):
        settings["UV_DEFAULT_INDEX"] = told["index-url"][0]
    if told.get("extra-index-url"):
        settings["UV_INDEX"] = " ".join(told["extra-index-url"])
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if told.get("find-links"):
        settings["UV_FIND_LINKS"] = ",".join(told["find-links"])
    if told.get("cert") and "SSL_CERT_FILE" not in os.environ:
        settings["SSL_CERT_FILE"] = told["cert"][0]
    return settings


def uv_settings() -> dict[str, str]:
    """Return uv's environment: long timeouts, no Python of its own, the system's certificates, pip's settings.

    Only the system may know a proxy's certificate; the second name is for newer versions of uv.
    """
    system = {"UV_NATIVE_TLS": "true", "UV_SYSTEM_CERTS": "true"}
    return {"UV_HTTP_TIMEOUT": "180", "UV_PYTHON_DOWNLOADS": "never", **system, **index_settings()}


def make_environment(uv: Path) -> None:
    """Create `.venv` unless there is a working one of a supported version."""
    version = python_version(PYTHON)
    if version is not None and OLDEST <= version <= NEWEST:
        return
    with step(f"environment .venv (Python {sys.version_info.major}.{sys.version_info.minor})"):
        call(uv, "venv", "--allow-existing", "--python", sys.executable, VENV)


def install_packages(uv: Path, purpose: str, env: dict[str, str]) -> None:
    """Install the locked packages, each file checked against its hash."""
    listing = call(uv, "export", "--frozen", "--no-emit-project", *GROUPS[purpose])
    count = len(re.findall(r"^[\w.-]+(?:\[.*\])?==", listing, re.MULTILINE))
    requirements = VENV / f"requirements-{purpose}.txt"
    requirements.write_text(listing)
    # `sync` also removes packages that the lock no longer names; `run` leaves a developer's tools alone.
    verb = ["install", "-r"] if purpose == "run" else ["sync"]
    with step(f"{count} packages of uv.lock"):
        # Compiled now: processes that cannot write there would compile the modules again and again.
        call(uv, "pip", *verb, requirements, "--python", PYTHON, "--require-hashes", "--compile-bytecode", env=env)


def page_is_current() -> bool:
    """Whether the explorer's bundle is that of its sources."""
    from web_build import is_current  # noqa: PLC0415

    return is_current(ROOT)


def install_project(uv: Path, env: dict[str, str]) -> None:
    """Install the checkout itself, which compiles the kernels."""
    from hatch_build import find_compiler  # noqa: PLC0415

    compiler = find_compiler()
    source = compiler[0] if compiler else "ziglang from the package index, as there is no C compiler here"
    # --refresh-package: uv would take a build from its cache and never compile.
    options: list[str | Path] = ["--no-deps", "--reinstall", "--refresh-package", "cellworker"]
    options += ["--build-constraints", locked_builders(uv, VENV)]
    page = "" if page_is_current() else ", its page bundled"
    with step(f"cellworker, its kernels compiled with {source}{page}"):
        call(uv, "pip", "install", "--python", PYTHON, *options, "-e", ".", env=env)
        call(PYTHON, "-m", "compileall", "-q", "src")
    if not page_is_current():
        print("  The explorer is missing, because its build could not reach the npm registry: '/' offers the console.")
        print("  'make web' builds it where the registry can be reached.")


def main(arguments: list[str]) -> int:
    """Set up for one purpose and touch its stamp."""
    purpose = arguments[0] if arguments else "dev"
    if purpose not in (*GROUPS, WEB) or not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(f"usage: python3.11 scripts/bootstrap.py {'|'.join((*GROUPS, WEB))}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    if purpose == WEB and page_is_current():  # make asks for the page after a set-up too, which has bundled it
        (VENV / f".ready-{WEB}").touch()
        return 0
    started = time.monotonic()
    what = "Bundling the explorer" if purpose == WEB else "Setting up cellworker in .venv, once"
    print(f"{what} (Python {'.'.join(map(str, sys.version_info[:3]))}, {sys.executable})")
    try:
        uv = find_uv()
        make_environment(uv)
        env = uv_settings()
        if purpose != WEB:
            install_packages(uv, purpose, env)
        install_project(uv, env)
    except SetupError as error:
        print(f"Set-up stopped. {error}", file=sys.stderr)
        return 1
    # In this order: the page's stamp has to be newer than those that it depends on.
    for done in [*{"run": ["run"], WEB: []}.get(purpose, ["run", purpose]), WEB]:
        (VENV / f".ready-{done}").touch()
    print(f"Ready after {time.monotonic() - started:.1f} s.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
