"""The process that runs the package `cassia`, and nothing else: a script of its own that imports nothing of ours.

`cassia` pulls many packages, prints, writes files where it stands and keeps its key in the environment; all of that
ends with this process. Called with the number of a file to write messages to (JSON, one a line), with its folder as the
working directory, and with the request on standard input; see `cellworker.engine.annotators.cassia`.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

TOKEN_LIFE = timedelta(hours=1)


def main() -> None:
    """Annotate the clusters of ``markers.csv`` into ``merged.csv``."""
    if sys.platform == "linux":
        pr_set_pdeathsig, pr_set_dumpable = 1, 4
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0)  # other processes of the same user cannot read the key
    channel = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    request = json.load(sys.stdin)
    sys.path[:] = request["sys_path"]

    def tell(**message: Any) -> None:  # noqa: ANN401
        if request["key"]:
            message = {
                name: value.replace(request["key"], "[key]") if isinstance(value, str) else value
                for name, value in message.items()
            }
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    key = request["key"]
    say_nothing_of(key)
    try:
        if request["bedrock_region"]:
            try:
                key = bedrock_token(request["bedrock_region"])
            except ImportError:
                raise
            except Exception as error:  # noqa: BLE001 whatever AWS's library says, its texts may hold what is secret
                tell(error="token", text=type(error).__name__)
                return
        # CASSIA refuses to ask without a key, and many an endpoint inside a network needs none.
        os.environ["CUSTOMIZED_API_KEY"] = key or "none"
        speak_only_to(request["url"])
        annotate(request, tell)
        tell(done=True)
    except ImportError as error:
        tell(error="import", text=error.name or str(error))
    except Exception as error:  # noqa: BLE001 a third party's: each is reported in words
        tell(error="cassia", text=f"{type(error).__name__}: {error}")


def say_nothing_of(key: str) -> None:
    """Keep the key out of what is printed, which other processes read: endpoints cite it when they refuse it."""
    if not key:
        return

    def without(write: Callable[[str], int]) -> Callable[[str], int]:
        return lambda text: write(text.replace(key, "[key]"))

    for stream in (sys.stdout, sys.stderr):
        stream.write = without(stream.write)  # type: ignore[method-assign]


def bedrock_token(region: str) -> str:
    """Make a bearer token of the credentials in the environment, and forget those."""
    from aws_bedrock_token_generator import provide_token  # noqa: PLC0415 an optional extra

    token = str(provide_token(region=region, expiry=TOKEN_LIFE))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    return token


def speak_only_to(url: str) -> None:
    """Look up no other host's address: CASSIA would ask public services about genes, unasked."""
    from urllib.request import getproxies  # noqa: PLC0415 - takes HTTP along, which importing cellworker need not wait for

    allowed = {urlsplit(address).hostname for address in (url, *getproxies().values())}

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and arguments[0] is not None:
            host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
            if host.lower() not in allowed:
                raise OSError("only the language model may be asked")

    sys.addaudithook(watch)


def annotate(request: dict[str, Any], tell: Callable[..., None]) -> None:
    """Ask for each cluster's type, then for three groupings of the answers."""
    import CASSIA  # noqa: PLC0415 an optional extra
    import pandas as pd  # noqa: PLC0415 comes with it

    follow(CASSIA.BatchProgressTracker, tell)
    # Some genes are called like missing values.
    markers = pd.read_csv("markers.csv", keep_default_na=False)
    words = {"species": request["species"], "tissue": request["tissue"]}
    which = {"provider": request["url"], "model": request["model"]}
    CASSIA.runCASSIA_batch(
        marker=markers, output_name="clusters", additional_info=request["additional_info"],
        max_workers=request["workers"], auto_convert_ids=False, **words, **which,
    )  # fmt: skip
    # Its pipeline would also give marks to the answers and write reports, which changes no label.
    context = f"These are cell clusters from {words['species']} {words['tissue']}. {request['additional_info'] or ''}"
    CASSIA.merge_annotations_all(
        csv_path="clusters_summary.csv", output_path="merged.csv", additional_context=context.strip(), **which
    )


def follow(tracker: Any, tell: Callable[..., None]) -> None:  # noqa: ANN401
    """Tell of each cluster that is done."""
    complete = tracker.complete_task

    def complete_and_tell(self: Any, *arguments: Any) -> None:  # noqa: ANN401
        complete(self, *arguments)
        tell(title=self.title, step=self.completed, total=self.total)

    tracker.complete_task = complete_and_tell


if __name__ == "__main__":
    main()
