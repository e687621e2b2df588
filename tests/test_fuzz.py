"""``make fuzz``, for moments: every reader is tried, and nothing is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

READERS = [
    "rds", "qs", "rda", "qs2", "bioconductor", "h5seurat", "bpcells", "cell_sets", "h5ad", "zarr",
    "tenx", "loom", "h5mu", "old_h5ad", "market", "market_gz", "parse", "table", "rhapsody", "zip", "samples",
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_bent_files_end_in_an_experiment_or_in_a_sentence(reader: str, root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/fuzz.py", "--seconds", "1", "--seed", "7", "--reader", reader]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (counts,) = re.findall(rf"^{reader}: ([\d,]+) bent files read, ([\d,]+) refused", done.stdout, re.MULTILINE)
    # What a child had read before the HDF5 library looped is not counted.
    assert sum(int(count.replace(",", "")) for count in counts) > 0 or "ended by the time limit" in done.stdout
    assert list(tmp_path.iterdir()) == []
