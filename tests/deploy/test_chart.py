"""The Helm chart, rendered by helm and read as Kubernetes would."""

import base64
import importlib.util
import ipaddress
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import cellworker
from cellworker.cli.commands.probe import _TIMEOUT_S
from cellworker.cli.main import parser_for
from cellworker.settings import Settings

from .conftest import Tool

VALUES = Path(__file__).parent / "values"
SETS = sorted(path.stem for path in VALUES.glob("*.yaml"))
KUBERNETES = ("1.28", "1.31", "1.33")
OTHERS = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}
"""Kinds that Kubernetes itself does not know; they are the Prometheus operator's and KEDA's."""

NODE_ROLE = ("169.254.169.254", "fd00:ec2::254")
"""Where a node hands out its role."""

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


@pytest.fixture(scope="session")
def render(helm: Tool) -> Render:
    def make(name: str, *options: str, namespace: str = "worker-default", release: str = "worker") -> Objects:
        done = helm("template", release, "chart-infra", "-n", namespace, "-f", VALUES / f"{name}.yaml", *options)
        assert done.returncode == 0, done.stderr
        return [part for part in yaml.safe_load_all(done.stdout) if part]

    return make


def only(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [part for part in objects if part["kind"] == kind]
    return found


def named(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [part for part in objects if part["kind"] == kind and part["metadata"]["name"] == name]
    return found


def pod(objects: Objects) -> dict[str, Any]:
    return only(objects, "Deployment")["spec"]["template"]["spec"]


def container(objects: Objects, name: str) -> dict[str, Any]:
    (found,) = [part for part in pod(objects)["containers"] if part["name"] == name]
    return found


def environment(objects: Objects, name: str) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(objects, name)["env"]}


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_wrong(name: str, helm: Tool) -> None:
    done = helm("lint", "--strict", "chart-infra", "-f", VALUES / f"{name}.yaml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", SETS)
def test_kubernetes_knows_every_field(name: str, version: str, render: Render) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for part in render(name):
        if part["kind"] not in OTHERS:
            kubernetes_validate.validate(part, version, strict=True)


@pytest.mark.parametrize("name", SETS)
def test_an_upgrade_from_the_original_chart_keeps_the_selector(name: str, render: Render) -> None:
    deployment = only(render(name), "Deployment")
    sandbox = yaml.safe_load((VALUES / f"{name}.yaml").read_text())["sandboxId"]
    assert deployment["metadata"]["name"] == "worker"
    assert deployment["spec"]["selector"] == {
        "matchLabels": {"sandboxId": sandbox},
        "matchExpressions": [{"key": "experimentId", "operator": "DoesNotExist"}],
    }
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"type": "worker", "sandboxId": sandbox}


def test_the_original_charts_values_are_understood(render: Render) -> None:
    objects = render("original", namespace="worker-pr-12")
    image = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/worker:pr-12-0123abc-python"
    assert [part["image"] for part in pod(objects)["containers"]] == [image, image]
    assert [part["name"] for part in pod(objects)["containers"]] == ["worker-r", "worker"]
    assert container(objects, "worker-r")["resources"]["requests"]["memory"] == "4Gi"
    assert only(objects, "Deployment")["spec"]["replicas"] == 0
    assert environment(objects, "worker")["AWS_ACCOUNT_ID"] == "111122223333"
    assert environment(objects, "worker")["K8S_ENV"] == "staging"
    account = named(objects, "ServiceAccount", "deployment-runner")
    role = "arn:aws:iam::111122223333:role/worker-role-staging"
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == role


@pytest.mark.parametrize("name", SETS)
def test_every_variable_is_a_setting_and_every_command_exists(name: str, render: Render) -> None:
    objects = render(name)
    settings = {item.name.upper() for item in fields(Settings)}
    (actions,) = (a for a in parser_for(())._actions if hasattr(a, "choices") and isinstance(a.choices, dict))
    for part in ("worker", "worker-r"):
        assert set(environment(objects, part)) <= settings
        assert container(objects, part)["args"][0] in actions.choices
    for probe in ("startupProbe", "livenessProbe"):
        program, command = container(objects, "worker-r")[probe]["exec"]["command"]
        assert (program, command in actions.choices) == ("cellworker", True)


@pytest.mark.parametrize("name", SETS)
def test_the_engine_has_no_secret_and_no_address_to_go_to(name: str, render: Render) -> None:
    given = environment(render(name), "worker-r")
    assert all(isinstance(value, str) for value in given.values())
    assert not [key for key in given if key.startswith("AWS_") or key in ("JOURNAL_KEY", "REDIS_URL")]
    assert given["HOST"] == "127.0.0.1"
    assert given["EGRESS"] == "false"
    annotations = only(render(name), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/skip-containers"] == "worker-r"


def test_cassia_gives_the_engine_its_way_out(render: Render) -> None:
    objects = render("production", "--set", "cassia.enabled=true")
    assert environment(objects, "worker-r")["EGRESS"] == "true"
    annotations = only(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"] or {}
    assert "eks.amazonaws.com/skip-containers" not in annotations


@pytest.mark.parametrize("name", SETS)
def test_containers_may_do_nothing_beyond_computing(name: str, render: Render) -> None:
    objects = render(name)
    assert pod(objects)["securityContext"]["runAsNonRoot"] is True
    assert pod(objects)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for part in ("worker", "worker-r"):
        assert container(objects, part)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount for mount in container(objects, part)["volumeMounts"]}
        assert {"/data", "/tmp", "/etc/podinfo"} <= set(mounts)
        assert mounts["/etc/podinfo"]["readOnly"] is True
        assert {mount["name"] for mount in mounts.values()} <= {volume["name"] for volume in pod(objects)["volumes"]}


@pytest.mark.parametrize("name", SETS)
def test_both_containers_are_asked_whether_they_live_and_have_time_to_end(name: str, render: Render) -> None:
    objects = render(name)
    for part in ("worker", "worker-r"):
        for probe in ("startupProbe", "livenessProbe"):
            assert container(objects, part)[probe]["timeoutSeconds"] >= 10
    asked = {name: probe["httpGet"]["path"] for name, probe in container(objects, "worker").items() if "Probe" in name}
    assert asked == {
        "startupProbe": "/health/started",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    hangs = container(objects, "worker-r")["livenessProbe"]
    noticed_s = hangs["periodSeconds"] * hangs["failureThreshold"] + _TIMEOUT_S
    # It does not end at SIGTERM either: without a grace period of the probe's own the pod's follows, 45 seconds.
    killed_s = noticed_s + hangs.get("terminationGracePeriodSeconds", pod(objects)["terminationGracePeriodSeconds"])
    assert killed_s <= 60, "an engine that hangs is started again within a minute"
    assert (
        str(container(objects, "worker")["ports"][0]["containerPort"]) == environment(objects, "worker")["HEALTH_PORT"]
    )
    assert pod(objects)["terminationGracePeriodSeconds"] > int(environment(objects, "worker")["GRACE_S"])


def test_too_long_a_grace_is_refused(helm: Tool) -> None:
    done = helm("template", "w", "chart-infra", "-f", VALUES / "production.yaml", "--set", "graceSeconds=60")
    assert done.returncode
    assert "graceSeconds: must be less than terminationGracePeriodSeconds" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("sandboxId=not/a/label", "sandboxId"),
        ("gateway.env.log_level=DEBUG", "log_level"),
        ("replicaCount=many", "replicaCount"),
        ("gateway.environment.A=1", "environment"),
        ("networkPolicy.egressPorts[0]=0", "egressPorts"),
        ("kubernets.env=production", "kubernets"),
        ("kubernetes.evn=production", "evn"),
        ("gateway.env.LOG_LEVL=DEBUG", "LOG_LEVL"),
        ("engine.env.TASK_MEMORY=8", "TASK_MEMORY"),
        ("engine.env.JOURNAL_KEY=secret", "JOURNAL_KEY"),
        ("engine.resources.limit.memory=1Gi", "limit"),
        ("python.image.tags=1", "tags"),
        ("keda.minReplica=1", "minReplica"),
        ("dataSizeLimit=100Gb", "dataSizeLimit"),
        ("r.memoryRequest=4Gb", "memoryRequest"),
        ("networkPolicy.metadata=perhaps", "metadata"),
        ("myAccount.accountId=", "myAccount.accountId: give the twelve digits"),
        ("myAccount.accountId=1111-2222-3333", "myAccount.accountId: give the twelve digits"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: str, word: str, helm: Tool) -> None:
    done = helm("template", "w", "chart-infra", "-f", VALUES / "production.yaml", "--set", wrong)
    assert done.returncode
    assert word in done.stderr


def script(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("make_chart", root / "scripts/make_chart.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema(root: Path) -> dict[str, Any]:
    return json.loads((root / "chart-infra/values.schema.json").read_text())


def test_the_schema_knows_the_settings_of_today(root: Path) -> None:
    text = (root / "chart-infra/values.schema.json").read_text()
    assert script(root).updated(text) == text, "run 'make fmt'"


def test_the_chart_names_the_version_of_the_package(root: Path) -> None:
    text = (root / "chart-infra/Chart.yaml").read_text()
    assert script(root).with_version(text) == text, "run 'make fmt'"
    assert f'appVersion: "{cellworker.__version__}"\n' in text


def test_no_level_of_the_values_takes_what_it_does_not_know(root: Path) -> None:
    def open_levels(part: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, item in part["properties"].items():
            if "properties" in item:
                found += open_levels(item, f"{path}{name}.")
        return found if part.get("additionalProperties") is False else [*found, path]

    # The platform's own map, which it gives to each of its charts.
    assert open_levels(schema(root), "") == ["myAccount."]


@pytest.mark.parametrize("part", ["gateway", "engine"])
def test_what_the_templates_set_by_themselves_cannot_be_set_twice(part: str, root: Path, render: Render) -> None:
    owned = set(script(root).OWNED[part])
    assert not owned & set(schema(root)["properties"][part]["properties"]["env"]["properties"])
    container_name = {"gateway": "worker", "engine": "worker-r"}[part]
    fixed = set(environment(render("everything"), container_name)) - {"LOG_LEVEL", "THREADS", "METRICS", "EGRESS"}
    assert fixed <= owned


@pytest.mark.parametrize(
    ("option", "name"), [("gateway.env.METRICS=false", "worker"), ("engine.env.EGRESS=true", "worker-r")]
)
def test_what_can_be_set_otherwise_is_there_once(option: str, name: str, render: Render) -> None:
    variable, _, value = option.rpartition(".")[2].partition("=")
    listed = container(render("production", "--set", option), name)["env"]
    assert [item["value"] for item in listed if item["name"] == variable] == [value]


def test_variables_of_the_libraries_are_taken(render: Render) -> None:
    given = {"OTEL_RESOURCE_ATTRIBUTES": "a", "AWS_MAX_ATTEMPTS": "5", "HTTPS_PROXY": "http://proxy:3128"}
    objects = render(
        "production", *(part for item in given.items() for part in ("--set", "gateway.env.{}={}".format(*item)))
    )
    assert given.items() <= environment(objects, "worker").items()


def test_a_stand_in_for_the_cloud_needs_no_account(render: Render) -> None:
    local = ("--set", "myAccount.accountId=", "--set", "gateway.env.CLUSTER_ENV=development")
    assert environment(render("production", *local), "worker")["CLUSTER_ENV"] == "development"


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (["r.memoryRequest=4Gi"], "18Gi"),
        (["r.memoryRequest=44Gi"], "44Gi"),
        (["r.memoryRequest=17000M"], "18Gi"),
        (["r.memoryRequest=4Gi", "engine.env.TASK_MEMORY_GB=8.5", "engine.env.LONG_WORKERS=2"], "40Gi"),
        (["r.memoryRequest=4Gi", "engine.resources.limits.memory=9Gi"], "9Gi"),
        (["r.memoryRequest=4Gi", "engine.resources.limits.cpu=2"], "18Gi"),
    ],
)
def test_the_engine_may_use_what_its_settings_let_it_use(options: list[str], limit: str, render: Render) -> None:
    objects = render("original", *[part for option in options for part in ("--set", option)])
    assert container(objects, "worker-r")["resources"]["limits"]["memory"] == limit
    assert container(objects, "worker")["resources"]["limits"]["memory"] == "1Gi"


def test_the_gateway_finds_the_files_that_the_engine_names_as_results(render: Render) -> None:
    objects = render("production")
    places = []
    for name in ("worker-r", "worker"):
        found = container(objects, name)
        assert not [variable for variable in found["env"] if variable["name"] == "TMPDIR"]
        (mount,) = [mount for mount in found["volumeMounts"] if mount["mountPath"] == "/tmp"]
        assert not mount.get("readOnly")
        places.append(mount["name"])
    assert places[0] == places[1], "the path of a file result means the same in both containers"


def test_no_pod_takes_the_nodes_whole_disk(render: Render) -> None:
    sizes = {
        volume["name"]: volume["emptyDir"] for volume in pod(render("production"))["volumes"] if "emptyDir" in volume
    }
    limits = {name: size["sizeLimit"] for name, size in sizes.items() if size}
    assert limits == {"data": "100Gi", "scratch": "20Gi"}
    # All stores together, and room for the experiment's files beside them.
    assert Settings().store_max_gb < 100
    free = pod(render("production", "--set", "dataSizeLimit=", "--set", "scratchSizeLimit="))
    assert all(volume["emptyDir"] == {} for volume in free["volumes"] if "emptyDir" in volume)


def reachable(policy: dict[str, Any], address: str) -> bool:
    """Whether an egress rule leads to an address outside the cluster."""
    place = ipaddress.ip_address(address)
    for rule in policy["egress"]:
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            if block is None or place not in ipaddress.ip_network(block["cidr"]):
                continue
            if not any(place in ipaddress.ip_network(left_out) for left_out in block.get("except", [])):
                return True
    return False


@pytest.mark.parametrize(
    ("options", "open_"),
    [
        ([], False),
        (["serviceAccount.iamRole="], True),
        (["serviceAccount.iamRole=", "networkPolicy.metadata=false"], False),
        (["networkPolicy.metadata=true"], True),
    ],
)
def test_the_nodes_role_is_out_of_reach_unless_it_is_the_only_one(
    options: list[str], open_: bool, render: Render
) -> None:
    objects = render("production", *[part for option in options for part in ("--set", option)])
    policy = only(objects, "NetworkPolicy")["spec"]
    assert [reachable(policy, address) for address in NODE_ROLE] == [open_, open_]
    # The VPC's resolver, EKS's identity agent, anything on the Internet.
    assert all(reachable(policy, address) for address in ("169.254.169.253", "169.254.170.23", "52.1.2.3", "2600::1"))


def test_an_image_that_was_not_named_is_asked_for(helm: Tool) -> None:
    done = helm("template", "w", "chart-infra")
    assert "image.repository: name the worker's image" in done.stderr


@pytest.mark.parametrize("name", SETS)
def test_only_health_is_reachable_and_every_outgoing_connection_is_listed(name: str, render: Render) -> None:
    policy = only(render(name), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # Without the Deployment's expression, so that pods with an experiment are meant too.
    assert set(policy["podSelector"]) == {"matchLabels"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 8080, "protocol": "TCP"}]]
    assert all(rule["from"] for rule in policy["ingress"])
    # but for what the installer adds
    ours = policy["egress"][:2]
    assert [sorted(item["port"] for item in rule["ports"]) for rule in ours] == [[53, 53], [80, 443, 3000, 6379]]
    assert all(rule["to"] for rule in ours)


def test_the_api_may_label_pods_and_nothing_else(render: Render) -> None:
    objects = render("original", namespace="worker-pr-12")
    role = named(objects, "Role", "can-create-jobs")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch"]}]
    binding = named(objects, "RoleBinding", "api-can-assign-workers")
    assert binding["metadata"]["namespace"] == "worker-pr-12"
    subject = {"kind": "ServiceAccount", "name": "deployment-runner", "namespace": "api-pr-12"}
    assert binding["subjects"] == [subject]


@pytest.mark.parametrize(
    ("options", "there"),
    [
        (["kubernetes.env=staging"], True),
        (["kubernetes.env=production"], False),
        (["kubernetes.env=production", "myAccount.accountId=160782110667"], True),
        (["kubernetes.env=staging", "scaleToZero.enabled=false"], False),
        (["kubernetes.env=production", "scaleToZero.enabled=true"], True),
    ],
)
def test_idle_workers_are_scaled_down_where_the_original_does_it(
    options: list[str], there: bool, render: Render
) -> None:
    objects = render("production", *[part for option in options for part in ("--set", option)])
    jobs = [part for part in objects if part["kind"] == "CronJob"]
    assert bool(jobs) is there
    for job in jobs:
        assert (job["metadata"]["name"], job["spec"]["schedule"]) == ("worker-scale-down-job", "30 * * * *")
        template = job["spec"]["jobTemplate"]["spec"]["template"]
        # or the API would take the job's pod for a worker that waits
        assert "run" in template["metadata"]["labels"]
        spec = template["spec"]
        assert spec["containers"][0]["args"][-2:] == ["deployment", "worker"]


def test_the_datadog_agent_comes_when_it_is_asked_for(render: Render) -> None:
    assert [part["name"] for part in pod(render("original"))["containers"]] == ["worker-r", "worker"]
    objects = render("production")
    assert environment(objects, "datadog-agent")["DD_CONTAINER_INCLUDE_METRICS"] == "name:^worker$ name:^worker-r$"
    assert environment(objects, "datadog-agent")["DD_CLUSTER_NAME"] == "biomage-production"
    assert only(objects, "ClusterRoleBinding")["roleRef"]["name"] == "datadog-sidecar-rbac"
    # The key is in a secret, not in the pod.
    assert "not-a-real-key" not in json.dumps(only(objects, "Deployment"))


def test_a_journal_key_is_made_unless_one_is_given(render: Render) -> None:
    made = named(render("production"), "Secret", "worker-journal")
    assert len(base64.b64decode(made["data"]["journalKey"])) >= 32
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    given = render("everything")
    assert [part for part in given if part["kind"] == "Secret"] == []
    assert environment(given, "worker")["JOURNAL_KEY"] == {"secretKeyRef": {"name": "my-secret", "key": "journalKey"}}


def test_waiting_pods_alone_are_protected_from_disruption(render: Render) -> None:
    budget = only(render("production"), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchExpressions"] == [{"key": "experimentId", "operator": "DoesNotExist"}]


def test_prometheus_finds_the_health_port(render: Render) -> None:
    objects = render("everything")
    service = only(objects, "Service")
    monitor = only(objects, "ServiceMonitor")
    labels = service["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert {end["port"] for end in monitor["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
    template = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= template.items()


def test_alarms_and_board_come_when_they_are_asked_for(render: Render, root: Path) -> None:
    files = root / "chart-infra/files"
    objects = render("everything")
    rule = only(objects, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((files / "alarms.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    board = named(objects, "ConfigMap", "worker-board")
    assert json.loads(board["data"]["cellworker.json"]) == json.loads((files / "board.json").read_text())
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["annotations"] == {"folder": "Workers"}
    plain = render("production")
    assert [part["metadata"]["name"] for part in plain if part["kind"] in ("PrometheusRule", "ConfigMap")] == [
        "instance-config"
    ]


def test_keda_scales_in_place_of_a_fixed_number(render: Render) -> None:
    objects = render("everything")
    assert "replicas" not in only(objects, "Deployment")["spec"]
    scaled = only(objects, "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == only(objects, "Deployment")["metadata"]["name"]
    assert scaled["triggers"][0]["metadata"]["queueURL"].endswith("queue.fifo")
    assert [part for part in render("production") if part["kind"] in OTHERS] == []
