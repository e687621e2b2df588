"""What the workflows promise: no rights for foreign code, names that deployments understand, a release that fits."""

import importlib.util
import os
import re
import shutil
import subprocess
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


SHA = "0123abc"
NAMES = {
    ("push", "refs/heads/main", ""): ("push", "refs-heads-main", "refs-heads-main-0123abc-1700000000", "", "staging"),
    ("workflow_dispatch", "refs/heads/fix/maps", ""): (
        "pull_request", "refs-heads-fix-maps", "refs-heads-fix-maps-0123abc-1700000000", "", "staging",
    ),
    ("workflow_dispatch", "refs/heads/fix/maps", "384"): (
        "pull_request", "refs-pull-384-merge", "refs-pull-384-merge-0123abc-1700000000", "", "staging",
    ),
    ("release", "refs/tags/1.2.3", ""): ("release", "refs-tags-1.2.3", "refs-tags-1.2.3", "1.2.3", "production"),
    ("release", "refs/tags/v1.2.3", ""): ("release", "refs-tags-1.2.3", "refs-tags-1.2.3", "1.2.3", "production"),
}  # fmt: skip


def names(root: Path, event: str, ref: str, request: str = "", sha: str = SHA) -> dict[str, str]:
    given = {"GITHUB_REF": ref, "GITHUB_SHA": sha, "GITHUB_EVENT_NAME": event, "PULL_REQUEST": request}
    return load(root / "scripts/release_names.py").names(given, 1.7e9)


@pytest.mark.parametrize(("event", "ref", "request_number"), NAMES)
def test_images_are_named_as_deployments_expect(event: str, ref: str, request_number: str, root: Path) -> None:
    made = names(root, event, ref, request_number)
    assert tuple(made.values()) == NAMES[event, ref, request_number]


def test_every_ref_gives_a_tag_that_a_registry_takes_and_no_other_has(root: Path) -> None:
    long = "refs/heads/" + "x" * 200
    tags = [names(root, "push", ref, sha="a" * 40)["tag"] for ref in (long, f"{long}y", "refs/heads/a b/ü")]
    assert len(set(tags)) == 3
    for tag in tags:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", f"{tag}-python-amd64-ci")


@pytest.mark.parametrize("ref", ["refs/tags/latest", "refs/tags/1.2", "refs/tags/v1.3.0-rc.1", "refs/heads/1.2.3"])
def test_a_release_that_no_deployment_would_take_is_refused(ref: str, root: Path) -> None:
    with pytest.raises(ValueError, match=r"tagged 1\.2\.3"):
        names(root, "release", ref)


@pytest.mark.parametrize("number", ["x", "0", "-1", "1\n2", "$(id)"])
def test_a_pull_request_is_a_number(number: str, root: Path) -> None:
    with pytest.raises(ValueError, match="has a number"):
        names(root, "workflow_dispatch", "refs/heads/x", number)


VARIABLES = {
    "REGISTRY": "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
    "REPOSITORY": "worker",
    "SOURCE": "https://github.com/someone/worker",
    "COMMIT": "0123abc",
    "GH_TOKEN": "ghs_hidden_token_of_the_workflow",
}
CANDIDATES = "staging-candidates/worker"
ACCOUNT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: account-config}
data:
  account-config.yaml: |
    myAccount: {accountId: "111122223333", datadogEnabled: "false"}
"""


class Releases:
    """A releases repository with the platform's layout, as a bare repository on disk."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.root = root
        self.bare, self.work = folder / "releases.git", folder / "work"
        self._git("init", "--quiet", "--bare", "--initial-branch=master", str(self.bare), at=folder)
        self._git("clone", "--quiet", str(self.bare), str(self.work), at=folder)
        self.change({
            "deployments/HMS-staging/sync.yaml": "path: ./staging\n",
            "deployments/HMS-production/sync.yaml": "path: ./production\n",
            "staging/api.yaml": "the API's\n",
            "staging/worker.yaml": "the original worker's\n",
            f"{CANDIDATES}/refs-heads-master.yaml": "the original worker's\n",
            "staging-candidates/api/refs-heads-master.yaml": "the API's\n",
            "production/worker.yaml": "the original worker's\n",
            "production/ui.yaml": "the UI's\n",
        })  # fmt: skip

    def _git(self, *words: str, at: Path | None = None) -> str:
        identity = ["-c", "user.name=flux", "-c", "user.email=flux@example.org"]
        command = ["git", *identity, *words]
        done = subprocess.run(command, cwd=at or self.work, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def change(self, files: dict[str, str]) -> None:
        """Push something, as others do."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "others")
        self._git("push", "--quiet", "origin", "HEAD:master")

    def step(self, made: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
        """Run the workflow's step for a run with these names, with what the workflow gives it."""
        (step,) = [s for s in workflow(self.root)["jobs"]["deploy"]["steps"] if "run" in s]
        values = {**VARIABLES, "RELEASES": self.bare.as_uri(), "BRANCH": "fix/maps", "SANDBOX_ID": ""}
        values |= {"EVENT": made["event"], "LABEL": made["label"], "TAG": made["tag"]} | more
        assert set(step["env"]) == set(values)
        environment = {**values, "PATH": os.environ["PATH"], "HOME": str(self.bare.parent)}
        return subprocess.run(
            ["bash", "-c", step["run"]], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def deploy(self, made: dict[str, str], **more: str) -> dict[str, str]:
        """Run the step; return the files that it changed."""
        before = self._git("rev-parse", "HEAD").strip()
        done = self.step(made, **more)
        assert done.returncode == 0, done.stderr
        assert VARIABLES["GH_TOKEN"] not in done.stdout + done.stderr
        self._git("pull", "--quiet", "--ff-only", "origin", "master")
        names = self._git("diff", "--name-only", before, "HEAD").split()
        return {name: (self.work / name).read_text() for name in names}


@pytest.fixture
def releases(tmp_path: Path, root: Path) -> Releases:
    return Releases(tmp_path, root)


def objects_of(text: str) -> dict[str, dict[str, Any]]:
    return {f"{part['kind']} {part['metadata']['name']}": part for part in yaml.safe_load_all(text)}


def check_objects(text: str, sandbox: str, environment: str) -> dict[str, dict[str, Any]]:
    """Check what all deployments have in common with the platform's; return the objects."""
    objects = objects_of(text)
    namespace = f"worker-{sandbox}"
    assert set(objects) == {
        f"Namespace {namespace}", "GitRepository worker-chart", "ImageRepository worker", "ImagePolicy worker-r",
        "ImagePolicy worker-python", "ImageUpdateAutomation worker-image-update", "HelmRelease worker",
    }  # fmt: skip
    automation = objects["ImageUpdateAutomation worker-image-update"]["spec"]
    assert automation["sourceRef"] == {"kind": "GitRepository", "name": "flux-system", "namespace": "flux-system"}
    assert automation["update"] == {"strategy": "Setters", "path": f"./{environment}"}
    release = objects["HelmRelease worker"]["spec"]
    assert release["valuesFrom"] == [
        {"kind": "ConfigMap", "name": "account-config", "valuesKey": "account-config.yaml", "optional": False}
    ]
    assert "myAccount" not in release["values"]
    assert release["chart"]["spec"]["sourceRef"]["name"] == "worker-chart"
    assert (release["values"]["sandboxId"], release["values"]["kubernetes"]["env"]) == (sandbox, environment)
    assert release["values"]["serviceAccount"]["iamRole"] == f"worker-role-{environment}"
    for half in ("r", "python"):
        assert f'-{half} # {{"$imagepolicy": "{namespace}:worker-{half}:tag"}}' in text
        policy = objects[f"ImagePolicy worker-{half}"]["spec"]
        tag = release["values"][half]["image"]["tag"]
        # What Flux takes for the newest is found in the very tag that is deployed first.
        found = re.search(policy["filterTags"]["pattern"], tag)
        assert found
        assert policy["filterTags"]["extract"].removeprefix("$") in found.groupdict()
    return objects


def check_chart(objects: dict[str, dict[str, Any]], tag: str, helm: Tool, tmp_path: Path) -> None:
    """Check that the chart takes the values, with those of the account."""
    account, values = tmp_path / "account.yaml", tmp_path / "values.yaml"
    account.write_text(yaml.safe_load(ACCOUNT)["data"]["account-config.yaml"])
    values.write_text(yaml.safe_dump(objects["HelmRelease worker"]["spec"]["values"]))
    done = helm("template", "worker", "chart-infra", "-f", account, "-f", values)
    assert done.returncode == 0, done.stderr
    assert f"{VARIABLES['REGISTRY']}/worker:{tag}-python" in done.stdout


def test_a_push_deploys_the_default_sandbox_and_offers_a_template(
    releases: Releases, root: Path, helm: Tool, tmp_path: Path
) -> None:
    made = names(root, "push", "refs/heads/main")
    files = releases.deploy(made, BRANCH="main")
    assert set(files) == {"staging/worker.yaml", f"{CANDIDATES}/refs-heads-main.yaml"}
    objects = check_objects(files["staging/worker.yaml"], "default", "staging")
    values = objects["HelmRelease worker"]["spec"]["values"]
    assert (values["replicaCount"], values["r"]["memoryRequest"]) == (0, "20Gi")
    assert objects["GitRepository worker-chart"]["spec"]["ref"] == {"branch": "main"}
    check_chart(objects, made["tag"], helm, tmp_path)
    candidate = check_objects(files[f"{CANDIDATES}/refs-heads-main.yaml"], "STAGING_SANDBOX_ID", "staging")
    assert candidate["HelmRelease worker"]["spec"]["values"]["r"]["memoryRequest"] == "4Gi"


def test_a_pull_request_gets_a_template_for_sandboxes_under_its_number(
    releases: Releases, root: Path, helm: Tool, tmp_path: Path
) -> None:
    made = names(root, "workflow_dispatch", "refs/heads/fix/maps", "384")
    files = releases.deploy(made)
    assert set(files) == {f"{CANDIDATES}/refs-pull-384-merge.yaml"}
    (text,) = files.values()
    objects = check_objects(text, "STAGING_SANDBOX_ID", "staging")
    assert objects["GitRepository worker-chart"]["spec"]["ref"] == {"branch": "fix/maps"}
    pattern = objects["ImagePolicy worker-python"]["spec"]["filterTags"]["pattern"]
    assert pattern == "^refs-pull-384-merge-[a-f0-9]+-(?P<timestamp>[0-9]+)-python$"
    assert not re.search(pattern, "refs-pull-38-merge-0123abc-1700000000-python")
    # What the platform's staging tool makes of it.
    sandbox = text.replace("STAGING_SANDBOX_ID", "alex-worker384")
    check_chart(check_objects(sandbox, "alex-worker384", "staging"), made["tag"], helm, tmp_path)
    assert "alex" not in text


@pytest.mark.parametrize("branch", ["on", "1.0", "123", "@next", "!fix", "it's", "{maps}", "null", "50%"])
def test_the_name_of_a_branch_stays_text(branch: str, releases: Releases, root: Path) -> None:
    made = names(root, "workflow_dispatch", f"refs/heads/{branch}", "384")
    (text,) = releases.deploy(made, BRANCH=branch).values()
    objects = check_objects(text, "STAGING_SANDBOX_ID", "staging")
    assert objects["GitRepository worker-chart"]["spec"]["ref"] == {"branch": branch}


def test_a_sandbox_that_has_an_id_already_gets_it(releases: Releases, root: Path) -> None:
    made = names(root, "workflow_dispatch", "refs/heads/fix/maps", "384")
    (text,) = releases.deploy(made, SANDBOX_ID="alex-worker384").values()
    check_objects(text, "alex-worker384", "staging")
    for bad in ("Alex", "-a", "a" * 27, "a b", "../x"):
        done = releases.step(made, SANDBOX_ID=bad)
        assert done.returncode != 0
        assert "is no sandbox's id" in done.stderr


def test_a_release_is_pushed_to_production(releases: Releases, root: Path, helm: Tool, tmp_path: Path) -> None:
    made = names(root, "release", "refs/tags/v1.2.3")
    files = releases.deploy(made, BRANCH="v1.2.3")
    assert set(files) == {"production/worker.yaml"}
    objects = check_objects(files["production/worker.yaml"], "default", "production")
    values = objects["HelmRelease worker"]["spec"]["values"]
    assert (values["replicaCount"], values["r"]["memoryRequest"]) == (1, "44Gi")
    assert objects["GitRepository worker-chart"]["spec"]["ref"] == {"commit": VARIABLES["COMMIT"]}
    pattern = objects["ImagePolicy worker-python"]["spec"]["filterTags"]["pattern"]
    assert pattern == r"^refs-tags-(?P<version>[0-9]+\.[0-9]+\.[0-9]+)-python$"
    check_chart(objects, "refs-tags-1.2.3", helm, tmp_path)


def test_the_same_again_changes_nothing_and_others_work_stays(releases: Releases, root: Path) -> None:
    made = names(root, "release", "refs/tags/1.2.3")
    releases.deploy(made)
    releases.change({"production/ui.yaml": "a newer UI's\n"})
    assert releases.deploy(made) == {}
    assert (releases.work / "production/ui.yaml").read_text() == "a newer UI's\n"


def test_a_push_that_comes_too_late_is_made_again(releases: Releases, root: Path, tmp_path: Path) -> None:
    # The first push finds that Flux was faster, as a hook of the server's tells it.
    hook = releases.bare / "hooks" / "pre-receive"
    hook.write_text(f'#!/bin/sh\n[ -e "{tmp_path}/once" ] && exit 0\ntouch "{tmp_path}/once"\nexit 1\n')
    hook.chmod(0o755)
    files = releases.deploy(names(root, "push", "refs/heads/main"))
    assert len(files) == 2
    hook.write_text("#!/bin/sh\nexit 1\n")
    done = releases.step(names(root, "release", "refs/tags/1.2.3"))
    assert done.returncode == 1
    assert done.stderr.count("Somebody else pushed first") == 5


def test_another_repository_is_distinguished_from_the_platforms(releases: Releases, root: Path) -> None:
    shutil.rmtree(releases.work / "production")
    releases.change({})
    done = releases.step(names(root, "release", "refs/tags/1.2.3"))
    assert done.returncode != 0
    assert "no folder production" in done.stderr


@pytest.mark.parametrize(("event", "ref"), [("push", "refs/heads/main"), ("release", "refs/tags/1.2.3")])
def test_an_image_that_failed_its_tests_or_is_of_another_ref_is_never_deployed(
    event: str, ref: str, root: Path
) -> None:
    made = names(root, event, ref)
    variables = {**VARIABLES, "BRANCH": "main", "EVENT": made["event"], "LABEL": made["label"], "TAG": made["tag"]}
    for _, text in load(root / ".github/deploy/fill.py").files(variables):
        for name, policy in objects_of(text).items():
            if not name.startswith("ImagePolicy"):
                continue
            pattern = policy["spec"]["filterTags"]["pattern"]
            other = "refs-heads-main2-0123abc-1700000000-python"
            for tag in (f"{made['tag']}-amd64-ci", f"{made['tag']}-python-ci", made["tag"], other):
                assert not re.search(pattern, tag), tag


def test_the_image_gets_the_names_under_which_deployments_look_for_it(root: Path) -> None:
    (step,) = [s for s in workflow(root)["jobs"]["publish"]["steps"] if s.get("name") == "Image"]
    for name in ('--tag "$name-python"', '--tag "$name-r"'):
        assert name in step["run"]
