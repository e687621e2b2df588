"""Run the tests of the extra `cassia` with the package itself, which is too large for every developer's environment.

The environment lies in `.venv/cassia`; the arguments go to pytest.
"""

import subprocess
import sys

from bootstrap import ROOT, SetupError, call, find_uv, step, uv_settings

PLACE = ROOT / ".venv" / "cassia"


def main(arguments: list[str]) -> int:
    """Install what is missing, and test."""
    python = PLACE / "bin" / "python"
    try:
        uv = find_uv()
        if not python.exists():
            call(uv, "venv", "--python", sys.executable, PLACE)
        with step("the extra cassia"):
            call(uv, "pip", "install", "--python", python, "--group", "dev", "-e", ".[cassia]", env=uv_settings())
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    tests = ["tests/engine/test_cassia_package.py", *arguments]
    return subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
