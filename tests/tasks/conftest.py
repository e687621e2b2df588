"""What the tests of tasks share: the golden experiment, and a way to ask any experiment anything."""

import json
import sys
from functools import partial
from pathlib import Path

import orjson
import pytest

from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.opening.open import Opened, open_experiment
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.steps import compute
from cellworker.tasks.task import Context, PrepareInput

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))  # for `import builders`

import goldens  # noqa: E402

PBMCSMALL = TESTS / "fixtures" / "pbmcsmall"


@pytest.fixture(scope="session", params=["v4", "v5"])
def pbmcsmall(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The golden experiment, once as class Assay and once as Assay5."""
    settings = Settings(store_dir=tmp_path_factory.mktemp(f"store-{request.param}"))
    return open_experiment(PBMCSMALL / request.param, settings)


@pytest.fixture
def answer(tmp_path):
    """Ask the engine's half of a task: its path and a request, decoded JSON (or a file's path) back."""

    def ask(experiment, path, request, *, threads=2, **more):
        task = catalog.BY_PATH[path]
        checked = task.read_request(json.dumps(request).encode())
        value = compute(task, checked, experiment, Context(scratch=tmp_path, threads=threads, **more))
        return value if isinstance(value, Path) else orjson.loads(value)

    return ask


@pytest.fixture
def judged(answer):
    """Ask what a golden asks and compare: returns nothing, fails where we differ."""

    def judge(opened, folder, case, *, exact):
        task, golden = case.split("-")[0], goldens.read(folder, case)
        ask = partial(answer, opened.experiment, goldens.PATHS[task], golden["request"], like_original=exact)
        if case in goldens.ANSWERED:
            assert golden["error"]
            assert ask()
        elif golden.get("error"):
            with pytest.raises(WorkerError):
                ask()
        else:
            goldens.judge(task, golden["request"], ask(), golden["response"], exact=exact)

    return judge


@pytest.fixture(scope="session", params=["multisample/v4", "pbmc3k/v5"])
def larger(request, shared, tmp_path_factory) -> tuple[Opened, Path]:
    """A larger golden experiment, and the folder of what the original answered about it."""
    settings = Settings(store_dir=tmp_path_factory.mktemp("store"))
    return open_experiment(shared / "data" / "experiments" / request.param, settings), (
        shared / "golden" / request.param.split("/")[0]
    )


@pytest.fixture
def all_judged(judged, larger):
    """Compare every case of a task about a larger experiment, but for those where the original drew other cells."""

    def judge(task, *, exact):
        opened, folder = larger
        done = 0
        for case in goldens.names(folder, task):
            if exact and "-between-" in case:  # no switch changes these
                continue
            if exact or not goldens.was_sampled(task, goldens.read(folder, case)["request"]):
                try:
                    judged(opened, folder, case, exact=exact)
                except AssertionError as error:
                    raise AssertionError(case) from error
                done += 1
        assert done

    return judge


@pytest.fixture
def prepare():
    """Ask the gateway's half of a task: its wire body and cell sets to the engine's request."""

    def ask(name, body, cell_sets=None, **more):
        task = catalog.find(name)
        checked = task.read_body({"name": name, **body})
        return task.prepare(PrepareInput(checked, None, cell_sets or CellSets.empty(), **more))

    return ask
