"""A wrong argument is a sentence that names it and says what is right, whichever function is asked."""

import inspect
import threading

import numpy as np
import pytest

import cellworker as cw
from cellworker import ErrorCode, WorkerError
from cellworker.api import progress
from cellworker.api.dataset import Dataset


class Strange:
    """What no argument is."""


ROOMS = {room: getattr(cw, room) for room in ("pp", "tl", "pl")}
FUNCTIONS = [getattr(module, name) for module in ROOMS.values() for name in module.__all__ if name != "save"]
FUNCTIONS += [cw.read, cw.write]
METHODS = [
    getattr(Dataset, name)
    for name in (
        "annotate", "cluster", "compare", "compare_samples", "download", "embedding", "expression", "gene_sets",
        "markers", "pseudotime", "save", "to_anndata", "trajectory",
    )
]  # fmt: skip
FREE = {"self", "adata", "source", "results", "adjacency", "ax", "settings", "threads"}
"""What the functions themselves look at."""


@pytest.mark.parametrize("function", [*FUNCTIONS, *METHODS], ids=lambda function: function.__qualname__)
def test_what_no_argument_is_is_refused_by_name_before_anything_is_done(function):
    parameters = inspect.signature(function).parameters
    needed = [name for name, one in parameters.items() if one.default is one.empty]
    tried = [name for name in parameters if name not in FREE]
    assert tried
    for name in tried:
        given = {key: Strange() for key in needed} | {name: Strange()}
        first = next(key for key in parameters if key in given and key not in FREE)
        given = {key: value for key, value in given.items() if key in needed or key == name}
        with pytest.raises(WorkerError) as caught:
            function(**given)
        assert caught.value.code == ErrorCode.INVALID_INPUT
        assert caught.value.message.startswith((f"{name}: expected", f"{first}: expected"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: cw.tl.rank_genes_groups(a, "group", groups=None), "groups: expected 'all' or a list, found None."),
        (lambda a: cw.tl.rank_genes_groups(a, "group", mask_var=np.zeros(a.n_vars, bool)), "mask_var: .* one gene"),
        (lambda a: cw.tl.rank_genes_groups(a, "group", mask_var=np.ones(3, bool)), "mask_var: expected True or False"),
        (lambda a: cw.tl.rank_genes_groups(a, "grup"), r"groupby: .*did you mean 'group'\?$"),
        (lambda a: cw.pp.pca(a, "5"), "n_comps: expected a whole number or None, found '5'."),
        (lambda a: cw.tl.leiden(a, restrict_to="group"), "restrict_to: expected a pair or None"),
        (lambda a: cw.tl.leiden(a, restrict_to=("group", [])), "restrict_to: expected at least one label"),
        (lambda a: cw.tl.umap(a, maxiter=0), "maxiter: expected a whole number from 1, found 0."),
        (lambda a: cw.tl.umap(a, min_dist=-1), "min_dist: expected a number from 0, found -1."),
        (lambda a: cw.tl.umap(a, n_components=3), "n_components: expected 2, found 3: maps have two dimensions."),
        (lambda a: cw.tl.umap(a, init_pos="paga"), "init_pos: there is no 'paga'; expected one of"),
        (lambda a: cw.tl.umap(a, init_pos=np.zeros((3, 2))), r"init_pos: expected finite numbers \(\d+, 2\), found"),
        (lambda a: cw.tl.umap(a, a=1.0), "b: expected a number: a and b belong together."),
        (lambda a: cw.tl.umap(a, a=0, b=1), "a: expected a number above 0, found 0."),
        (lambda a: cw.tl.tsne(a, n_jobs=0), "n_jobs: expected a whole number from 1, found 0."),
        (lambda a: cw.tl.tsne(a, early_exaggeration=4), "early_exaggeration: expected 12"),
        (lambda a: cw.tl.leiden(a, n_iterations=0), "n_iterations: expected a whole number from 1, found 0."),
        (lambda a: cw.tl.leiden(a, partition_type=int), "partition_type: expected None, found int: clusters maximise"),
        (lambda a: cw.tl.leiden(a, flavor="rapids"), "flavor: there is no 'rapids'; expected one of"),
        (lambda a: cw.tl.louvain(a, partition_kwargs={"x": 1}), "partition_kwargs: expected {}, found"),
        (lambda a: cw.pp.neighbors(a, knn=False), "knn: expected True, found False: each cell has n_neighbors."),
        (lambda a: cw.pp.neighbors(a, transformer="sklearn"), "transformer: expected None, found 'sklearn'"),
        (lambda a: cw.pp.pca(a, svd_solver="magic"), "svd_solver: there is no 'magic'; expected one of"),
        (lambda a: cw.pp.pca(a, dtype="int32"), "dtype: expected 'float32' or 'float64', found 'int32'."),
        (lambda a: cw.pp.pca(a, use_highly_variable=True), "there is no 'highly_variable'"),
        (lambda a: cw.tl.tsne(a, learning_rate=-5), "learning_rate: expected a number from 0, found -5."),
        (lambda a: cw.tl.pseudobulk(a, "treated", sample="sample", group="yes", min_cells=-1), "min_cells: expected"),
        (lambda a: cw.write(a, "/there/is/no/such/folder.h5ad"), "path: there is no folder"),
    ],
)  # fmt: skip
def test_slips_are_told_with_what_would_be_right(adata, call, words):
    cw.pp.pca(adata, 5)
    cw.pp.neighbors(adata, 5)
    with pytest.raises(WorkerError, match=words):
        call(adata)


def test_an_experiments_methods_say_their_own_arguments(adata):
    with cw.open(adata) as experiment:
        with pytest.raises(WorkerError, match=r"^INVALID_INPUT: perplexity: 1000 is too large"):
            experiment.embedding("tsne", perplexity=1000)
        with pytest.raises(WorkerError, match=r"^INVALID_INPUT: first: expected text"):
            experiment.compare(None)
        with pytest.raises(WorkerError, match=r"^INVALID_INPUT: color: 'nope' is no column"):
            cw.pl.embedding(experiment, "nope")
        assert set(experiment.markers("group", groups="g1")["group"]) == {"g1"}


def test_a_label_that_is_named_twice_is_tested_once(adata):
    cw.tl.rank_genes_groups(adata, "group", groups=["g1", "g1", "g0"])
    assert adata.uns["rank_genes_groups"]["names"].dtype.names == ("g1", "g0")


def test_a_bar_shows_what_takes_long_and_goes_with_it(adata, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SHOW_AFTER_S", 0.0)
    cw.pp.pca(adata, 5)
    assert "Principal components" in capsys.readouterr().err
    cw.pp.neighbors(adata, 5)
    with pytest.raises(WorkerError):
        cw.tl.leiden(adata, -1)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_nothing_is_shown_of_what_is_quick(adata, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SHOW_AFTER_S", 3600.0)
    cw.pp.pca(adata, 5)
    assert capsys.readouterr().err == ""
