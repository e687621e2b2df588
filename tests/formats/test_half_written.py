"""What a killed process leaves beside the file that it wrote, and who removes it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cellworker.formats.common import half_written as module
from cellworker.formats.common.half_written import half_written, sweep
from cellworker.formats.common.whole_files import write_whole
from cellworker.sample import sample_path

WRITING = """
import signal, sys
from pathlib import Path
from cellworker.formats.common.half_written import half_written
with half_written(Path(sys.argv[1])) as place:
    place.mkdir() if place.suffix == ".zarr" else place.write_bytes(b"half")
    print("begun", flush=True)
    signal.pause()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def another_run(monkeypatch):
    monkeypatch.setattr(module, "_swept", set())


@pytest.mark.parametrize("name", ["one.rds", "one.zarr", "x" * 200])
def test_what_a_killed_process_left_goes_with_the_next_run_and_what_a_living_one_writes_stays(tmp_path, name):
    (tmp_path / ".mine.0123456789ab.tmp").write_text("of another program")
    (tmp_path / ".mine.0123456789ab.cellworker.tmp").write_text("a file, which we never write")
    others = names(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", WRITING, tmp_path / name], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        sweep(tmp_path)
        assert len(names(tmp_path)) == len(others) + 1
    finally:
        process.kill()
        process.communicate()
    assert len(names(tmp_path)) == len(others) + 1
    write_whole(tmp_path / "two.json", b"whole")
    assert names(tmp_path) == sorted([*others, "two.json"])


def test_an_error_leaves_nothing_and_the_old_content(tmp_path):
    (tmp_path / "one").write_bytes(b"old")
    with pytest.raises(IsADirectoryError), half_written(tmp_path / "one") as place:
        place.parent.write_bytes(b"half")
    assert names(tmp_path) == ["one"]
    assert (tmp_path / "one").read_bytes() == b"old"


def test_one_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    made = os.open

    def swept(path, flags, mode=0o777, **more):
        if str(path).endswith(".lock") and not swept.done:
            swept.done = True
            sweep(tmp_path)
        return made(path, flags, mode, **more)

    swept.done = False
    monkeypatch.setattr(os, "open", swept)
    with half_written(tmp_path / "one") as place:
        place.write_bytes(b"whole")
        place.replace(tmp_path / "one")
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize("target", ["out.zarr", "out.h5ad"])
def test_a_convert_that_is_killed_leaves_nothing_that_the_next_does_not_remove(tmp_path, target):
    folder = tmp_path / "targets"
    folder.mkdir()
    environment = os.environ | {"STORE_DIR": str(tmp_path / "stores")}
    arguments = ["convert", str(sample_path() / "r.rds"), str(folder / target), "--force"]
    held = f"""
import signal
from cellworker.cli.main import main
from cellworker.formats.convert import placing
def hold(temporary, target):
    print("begun", flush=True)
    signal.pause()
placing._replace = hold
main({arguments!r})
"""
    process = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(names(folder)) == 1
    for _ in range(2):  # the second replaces what the first wrote
        subprocess.run(
            [sys.executable, "-m", "cellworker.cli.main", *arguments], env=environment, check=True, capture_output=True
        )
        assert names(folder) == [f"{Path(target).stem}.cell_sets.json", target]
