"""Fill an empty folder with the image's content: the locked packages and cellworker, compiled, without a checkout.

The Dockerfile runs it; the tests do so too, since they have no container engine.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap import ROOT, SetupError, call, find_uv, locked_builders, uv_settings

__all__ = ["add_marker_table", "fill", "main", "size_mb"]

EXTRAS = ("platform", "tracing")
"""Extras that a worker behind the platform needs; `cassia` is optional."""


def fill(target: Path, extras: list[str]) -> None:
    """Make an environment in `target` that runs wherever the same Python is.

    Raises
    ------
    SetupError
        If the folder is not empty, or a step fails.
    """
    if target.exists() and any(target.iterdir()):
        message = f"{target} is not empty"
        raise SetupError(message)
    uv = find_uv()
    env = uv_settings()
    call(uv, "venv", "--python", sys.executable, target)
    wanted = [part for extra in extras for part in ("--extra", extra)]
    requirements = target / "requirements.txt"
    requirements.write_text(call(uv, "export", "--frozen", "--no-emit-project", "--no-dev", *wanted))
    python = target / "bin" / "python"
    install: list[str | Path] = [uv, "pip", "install", "--python", python]
    call(*install, "--require-hashes", "--compile-bytecode", "-r", requirements, env=env)
    builders = locked_builders(uv, target)
    own: list[str | Path] = ["--no-deps", "--refresh-package", "cellworker", "--build-constraints", builders]
    call(*install, *own, "--compile-bytecode", ROOT, env=env)
    add_marker_table(python)
    for tests in [path for path in target.glob("lib/python*/site-packages/*/**/tests") if path.is_dir()]:
        shutil.rmtree(tests)


def add_marker_table(python: Path) -> None:
    """Fetch ScType's table of marker genes by its pinned checksum; a build that cannot fetch it continues without."""
    code = "from cellworker.engine.annotators.marker_table import install_published as i; print(i())"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        print(f"ScType's table of marker genes: {done.stdout.strip()}")
    else:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"ScTypeAnnotate will need its table at run time: {reason}", file=sys.stderr)


def size_mb(folder: Path) -> float:
    """Return the size of all files under a folder in megabytes (1e6 bytes), links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()) / 1e6


def main(arguments: list[str]) -> int:
    """Fill a folder and print its largest parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--extra", action="append", default=[], help="another extra of pyproject.toml, such as cassia")
    options = parser.parse_args(arguments)
    try:
        fill(options.target, [*EXTRAS, *options.extra])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    packages = [path for path in options.target.glob("lib/python*/site-packages/*") if path.is_dir()]
    sizes = sorted(((size_mb(path), path.name) for path in packages), reverse=True)
    for size, name in sizes[:12]:
        print(f"{size:8.1f} MB  {name}")
    print(f"{size_mb(options.target):8.1f} MB  in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
