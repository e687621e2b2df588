"""Every environment variable that cellworker reads: typed, documented, in one place."""

import math
import os
from collections.abc import Container, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["Settings"]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_CHOICES: dict[str, Container[object]] = {
    "PORT": range(65536),
    "LOG_LEVEL": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "SHORT_WORKERS": range(1, 1025),
    "LONG_WORKERS": range(1, 1025),
    "THREADS": range(1, 1025),
}
_CHOICE_WORDS = {
    "PORT": "a port from 0 to 65535",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "SHORT_WORKERS": "at least 1",
    "LONG_WORKERS": "at least 1",
    "THREADS": "at least 1",
}


def _setting(default: Any, help_text: str) -> Any:  # noqa: ANN401
    if callable(default):
        return field(default_factory=default, metadata={"help": help_text})
    return field(default=default, metadata={"help": help_text})


def _default_store() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache) / "cellworker" if cache else Path.home() / ".cache" / "cellworker"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. The environment variable of each is its name in capitals (``PORT`` for `port`)."""

    port: int = _setting(4000, "port that `cellworker run` and `cellworker engine` listen on")
    host: str = _setting("127.0.0.1", "address to listen on; the engine has no passwords, keep it on loopback")
    data_dir: Path = _setting(Path("data"), "one folder per experiment, and local results")  # noqa: RUF009
    experiment_id: str = _setting("", "experiment to serve; empty serves the bundled sample (local run)")
    store_dir: Path = _setting(_default_store, "folder of the memory-mapped stores made from experiments")  # noqa: RUF009
    store_max_gb: float = _setting(50.0, "oldest stores are removed when all together exceed this many gigabytes")
    load_memory_gb: float = _setting(4.0, "memory that the process reading an experiment file may use, in gigabytes")
    load_timeout_s: float = _setting(1800.0, "time that reading an experiment file may take, in seconds")
    load_max_gb: float = _setting(512.0, "largest experiment file, after decompression, in gigabytes")
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
        default=False, help_text="reproduce the original's sampling and slips, for comparisons"
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":  # noqa: ANN401
        """Read the settings; `overrides` (None is ignored) win over the environment.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the variable that cannot be understood.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for item in fields(cls):
            if overrides.get(item.name) is not None:
                values[item.name] = overrides[item.name]
                continue
            text = environment.get(item.name.upper())
            if text is not None:
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
    except (ValueError, RuntimeError):  # the latter for the home folder of nobody
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
