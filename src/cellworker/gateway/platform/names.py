"""Names of the platform's queue, buckets, Redis and API (contract, sections 1.3 to 1.5)."""

import hashlib
from dataclasses import dataclass

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import QueueHash, SandboxId
from cellworker.settings import Settings

__all__ = ["Names", "cluster_env", "idle_timeout_s", "work_queue_hash"]

_HOST = "host.docker.internal"
_NO_ACCOUNT = "000000000000"
_LOCAL_REGION = "eu-west-1"
_LONG_IDLE_ACCOUNT = "160782110667"


def cluster_env(settings: Settings) -> str:
    """Return ``production``, ``staging``, ``development`` or ``test``."""
    if settings.cluster_env:
        return settings.cluster_env.lower()
    if not settings.k8s_env:
        return "development"
    return "production" if settings.k8s_env == "production" else "staging"


def idle_timeout_s(settings: Settings) -> float | None:
    """Return the seconds without work after which the gateway ends; None where it never does."""
    if settings.ignore_timeout:
        return None
    if settings.idle_timeout_s:
        return settings.idle_timeout_s
    patient = settings.aws_account_id == _LONG_IDLE_ACCOUNT and settings.k8s_env == "production"
    return 2400.0 if patient else 600.0


def work_queue_hash(experiment_id: str, sandbox_id: str) -> str:
    """Return the value that the platform writes into the label ``workQueueHash``."""
    return hashlib.sha1(f"{experiment_id}-{sandbox_id}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Names:
    """The names in one of the platform's installations.

    Attributes
    ----------
    environment
        As `cluster_env` returns it.
    account
        The AWS account, twelve digits.
    region
        The AWS region.
    """

    environment: str
    account: str
    region: str

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """Read it from the settings.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the variable that is missing.
        """
        env = cluster_env(settings)
        if env in ("development", "test"):
            return cls(env, _NO_ACCOUNT, _LOCAL_REGION)
        account = _required("AWS_ACCOUNT_ID", settings.aws_account_id, env)
        if len(account) != len(_NO_ACCOUNT) or not (account.isascii() and account.isdigit()):
            message = f"environment variable AWS_ACCOUNT_ID: expected twelve digits, found {account!r}"
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        return cls(env, account, _required("AWS_DEFAULT_REGION", settings.aws_default_region, env))

    @property
    def local(self) -> bool:
        """Whether stand-ins on a developer's machine take the place of all services."""
        return self.environment in ("development", "test")

    @property
    def results_bucket(self) -> str:
        """Bucket of the results, by ETag."""
        return f"worker-results-{self.environment}-{self.account}"

    @property
    def cell_sets_bucket(self) -> str:
        """Bucket of the cell sets, by experiment."""
        return f"cell-sets-{self.environment}-{self.account}"

    @property
    def object_bucket(self) -> str:
        """Bucket of the experiments' files."""
        return f"processed-matrix-{self.environment}-{self.account}"

    @property
    def local_aws_url(self) -> str | None:
        """Stand-in for AWS on a developer's machine; None where AWS itself is used."""
        return f"http://{_HOST}:4566" if self.local else None

    def queue(self, queue_hash: QueueHash | None) -> str:
        """Return the queue's name.

        Parameters
        ----------
        queue_hash
            The label ``workQueueHash``; ignored on a developer's machine, where there is one queue for all.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` when it is needed and missing.
        """
        if self.local:
            return "development-queue.fifo"
        label = _required("WORK_QUEUE_HASH", queue_hash, self.environment, "label workQueueHash")
        return f"queue-job-{label}-{self.environment}.fifo"

    def api_url(self, sandbox_id: SandboxId | None) -> str:
        """Return the address of the platform's API.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` when the sandbox is needed and missing.
        """
        if self.local:
            return f"http://{_HOST}:3000"
        namespace = f"api-{_required('SANDBOX_ID', sandbox_id, self.environment, 'label sandboxId')}"
        return f"http://{namespace}.{namespace}.svc.cluster.local:3000"


def _required(variable: str, value: str | None, env: str, label: str | None = None) -> str:
    if value:
        return value
    elsewhere = f", and the pod has no {label}" if label else ""
    message = f"environment variable {variable} is not set{elsewhere}; it is needed in {env}."
    raise WorkerError(ErrorCode.INVALID_INPUT, message)
