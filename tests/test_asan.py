"""``make asan``, its short part: kernels and hostile files under sanitizers, in a process of their own."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def asan(root):
    spec = importlib.util.spec_from_file_location("asan", root / "scripts" / "asan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kernels_and_hostile_files_under_sanitizers(asan, root, tmp_path):
    if asan.libraries() is None:
        pytest.skip("make asan: the C compiler here has no sanitizers")
    command = [sys.executable, "scripts/asan.py", "--short", "-x", f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_a_sandbox_that_passes_nothing_on_is_reported(asan, tmp_path):
    path = tmp_path / "sandbox.py"
    path.write_text("_log = None\n")
    with pytest.raises(SystemExit, match=r"sandbox\.py has no _KEPT any more"):
        asan._append(path, "", needs=("_KEPT", "_log"))
