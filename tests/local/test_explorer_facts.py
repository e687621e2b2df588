"""What the explorer is told before it asks, by the real local run."""

from pathlib import Path

import aiohttp
import msgspec

from cellworker import __version__
from cellworker.local.page.facts import ExplorerFacts
from cellworker.local.run import start_local
from cellworker.settings import Settings


async def test_the_facts_of_the_sample(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_dir=tmp_path / "stores", port=0)
    async with start_local(None, settings) as run, aiohttp.ClientSession() as session:
        await run.ready()
        async with session.get(f"{run.url}/explorer.json") as answer:
            assert answer.status == 200
            facts = msgspec.json.decode(await answer.read(), type=ExplorerFacts)
        async with session.get(f"{run.url}/v2/experiments/{run.experiment_id}/barcodes") as answer:
            barcodes = await answer.json()
    assert (facts.experiment_id, facts.version) == ("sample", __version__)
    assert (facts.cells, facts.genes, facts.samples) == (548, 9810, 6)
    assert {item.name: item.is_map for item in facts.reductions} == {"pca": False, "umap": True}
    assert facts.default_reduction == "umap"
    assert facts.numbers == ["GetNUmis", "GetNGenes", "GetMitochondrialContent", "GetDoubletScore"]
    assert facts.saved_in.endswith(".cellworker.json")
    assert len(barcodes) == facts.max_cell_id + 1
    assert len({barcode for barcode in barcodes if barcode is not None}) == facts.cells
