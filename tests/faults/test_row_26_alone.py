"""Row 26 of the fault matrix: no network but loopback, no capabilities, a user without rights, a home read-only."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSIDE = "FAULTS_ALONE"
USER = 10001
SCRIPT = (
    "ip link set lo up && "
    f"exec unshare --user --map-user={USER} --map-group={USER} setpriv --no-new-privs --inh-caps=-all "
    '--ambient-caps=-all "$@"'
)


@pytest.mark.skipif(INSIDE in os.environ, reason="it is inside already")
def test_row_26_all_tasks_work_without_network_rights_and_home_and_leave_no_secret(tmp_path: Path) -> None:
    if missing := [name for name in ("unshare", "setpriv", "ip") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    outer = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", SCRIPT, "sh"]
    if subprocess.run([*outer, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody have a network of their own")
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    environment = {**os.environ, INSIDE: "1", "HOME": str(home)}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]  # of the run around this one
    pytest_of_its_own = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    where = [f"--basetemp={tmp_path / 'inside'}", str(HERE / "test_whole_way.py"), str(HERE / "test_row_26_alone.py")]
    done = subprocess.run(
        [*outer, *pytest_of_its_own, *where], env=environment, cwd=HERE.parent.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()[-8000:] + done.stderr.decode()[-2000:]
    assert b"4 passed, 1 skipped" in done.stdout


@pytest.mark.skipif(INSIDE not in os.environ, reason="asked by the test above, inside")
def test_row_26_it_really_is_alone() -> None:
    assert os.getuid() == USER
    status = Path("/proc/self/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "CapPrm:\t0000000000000000" in status
    with pytest.raises(PermissionError):
        Path.home().joinpath("file").touch()
    with socket.socket() as outside, pytest.raises(OSError, match="unreachable"):
        outside.connect(("192.0.2.1", 80))
