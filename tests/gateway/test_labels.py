"""The pod's labels, as the downward API writes them."""

from pathlib import Path
from typing import Any

import pytest

from cellworker.gateway.platform.labels import PodLabels, assigned_folder, parse_labels, point_engine
from cellworker.identifiers import ExperimentId
from cellworker.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "labels"


def labels(file: Path, *, development_default: bool = True, **settings: Any) -> PodLabels:
    return PodLabels(Settings(labels_file=file, **settings), development_default=development_default)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('experimentId="abc"\nsandboxId="default"\n', {"experimentId": "abc", "sandboxId": "default"}),
        ('a="x=y=z"', {"a": "x=y=z"}),
        (r'a="say \"hi\" \\ done"', {"a": 'say "hi" \\ done'}),
        (r'a="tab\tline\nbell\a"', {"a": "tab\tline\nbell\a"}),
        (r'a="\u00e9\U0001f9ec"', {"a": "é\N{DNA DOUBLE HELIX}"}),
        (r'a="\xc3\xa9\xff"', {"a": "é\N{REPLACEMENT CHARACTER}"}),
        (r'a="\ud800"', {"a": "\N{REPLACEMENT CHARACTER}"}),
        ('app.kubernetes.io/name="worker"', {"app.kubernetes.io/name": "worker"}),
        ('empty=""', {"empty": ""}),
        ('a="b"\r\nno line\n="x"\nc=d\ne="f', {"a": "b"}),
        ("", {}),
    ],
)
def test_a_file_is_read_as_kubernetes_writes_it(text: str, wanted: dict[str, str]) -> None:
    assert parse_labels(text) == wanted


def test_labels_come_first_then_the_environment(file: Path) -> None:
    pod = labels(file, experiment_id="e", sandbox_id="s", work_queue_hash="h")
    assert (pod.experiment_id, pod.sandbox_id, pod.work_queue_hash, pod.labelled) == ("e", "s", "h", False)
    file.write_text('experimentId="E"\nsandboxId="t"\nworkQueueHash="H"\n')
    assert (pod.experiment_id, pod.sandbox_id, pod.work_queue_hash, pod.labelled) == ("E", "t", "H", True)


def test_a_change_of_the_file_is_seen_at_the_next_look_and_its_removal_too(file: Path) -> None:
    pod = labels(file, cluster_env="production")
    assert pod.experiment_id is None
    for name in ("first", "other"):
        file.with_name("new").write_text(f'experimentId="{name}"')
        file.with_name("new").replace(file)  # Kubernetes swaps a link, so that a reader sees one whole file
        assert pod.experiment_id == name
    file.unlink()
    assert pod.experiment_id is None


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, "test-experiment-id"),
        ({"cluster_env": "development", "k8s_env": "production"}, "test-experiment-id"),
        ({"experiment_id": "mine"}, "mine"),
        ({"k8s_env": "production"}, None),
        ({"k8s_env": "anything"}, None),
        ({"cluster_env": "staging"}, None),
        ({"development_default": False}, None),
    ],
)
def test_only_development_has_an_experiment_by_default(
    file: Path, settings: dict[str, Any], wanted: str | None
) -> None:
    assert labels(file, **settings).experiment_id == wanted


def test_the_engine_serves_the_pods_own_experiment_before_one_it_was_pointed_at(file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder = assigned_folder(labels(file, k8s_env="production"), data)
    assert folder() is None
    point_engine(data, ExperimentId("rescued"))
    assert folder() == data / "rescued"
    file.write_text('experimentId="own"\n')
    assert folder() == data / "own"
    file.unlink()
    point_engine(data, None)
    assert folder() is None
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".serve", "/etc", "a b", ""])
def test_what_is_no_name_of_a_folder_is_no_experiment(file: Path, tmp_path: Path, name: str) -> None:
    assert assigned_folder(labels(file, k8s_env="x", experiment_id=name), tmp_path)() is None
