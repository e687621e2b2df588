"""The examples in the docstrings of the Python door are tests, and a type checker knows its methods."""

import doctest
import gc
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import cellworker as cw
import cellworker.api
from cellworker.api.dataset import Dataset

METHODS = [
    "markers", "compare", "compare_samples", "embedding", "cluster", "expression", "gene_sets", "trajectory",
    "pseudotime", "annotate", "cell_sets", "to_anndata", "save", "view",
]  # fmt: skip
MYPY_S = 300


def modules():
    found = pkgutil.walk_packages(cellworker.api.__path__, "cellworker.api.")
    return [module.name for module in found if not module.ispkg]


def examples_of(name):
    """Only of what is defined in the module itself."""
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


def with_examples():
    return [name for name in modules() if examples_of(name)]


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_run_as_they_say(name, drawing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said = []
    for example in examples_of(name):
        runner.run(example, out=said.append)
    gc.collect()  # what examples open lies in cycles
    assert runner.failures == 0, "".join(said)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_there_with_a_signature_and_an_example(name):
    if name == "cell_sets":  # an attribute that can be called
        return
    method = inspect.getattr_static(Dataset, name)
    assert "return" in method.__annotations__
    assert ">>> " in inspect.getdoc(method)
    assert "Returns\n-------" in inspect.getdoc(method)


@pytest.mark.parametrize("name", cw.pl.__all__)
def test_every_picture_has_an_example(name):
    assert ">>> " in inspect.getdoc(getattr(cw.pl, name))


def test_a_type_checker_refuses_wrong_names(root, tmp_path):
    pytest.importorskip("mypy")
    snippet = tmp_path / "notebook.py"
    snippet.write_text(
        "import cellworker as cw\n"
        "experiment = cw.open('a.h5ad')\n"
        "table = experiment.markers('leiden', n=3)\n"
        "arrow = experiment.compare('a', 'b', within='c', as_='arrow')\n"
        "ax = cw.pl.embedding(experiment, 'leiden', legend='on')\n"
        "experiment.marker('leiden')\n"
        "experiment.markers('leiden', limit=3)\n"
        "experiment.cluster('kmeans')\n"
        "experiment.expression('CD3D', as_='numpy')\n"
        "cw.pl.embeding(experiment)\n"
        "cw.tl.umap(experiment, min_dits=3)\n"
    )
    command = [
        sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"),
        "--cache-dir", str(root / ".mypy_cache"), str(snippet),
    ]  # fmt: skip
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=MYPY_S, check=False)
    lines = {int(line.split(":")[1]): line for line in found.stdout.splitlines() if ": error:" in line}
    assert set(lines) == {6, 7, 8, 9, 10, 11}, found.stdout + found.stderr
    assert 'has no attribute "marker"' in lines[6]
