"""AWS clients with the configuration that this gateway needs."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import aiobotocore.session
from aiobotocore.config import AioConfig
from botocore.credentials import ReadOnlyCredentials

from cellworker.gateway.aws.s3_direct import DirectS3
from cellworker.gateway.platform.names import Names
from cellworker.settings import Settings
from cellworker.version import __version__

__all__ = ["Cloud", "ElastiCache"]

_CONNECT_S = 5.0
_READ_S = 30.0
_LONG_POLL_S = 20.0
_CONNECTIONS = 100
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
_DEVELOPMENT_KEYS = {"aws_access_key_id": "my-key", "aws_secret_access_key": "my-secret-key"}


class Cloud:
    """The clients, open within ``async with``.

    On a developer's machine they use the stand-in's keys; elsewhere botocore finds the credentials,
    in production the pod's role.

    Parameters
    ----------
    settings
        Region, account and address.

    Attributes
    ----------
    sqs, s3
        aiobotocore clients. They retry nothing: the callers know what may be retried and for how long.
    direct
        For the two calls of S3 that every request needs.
    elasticache
        Opened when it is first called, which happens once or never.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the setting that is missing.
    """

    sqs: Any
    s3: Any
    direct: DirectS3
    elasticache: "ElastiCache"

    def __init__(self, settings: Settings) -> None:
        self._names = Names.of(settings)
        self._endpoint = settings.aws_endpoint_url or self._names.local_aws_url
        self._session = aiobotocore.session.get_session()
        # The credential providers make clients of their own, which look for the region here.
        self._session.set_config_variable("region", self._names.region)
        self._open = AsyncExitStack()
        self.elasticache = ElastiCache(self)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.sqs = await stack.enter_async_context(self.client("sqs", read_s=_LONG_POLL_S + _READ_S))
            self.s3 = await stack.enter_async_context(self.client("s3"))
            self.s3.meta.events.register_last("before-call.s3.PutObject", _send_at_once)
            address = self.s3.meta.endpoint_url
            self.direct = await stack.enter_async_context(
                DirectS3(
                    self._session,
                    address,
                    self._names.region,
                    by_path=not address.endswith(_AWS_HOSTS),
                    keys=ReadOnlyCredentials(*_DEVELOPMENT_KEYS.values(), None) if self._names.local else None,
                )
            )
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def client(self, service: str, *, read_s: float = _READ_S) -> Any:  # noqa: ANN401 - types are made at run time
        """Return an asynchronous context manager that opens a client.

        Parameters
        ----------
        service
            As AWS calls it.
        read_s
            How long to wait for the next bytes of an answer, in seconds.
        """
        return self._session.create_client(
            service,
            region_name=self._names.region,
            endpoint_url=self._endpoint,
            config=self._config(read_s),
            **(_DEVELOPMENT_KEYS if self._names.local else {}),
        )

    def _config(self, read_s: float) -> AioConfig:
        # TLS protects the content: hashing it for the signature as well would block the event loop.
        buckets: dict[str, Any] = {"payload_signing_enabled": False}
        if self._endpoint:
            buckets["addressing_style"] = "path"  # a stand-in has no host name for each bucket
        return AioConfig(
            connect_timeout=_CONNECT_S,
            read_timeout=read_s,
            max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            disable_request_compression=True,
            s3=buckets,
            # botocore makes its own for every call, which takes a tenth of the call's time.
            user_agent=f"cellworker/{__version__}",
        )


class ElastiCache:
    """The one call that this gateway makes to the service."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def describe_replication_groups(self, **parameters: Any) -> Any:  # noqa: ANN401
        """Make the call, over a connection of its own."""
        async with self._cloud.client("elasticache") as client:
            return await client.describe_replication_groups(**parameters)


def _send_at_once(params: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
    """Leave out ``Expect: 100-continue``: results are small, and waiting for the reply costs a round trip."""
    params["headers"].pop("Expect", None)
