"""Every environment variable that cellworker reads: typed, documented, in one place."""

import logging
import math
import os
import re
from collections.abc import Container, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["Settings"]

_logger = logging.getLogger(__name__)

_MACHINE_TYPE = re.compile(
    r"(x86_64|i[3-6]86|aarch64|arm\w*|powerpc\w*|ppc\w*|riscv\w*|s390x)-\w+-(linux|darwin|mingw|freebsd|gnu)[\w.-]*"
)
"""The GNU name of a machine, such as ``x86_64-conda-linux-gnu``, which compilers call HOST."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_CHOICES: dict[str, Container[object]] = {
    "PORT": range(65536),
    "LOG_LEVEL": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "SHORT_WORKERS": range(1, 1025),
    "LONG_WORKERS": range(1, 1025),
    "THREADS": range(1, 1025),
    "CLUSTER_ENV": ("", "PRODUCTION", "STAGING", "DEVELOPMENT", "TEST"),
    "REDIS_CERTIFICATES": ("VERIFY", "DO NOT VERIFY"),
    "VISIBILITY_S": range(1, 43201),
    "MAX_ATTEMPTS": range(1, 1001),
    "SHORT_IN_FLIGHT": range(1, 1025),
    "LONG_IN_FLIGHT": range(1, 1025),
    "HEALTH_PORT": range(65536),
}
_CHOICE_WORDS = {
    "PORT": "a port from 0 to 65535",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "SHORT_WORKERS": "at least 1",
    "LONG_WORKERS": "at least 1",
    "THREADS": "at least 1",
    "CLUSTER_ENV": "production, staging, development or test",
    "REDIS_CERTIFICATES": "'verify' or 'do not verify'",
    "VISIBILITY_S": "1 to 43200 seconds",
    "MAX_ATTEMPTS": "at least 1",
    "SHORT_IN_FLIGHT": "1 to 1024",
    "LONG_IN_FLIGHT": "1 to 1024",
    "HEALTH_PORT": "a port from 0 to 65535",
}


def _setting(default: Any, help_text: str, *, secret: bool = False) -> Any:  # noqa: ANN401
    metadata = {"help": help_text, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _default_store() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache) / "cellworker" if cache else Path.home() / ".cache" / "cellworker"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. The environment variable of each is its name in upper case (``PORT`` for `port`)."""

    port: int = _setting(4000, "port that `cellworker run` and `cellworker engine` listen on")
    host: str = _setting(
        "127.0.0.1",
        "address to listen on; any but loopback opens `cellworker run` to a network, where clients need a token; the "
        "engine has no token: keep it on loopback",
    )
    allowed_hosts: str = _setting(
        "",
        "host names, separated by commas, that `cellworker run` answers to, beside localhost and numeric addresses",
    )
    access_token: str = _setting(
        "",
        "token that clients of `cellworker run` send, at least 16 characters; empty makes one at each start where "
        "`HOST` is not loopback, and needs none where it is",
        secret=True,
    )
    data_dir: Path = _setting(Path("data"), "one folder per experiment, and local results")  # noqa: RUF009
    experiment_id: str = _setting("", "experiment to serve; empty serves the bundled sample (local run)")
    store_dir: Path = _setting(_default_store, "folder of the memory-mapped stores made from experiments")  # noqa: RUF009
    store_max_gb: float = _setting(
        50.0, "the least recently used stores are removed when all together exceed this many gigabytes"
    )
    results_max_gb: float = _setting(
        10.0,
        "the least recently used results of the local run are removed when all together exceed this many gigabytes",
    )
    load_memory_gb: float = _setting(4.0, "memory that the process reading an experiment file may use, in gigabytes")
    load_buffer_mb: float = _setting(
        64.0,
        "memory for the buffers that sort an experiment while it is opened, for all threads together, in megabytes; "
        "other memory of opening grows with the number of cells only",
    )
    load_timeout_s: float = _setting(1800.0, "time that reading an experiment file may take, in seconds")
    load_max_gb: float = _setting(512.0, "largest experiment file, after decompression, in gigabytes")
    load_max_ratio: float = _setting(
        250.0,
        "bytes that reading an experiment file may write to the disk for each byte of the file; 64 MB are always free",
    )
    counts_matrix: str = _setting(
        "",
        "the file's matrix of raw counts, such as `layers/raw` or `RNA/counts`, or `none`; empty: the values decide",
    )
    data_matrix: str = _setting(
        "", "the file's matrix of log-normalised values, served as it is; empty: the values decide"
    )
    sample_column: str = _setting("", "column of cell metadata that names each cell's sample; empty: found by its name")
    object_name: str = _setting(
        "", "object to serve from a file that holds several, such as a workspace (.rda); empty: the only one"
    )
    drop_genes: bool = _setting(default=False, help_text="leave out genes with missing or infinite values")
    make_missing: bool = _setting(
        default=True,
        help_text="make principal components, clusters, a UMAP and doublet scores where the file has none",
    )
    file_part: str = _setting(
        "", "part of the file to open: a modality (MuData), a genome or kind of features (10x); empty: gene expression"
    )
    orientation: str = _setting(
        "", "`cells-by-genes` or `genes-by-cells`, for a table in a text file; empty: its names decide"
    )
    task_memory_gb: float = _setting(4.0, "memory that one request may use beside the mapped data, in gigabytes")
    short_timeout_s: float = _setting(180.0, "time that a request of the short lane may compute, in seconds")
    long_timeout_s: float = _setting(3600.0, "time that a request of the long lane may compute, in seconds")
    short_workers: int = _setting(2, "processes for short requests")
    long_workers: int = _setting(1, "processes for long requests, so that they never hold up the short ones")
    threads: int = _setting(lambda: max(1, min(os.cpu_count() or 1, 8)), "threads of one request's kernels")
    reload_poll_s: float = _setting(
        10.0, "how often the engine looks whether the experiment's file changed, in seconds; 0 never"
    )
    like_original: bool = _setting(
        default=False, help_text="reproduce the original's sampling and errors, for comparisons"
    )
    sctype_table: str = _setting(
        "",
        "table of marker genes for ScType: a path or an address, with `#sha256=` and its checksum at the end unless it "
        "is the published one; empty: ScTypeDB_full.xlsx in `DATA_DIR`, else the image's, else fetched once",
    )
    debug_step: str = _setting(
        "", "name or engine path of a task, or `all`: its requests are saved under `DATA_DIR/debug`, without secrets"
    )
    egress: bool = _setting(
        default=True,
        help_text="whether the engine may open network connections, which a language model and a table of marker genes "
        "at an address need; with false Linux refuses them",
    )
    cassia_url: str = _setting(
        "",
        "address of CASSIA's language model, any with OpenAI's protocol, such as `https://host/v1`; "
        "empty: Amazon Bedrock's",
    )
    cassia_model: str = _setting("qwen.qwen3-next-80b-a3b", "name of the language model at `CASSIA_URL`")
    cassia_key: str = _setting(
        "",
        "key of the language model; empty: no key, and for Amazon Bedrock a token from the worker's IAM credentials",
        secret=True,
    )
    cassia_timeout_s: float = _setting(1800.0, "time that one annotation may wait for the language model, in seconds")
    csv_guard: bool = _setting(
        default=True,
        help_text="whether commands write a `'` before text in CSV and TSV that a spreadsheet would run as a formula",
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    cluster_env: str = _setting("", "production, staging, development or test; empty: `K8S_ENV` decides")
    k8s_env: str = _setting(
        "",
        "`production` means production, any other word staging, empty development; used where `CLUSTER_ENV` is empty",
    )
    aws_account_id: str = _setting("", "account whose buckets are used; required in production and staging")
    aws_default_region: str = _setting("", "region of queue, buckets and Redis; required in production and staging")
    aws_region: str = _setting("", "region of Amazon Bedrock; empty: `AWS_DEFAULT_REGION`, else us-east-1")
    aws_endpoint_url: str = _setting(
        "", "address of a stand-in for AWS, such as localstack; empty in development: http://host.docker.internal:4566"
    )
    hostname: str = _setting("", "name of the pod, which marks its journal; empty: the system's host name")
    sandbox_id: str = _setting("", "sandbox of a pod without the label `sandboxId`")
    work_queue_hash: str = _setting("", "hash in the queue's name, for a pod without the label `workQueueHash`")
    labels_file: Path = _setting(Path("/etc/podinfo/labels"), "the pod's labels, as Kubernetes writes them")  # noqa: RUF009
    redis_url: str = _setting(
        "", "redis://host:port or rediss://host:port; empty: ElastiCache is asked for the platform's", secret=True
    )
    redis_certificates: str = _setting(
        "verify", "`verify`, or `do not verify` to accept any certificate of a rediss:// server"
    )
    api_url: str = _setting("", "address of the platform's API; empty: the sandbox's")
    engine_url: str = _setting("http://localhost:4000", "where the gateway finds the engine")
    engine_silent_s: float = _setting(40.0, "an engine that gives no answer for this many seconds counts as hanging")
    ignore_timeout: bool = _setting(default=False, help_text="never end for lack of work")
    idle_timeout_s: float = _setting(
        0.0, "end after this many seconds without work; 0 is the platform's rule, 600 or 2400"
    )
    grace_s: float = _setting(
        25.0, "time to finish requests and hand back the rest after SIGTERM, in seconds; less than the pod's"
    )
    visibility_s: int = _setting(30, "time until the message of a process that died is redelivered, in seconds")
    journal_after_s: float = _setting(
        0.25, "time after which a request without an answer moves from the queue to the journal, in seconds"
    )
    journal_key: str = _setting(
        "", "secret that seals users' tokens in the journal; empty: each pod makes one under `DATA_DIR`", secret=True
    )
    store_patience_s: float = _setting(60.0, "retry budget for storing one result, in seconds")
    max_attempts: int = _setting(
        3, "attempts at a request that ends its worker each time; then it is answered with an error"
    )
    short_in_flight: int = _setting(32, "requests of the short lane that the gateway takes at a time")
    long_in_flight: int = _setting(64, "requests of the long lane that the gateway takes at a time; most of them wait")
    rescue: bool = _setting(default=True, help_text="idle pods finish requests of pods that died")
    health_port: int = _setting(0, "port of `/health` and `/metrics`; 0 is off")
    metrics: bool = _setting(default=False, help_text="serve Prometheus metrics on the health port")
    traces_url: str = _setting("", "OTLP/HTTP address that traces are sent to; empty is off")
    shutdown_file: str = _setting(
        "", "file that the gateway makes when it ends for lack of work; the engine ends when it appears"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":  # noqa: ANN401
        """Read the settings; `overrides` (None is ignored) win over the environment.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming an invalid variable.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for item in fields(cls):
            if overrides.get(item.name) is not None:
                values[item.name] = overrides[item.name]
                continue
            text = environment.get(item.name.upper())
            if item.name == "host" and text and _MACHINE_TYPE.fullmatch(text.strip()):
                _logger.warning(
                    "HOST=%s is the machine type that conda's compilers export, no address: ignored.", text.strip()
                )
            elif text is not None:
                values[item.name] = _parse(item.name.upper(), text, type(_default(item)))
        return cls(**values)


def _default(item: Field[Any]) -> Any:  # noqa: ANN401
    return item.default if item.default_factory is MISSING else item.default_factory()


def _parse(name: str, text: str, kind: type[Any]) -> Any:  # noqa: ANN401
    word = text.strip()
    try:
        if kind is bool:
            return _parse_bool(word)
        if issubclass(kind, Path):
            return Path(text).expanduser()
        value = kind(word)
    except (ValueError, RuntimeError):  # the latter for the home folder of the user ``nobody``
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a path")
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"environment variable {name}: expected {wanted}, found {text!r}"
        ) from None
    if kind in (int, float) and not (math.isfinite(value) and value >= 0):
        message = f"environment variable {name}: expected a number that is not negative, found {text!r}"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    if name in _CHOICES and (value.upper() if kind is str else value) not in _CHOICES[name]:
        message = f"environment variable {name}: expected {_CHOICE_WORDS[name]}, found {text!r}"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return value


def _parse_bool(word: str) -> bool:
    if word.lower() not in _TRUE | _FALSE:
        raise ValueError(word)
    return word.lower() in _TRUE
