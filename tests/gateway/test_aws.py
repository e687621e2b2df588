"""Clients are opened with the right keys, for the right place, and let no secret into the logs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiobotocore.session
import pytest

from cellworker.errors import WorkerError
from cellworker.gateway.aws.clients import Cloud
from cellworker.logs import configure
from cellworker.settings import Settings

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from cloud.servers import Server, moto_server  # noqa: E402

STAGING = {"k8s_env": "staging", "aws_account_id": "123456789012", "aws_default_region": "eu-central-1"}


@pytest.fixture(scope="module")
def moto() -> Iterator[Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_keys_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def credentials(client: Any) -> tuple[str, str]:
    found = client._request_signer._credentials
    frozen = await found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key


async def test_a_developer_s_machine_has_the_stand_in_s_keys_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-developer")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-developer")
    async with Cloud(Settings()) as cloud:
        for client in (cloud.sqs, cloud.s3):
            assert client.meta.endpoint_url == "http://host.docker.internal:4566"
            assert client.meta.region_name == "eu-west-1"
            assert await credentials(client) == ("my-key", "my-secret-key")


async def test_elsewhere_the_addresses_are_those_of_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-pod")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-pod")
    async with Cloud(Settings(**STAGING)) as cloud:
        assert cloud.sqs.meta.endpoint_url == "https://sqs.eu-central-1.amazonaws.com"
        assert cloud.s3.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
        assert await credentials(cloud.s3) == ("of-the-pod", "secret-of-the-pod")


async def test_the_pod_s_role_is_taken_on_by_its_token(
    moto: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("DEBUG")
    token = tmp_path / "token"
    token.write_text("token-of-the-service-account")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker-role-staging")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    async with Cloud(Settings(**STAGING, aws_endpoint_url=moto.url)) as cloud:
        await cloud.s3.create_bucket(
            Bucket="worker-results-staging-123456789012",
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
        key, secret = await credentials(cloud.s3)
    assert key.startswith("ASIA")
    logs = capsys.readouterr().err
    for hidden in (key, secret, "token-of-the-service-account", "Signature="):
        assert hidden not in logs


async def test_elasticache_is_asked_over_a_connection_of_its_own(moto: Server) -> None:
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    session = aiobotocore.session.get_session()
    place = {"region_name": "eu-west-1", "endpoint_url": moto.url}
    async with session.create_client("elasticache", **place, **keys) as client:
        await client.create_replication_group(
            ReplicationGroupId="biomage-redis-development", ReplicationGroupDescription="any"
        )
    async with Cloud(Settings(aws_endpoint_url=moto.url)) as cloud:
        answer = await cloud.elasticache.describe_replication_groups(ReplicationGroupId="biomage-redis-development")
    assert answer["ReplicationGroups"][0]["ReplicationGroupId"] == "biomage-redis-development"


async def test_a_missing_setting_is_named_before_anything_is_opened() -> None:
    with pytest.raises(WorkerError, match="AWS_ACCOUNT_ID"):
        Cloud(Settings(k8s_env="production"))


async def test_calls_are_tried_once_because_the_adapters_know_better_when_to_repeat_them() -> None:
    async with Cloud(Settings(aws_endpoint_url="http://127.0.0.1:9")) as cloud:
        attempts: list[Any] = []
        cloud.s3.meta.events.register("before-send.s3", lambda **_: attempts.append(1))
        with pytest.raises(Exception, match="Could not connect"):
            await cloud.s3.list_buckets()
    assert len(attempts) == 1
