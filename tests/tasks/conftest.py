"""What the tests of tasks share: the golden experiment, and a way to ask any experiment anything."""

import json
import sys
from pathlib import Path

import orjson
import pytest

from cellworker.engine.encoding import encode
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.opening import Opened, open_experiment
from cellworker.protocol.bodies import convert, decode_body
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.task import Context, PrepareInput

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))  # for `import builders`

PBMCSMALL = TESTS / "fixtures" / "pbmcsmall"


@pytest.fixture(scope="session", params=["v4", "v5"])
def pbmcsmall(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The golden experiment, once as class Assay and once as Assay5."""
    settings = Settings(store_dir=tmp_path_factory.mktemp(f"store-{request.param}"))
    return open_experiment(PBMCSMALL / request.param, settings)


@pytest.fixture
def answer(tmp_path):
    """Ask the engine's half of a task: its path and a request, decoded JSON (or a file's path) back."""

    def ask(experiment, path, request, *, threads=2):
        task = catalog.BY_PATH[path]
        checked = convert(json.dumps(request).encode(), task.request, "request")
        value = task.compute(experiment, checked, Context(scratch=tmp_path, threads=threads))
        return value if isinstance(value, Path) else orjson.loads(encode(value))

    return ask


@pytest.fixture
def prepare():
    """Ask the gateway's half of a task: its wire body and cell sets to the engine's request."""

    def ask(name, body, cell_sets=None):
        checked = decode_body(name, {"name": name, **body})
        return catalog.find(name).prepare(PrepareInput(checked, None, cell_sets or CellSets.empty()))

    return ask
