"""What the workflows promise: no rights for foreign code, names that deployments understand, a release that fits."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from .conftest import Tool


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workflow(root: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key "on" as a truth.
    text = (root / ".github/workflows/ci.yaml").read_text()
    return yaml.safe_load(re.sub(r"^on:", "'on':", text, flags=re.MULTILINE))


def test_zizmor_finds_no_hole(zizmor: Tool) -> None:
    done = zizmor("--offline", "--no-progress", ".github/workflows")
    assert done.returncode == 0, done.stdout


def test_code_of_forks_never_runs_with_our_rights(root: Path) -> None:
    found = workflow(root)
    assert "pull_request_target" not in found["on"]
    assert "workflow_run" not in found["on"]
    assert found["permissions"] == {}
    for name in ("publish", "deploy"):
        assert found["jobs"][name]["if"] == "github.event_name != 'pull_request'"
    for step in found["jobs"]["image"]["steps"]:
        if "aws" in str(step.get("uses", "")) or step.get("name") == "Push":
            assert step["if"] == "github.event_name != 'pull_request'"


def test_only_what_passed_the_tests_is_published(root: Path) -> None:
    jobs = workflow(root)["jobs"]
    assert {"test", "image"} <= set(jobs["publish"]["needs"])
    assert "publish" in jobs["deploy"]["needs"]
    platforms = {entry["platform"] for entry in jobs["image"]["strategy"]["matrix"]["include"]}
    assert platforms == {"linux/amd64", "linux/arm64"}


def test_every_action_is_pinned_to_a_commit(root: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", (root / ".github/workflows/ci.yaml").read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.search(r"# v\d", comment), action


NAMES = {
    ("push", "refs/heads/main"): ("refs-heads-main-0123abc-1700000000", "", "develop"),
    ("workflow_dispatch", "refs/heads/fix/maps"): ("refs-heads-fix-maps-0123abc-1700000000", "", "staging"),
    ("release", "refs/tags/1.2.3"): ("refs-tags-1.2.3", "1.2.3", "production"),
    ("release", "refs/tags/v1.3.0-rc.1"): ("refs-tags-v1.3.0-rc.1", "1.3.0-rc.1", "production"),
}


@pytest.mark.parametrize(("event", "ref"), NAMES)
def test_images_are_named_as_deployments_expect(event: str, ref: str, root: Path) -> None:
    made = load(root / "scripts/release_names.py").names(
        {"GITHUB_REF": ref, "GITHUB_SHA": "0123abc", "GITHUB_EVENT_NAME": event}, 1.7e9
    )
    assert (made["tag"], made["version"], made["environment"]) == NAMES[event, ref]
    assert len(made["tag"]) <= 128


def test_a_release_that_is_no_version_is_refused(root: Path) -> None:
    given = {"GITHUB_REF": "refs/tags/latest", "GITHUB_SHA": "0", "GITHUB_EVENT_NAME": "release"}
    with pytest.raises(ValueError, match=r"tagged 1\.2\.3"):
        load(root / "scripts/release_names.py").names(given, 0)


VARIABLES = {
    "REGISTRY": "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
    "REPOSITORY": "worker",
    "ACCOUNT_ID": "111122223333",
    "SOURCE": "https://github.com/someone/worker",
    "COMMIT": "0123abc",
}


@pytest.mark.parametrize(
    ("environment", "tag", "replicas", "memory", "kind"),
    [
        ("production", "refs-tags-1.2.3", 1, "44Gi", "semver"),
        ("develop", "refs-heads-main-0123abc-1700000000", 0, "20Gi", "numerical"),
        ("staging", "refs-heads-x-0123abc-1700000000", 0, "4Gi", "numerical"),
    ],
)
def test_the_deployment_is_one_that_the_chart_understands(
    environment: str, tag: str, replicas: int, memory: str, kind: str, root: Path, helm: Tool, tmp_path: Path
) -> None:
    text = load(root / ".github/deploy/fill.py").fill({**VARIABLES, "ENVIRONMENT": environment, "TAG": tag})
    objects = {part["kind"]: part for part in yaml.safe_load_all(text)}
    assert set(objects) == {
        "Namespace", "GitRepository", "ImageRepository", "ImagePolicy", "ImageUpdateAutomation", "HelmRelease",
    }  # fmt: skip
    policy = objects["ImagePolicy"]["spec"]
    assert list(policy["policy"]) == [kind]
    # What Flux takes for the version is in the very tag that is deployed first.
    pattern = policy["filterTags"]["pattern"]
    assert re.search(pattern, tag)
    assert '# {"$imagepolicy": "worker-default:worker:tag"}' in text
    values = objects["HelmRelease"]["spec"]["values"]
    assert (values["replicaCount"], values["r"]["memoryRequest"]) == (replicas, memory)
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "worker", "chart-infra", "-f", file)
    assert done.returncode == 0, done.stderr
    assert f"{VARIABLES['REGISTRY']}/worker:{tag}" in done.stdout


def test_an_image_that_failed_its_tests_is_never_deployed(root: Path) -> None:
    for environment in ("production", "develop", "staging"):
        fill = load(root / ".github/deploy/fill.py").fill
        text = fill({**VARIABLES, "ENVIRONMENT": environment, "TAG": "x"})
        (policy,) = [part for part in yaml.safe_load_all(text) if part["kind"] == "ImagePolicy"]
        for tag in ("refs-heads-main-0123abc-1700000000-amd64-ci", "refs-tags-1.2.3-arm64-ci"):
            version = re.search(policy["spec"]["filterTags"]["pattern"], tag)
            # A suffix makes a semantic version a pre-release, which a range without one never takes.
            assert version is None or "-" in version["version"]
