"""Run the tests with the oldest versions of our direct dependencies that `pyproject.toml` allows.

So the lower bounds there are tested, those of the extras too, but for `cassia`, which has tests of its own
(`make test-cassia`). The environment lies in `.venv/lowest`; the arguments go to pytest.
"""

import shutil
import subprocess
import sys
import tomllib

from bootstrap import ROOT, SetupError, call, find_uv, step, uv_settings

LOWEST = ROOT / ".venv" / "lowest"


def extras() -> str:
    """Return the extras that are tested here, with commas between."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return ",".join(name for name in project["optional-dependencies"] if name != "cassia")


def main(arguments: list[str]) -> int:
    """Install, print the versions, test."""
    python = LOWEST / "bin" / "python"
    try:
        uv = find_uv()
        shutil.rmtree(LOWEST, ignore_errors=True)
        call(uv, "venv", "--python", sys.executable, LOWEST)
        with step("oldest versions allowed"):
            options = ["--resolution", "lowest-direct", "--group", "dev", "--refresh-package", "cellworker"]
            call(uv, "pip", "install", "--python", python, *options, "-e", f".[{extras()}]", env=uv_settings())
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    print(call(uv, "pip", "freeze", "--python", python, "--exclude-editable"))
    return subprocess.run([python, "-m", "pytest", "-q", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
