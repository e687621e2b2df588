"""The names in the platform's installations are those that everyone else uses (contract, sections 1.3 to 1.5)."""

from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.platform.names import Names, cluster_env, idle_timeout_s, work_queue_hash
from cellworker.settings import Settings

ACCOUNT = "160782110667"


def names(**more: Any) -> Names:
    return Names.of(Settings(**{"aws_account_id": ACCOUNT, "aws_default_region": "eu-west-1", **more}))


@pytest.mark.parametrize(
    ("cluster", "k8s", "expected"),
    [
        ("", "", "development"),
        ("", "production", "production"),
        ("", "staging", "staging"),
        ("", "anything else", "staging"),
        ("test", "production", "test"),
        ("PRODUCTION", "", "production"),
        ("development", "production", "development"),
    ],
)
def test_the_environment_is_the_cluster_s_own_word_or_follows_from_kubernetes(
    cluster: str, k8s: str, expected: str
) -> None:
    assert cluster_env(Settings(cluster_env=cluster, k8s_env=k8s)) == expected


def test_production_names() -> None:
    found = names(k8s_env="production")
    assert (found.environment, found.region, found.local) == ("production", "eu-west-1", False)
    assert found.results_bucket == f"worker-results-production-{ACCOUNT}"
    assert found.cell_sets_bucket == f"cell-sets-production-{ACCOUNT}"
    assert found.object_bucket == f"processed-matrix-production-{ACCOUNT}"
    assert found.queue("0f0f") == "queue-job-0f0f-production.fifo"
    assert found.api_url("pr-12") == "http://api-pr-12.api-pr-12.svc.cluster.local:3000"
    assert found.local_aws_url is None


@pytest.mark.parametrize("env", ["development", "test"])
def test_a_developer_s_machine_has_one_queue_and_stand_ins_for_all(env: str) -> None:
    found = Names.of(Settings(cluster_env=env, aws_account_id=ACCOUNT, aws_default_region="us-east-1"))
    assert (found.account, found.region, found.local) == ("000000000000", "eu-west-1", True)
    assert found.results_bucket == f"worker-results-{env}-000000000000"
    assert found.queue(None) == "development-queue.fifo"
    assert found.api_url(None) == "http://host.docker.internal:3000"
    assert found.local_aws_url == "http://host.docker.internal:4566"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"aws_account_id": ""}, "environment variable AWS_ACCOUNT_ID is not set; it is needed in staging."),
        ({"aws_account_id": "12345"}, "environment variable AWS_ACCOUNT_ID: expected twelve digits, found '12345'"),
        ({"aws_default_region": ""}, "environment variable AWS_DEFAULT_REGION is not set; it is needed in staging."),
    ],
)
def test_a_missing_setting_is_named(settings: dict[str, str], told: str) -> None:
    with pytest.raises(WorkerError) as caught:
        names(k8s_env="staging", **settings)
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_INPUT, told)


def test_a_missing_label_is_named_with_the_variable_that_stands_in_for_it() -> None:
    found = names(k8s_env="staging")
    with pytest.raises(WorkerError, match="WORK_QUEUE_HASH is not set, and the pod has no label workQueueHash"):
        found.queue("")
    with pytest.raises(WorkerError, match="SANDBOX_ID is not set, and the pod has no label sandboxId"):
        found.api_url(None)


def test_the_queue_s_hash_is_the_platform_s() -> None:
    # sha1sum of "e1-default"
    assert work_queue_hash("e1", "default") == "92f2a7d5fe185a68bb241193ebe63df5346c8c10"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 600),
        ({"k8s_env": "production"}, 2400),
        ({"k8s_env": "staging"}, 600),
        ({"cluster_env": "production"}, 600),
        ({"k8s_env": "production", "aws_account_id": "000000000001"}, 600),
        ({"k8s_env": "production", "idle_timeout_s": 30.0}, 30),
        ({"k8s_env": "production", "ignore_timeout": True}, None),
    ],
)
def test_how_long_a_pod_waits_for_work(settings: dict[str, Any], expected: float | None) -> None:
    assert idle_timeout_s(Settings(**{"aws_account_id": ACCOUNT, **settings})) == expected
