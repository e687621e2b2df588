"""`cellworker submit`: a client of the platform on the command line."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cellworker.cli.output import Destination, write_file, write_result
from cellworker.cli.progress import Bar
from cellworker.cli.request_options import request_body, request_pagination
from cellworker.cli.unknown_names import known_task
from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.door.admission import Admission
from cellworker.local.submit import submit
from cellworker.plain_text import say
from cellworker.settings import Settings

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Send one request, wait for its result, and write it."""
    settings = Settings.from_environment()
    task = known_task(options.task)
    body = {"name": task.name, **request_body(task, options.body)}
    props: dict[str, Any] = {"broadcast": False, "cacheUniquenessKey": None}
    if (pagination := request_pagination(task, options.pagination)) is not None:
        props["pagination"] = pagination
    destination = Destination(options.out, options.format, file_result=task.file_result, csv_guard=settings.csv_guard)
    url = options.url or Admission(token=settings.access_token).address(f"http://127.0.0.1:{settings.port}")
    if not _is_address(url):
        raise WorkerError(ErrorCode.INVALID_INPUT, f"--url {url}: expected http://HOST:PORT")
    with tempfile.TemporaryDirectory() as scratch:
        with Bar(quiet=options.quiet) as bar:

            def on_heartbeat(beat: dict[str, Any]) -> None:
                percent = beat.get("progress_percent")
                bar(beat["user_message"], None if percent is None else percent / 100)

            answer = submit(
                url,
                body,
                request_props=props,
                timeout_s=options.timeout,
                folder=Path(scratch),
                on_heartbeat=on_heartbeat,
            )
        if answer.file is not None:
            destination.check_ending(answer.file.name)
            write_file(destination, answer.file)
        elif answer.content is None:
            say("Done: the experiment's cell sets were changed. There is no other result.", file=sys.stderr)
        else:
            write_result(destination, answer.value, task.to_tables)
    return 0


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        return parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:  # a name, a port, or an address in brackets, that is none
        return False
