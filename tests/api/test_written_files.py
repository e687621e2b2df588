"""Every file that is written says what made it, and `cellworker replay` makes it again."""

from pathlib import Path

import anndata
import numpy as np
import pytest
from tests.formats.test_provenance import run

import cellworker as cw
from cellworker.cli.main import main
from cellworker.formats.common.provenance import encode, read_provenance


@pytest.fixture(scope="module")
def sample() -> Path:
    """A small object of the platform with its cell sets."""
    return Path(__file__).parents[1] / "fixtures" / "pbmcsmall" / "v5"


def pictures_source(sample: Path):
    dataset = cw.open(sample)
    dataset.cluster("leiden", 0.7, name="fine")
    return dataset


def save_as(ending: str):
    def write(sample: Path, folder: Path) -> Path:
        return pictures_source(sample).save(folder / f"saved{ending}")

    return write


def write_memory(sample: Path, folder: Path) -> Path:
    return cw.write(anndata.AnnData(np.ones((2, 3), np.float32)), folder / "memory.h5ad")


def convert_to(ending: str):
    def write(sample: Path, folder: Path) -> Path:
        target = folder / f"converted{ending}"
        assert main(["convert", str(sample), str(target), "--quiet"]) == 0
        return target

    return write


def by_command(*words: str, out: str):
    def write(sample: Path, folder: Path) -> Path:
        target = folder / out
        assert main([*(word.replace("SAMPLE", str(sample)) for word in words), "--quiet", "--out", str(target)]) == 0
        return target

    return write


def draw(ending: str):
    def write(sample: Path, folder: Path) -> Path:
        ax = cw.pl.embedding(pictures_source(sample), "fine", basis="umap")
        return cw.pl.save(ax, folder / f"picture{ending}", dpi=40)

    return write


OBJECT_BODY = '{"embeddingMethod": "umap", "isObj2s": true}'
WRITERS = {
    "save .h5ad": (save_as(".h5ad"), ["cluster", "save"]),
    "save .rds": (save_as(".rds"), ["cluster", "save"]),
    "write": (write_memory, ["write"]),
    "convert .h5ad": (convert_to(".h5ad"), ["convert"]),
    "convert .zarr": (convert_to(".zarr"), ["convert"]),
    "convert .rds": (convert_to(".rds"), ["convert"]),
    "convert .sce.rds": (convert_to(".sce.rds"), ["convert"]),
    "convert .h5": (convert_to(".h5"), ["convert"]),
    "download .h5ad": (by_command("download", "SAMPLE", out="d.h5ad"), ["download"]),
    "download of the platform": (
        by_command("call", "DownloadAnnotSeuratObject", "--experiment", "SAMPLE", "--body", OBJECT_BODY, out="o.rds"),
        ["DownloadAnnotSeuratObject"],
    ),
    "picture .png": (draw(".png"), ["cluster", "pl.embedding"]),
    "picture .svg": (draw(".svg"), ["cluster", "pl.embedding"]),
    "picture .pdf": (draw(".pdf"), ["cluster", "pl.embedding"]),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_every_writer_says_what_made_its_file_and_replay_makes_it_again(
    sample: Path, tmp_path: Path, writer: str, capsys, drawing
) -> None:
    write, tasks = WRITERS[writer]
    made = write(sample, tmp_path)
    records = read_provenance(made)
    assert [record.task for record in records] == tasks
    assert str(sample.parent) not in encode(records)
    again = made.with_name(f"again-{made.name}")
    status, _, err = run("replay", made, "--experiment", sample, "--out", again, "--quiet", capsys=capsys)
    if tasks == ["write"]:
        assert (status, "in memory" in err) == (1, True)
        return
    assert all(record.source_sha256 for record in records)
    assert (status, err) == (0, "")
    assert read_provenance(again) == records
    if made.suffix in (".rds", ".png", ".svg", ".pdf"):
        assert again.read_bytes() == made.read_bytes()


def test_cells_that_a_mask_says_are_told_by_barcodes(sample: Path) -> None:
    dataset = cw.open(sample)
    dataset.trajectory(cells=np.arange(dataset.experiment.n_cells) < 40)
    (step,) = dataset.steps
    assert step.task == "trajectory"
    assert step.parameters["cells"] == list(dataset.experiment.barcodes[:40])
