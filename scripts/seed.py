"""Fill a local stack (`docker-compose.yaml`) with an experiment, and send it a request, as the platform does.

The stand-ins listen at the addresses of the worker's settings for development, or at AWS_ENDPOINT_URL and REDIS_URL.
`EXPERIMENT_ID=1234 python scripts/seed.py` makes the buckets and the queue and puts `DATA_DIR/1234` there; without
EXPERIMENT_ID the bundled sample, as the experiment `test`. `--experiment FOLDER --id ID` takes another folder;
`--send ListGenes` sends a request and prints the answer.
"""

import argparse
import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cellworker.gateway.aws.clients import Cloud
from cellworker.gateway.platform.names import Names
from cellworker.sample import SAMPLE_ID, sample_path
from cellworker.settings import Settings

__all__ = ["chosen", "main", "prepare", "send", "upload"]

_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "QueueAlreadyExists", "QueueNameExists")
_OBJECTS = ("r.rds", "r.qs", "r.h5ad", "matrix_dir.tar.zst")
_NOBODYS = ("test", SAMPLE_ID)
"""Ids that stand for the bundled sample unless there is a folder of that name."""


async def prepare(cloud: Cloud, names: Names) -> str:
    """Make the buckets and the queue, unless they exist, and return the queue's address."""
    for bucket in (names.results_bucket, names.cell_sets_bucket, names.object_bucket):
        place = {"LocationConstraint": names.region}
        await _unless_there(cloud.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place))
    queue = names.queue(None)
    await _unless_there(cloud.sqs.create_queue(QueueName=queue, Attributes={"FifoQueue": "true"}))
    found = await cloud.sqs.get_queue_url(QueueName=queue)
    return str(found["QueueUrl"])


async def upload(cloud: Cloud, names: Names, folder: Path, experiment_id: str) -> list[str]:
    """Put an experiment's files where the platform's pipeline puts them, and return their names."""
    files = objects_of(folder)
    if not files:
        message = f"{folder} holds none of {', '.join(_OBJECTS)}"
        raise SystemExit(message)
    for file in files:
        await cloud.s3.put_object(
            Bucket=names.object_bucket,
            Key=f"{experiment_id}/{file.name}",
            Body=await asyncio.to_thread(file.read_bytes),
        )
    sets = folder / "cell_sets.json"
    if sets.is_file():
        content = await asyncio.to_thread(sets.read_bytes)
        await cloud.s3.put_object(Bucket=names.cell_sets_bucket, Key=experiment_id, Body=content)
        files.append(sets)
    return [file.name for file in files]


def objects_of(folder: Path) -> list[Path]:
    """Return the files of an experiment that the platform stores as its object."""
    return [folder / name for name in _OBJECTS if (folder / name).is_file()]


def chosen(folder: Path | None, experiment_id: str, data_dir: Path) -> tuple[Path, str]:
    """Return the experiment's folder, and a few words on its origin.

    Raises
    ------
    SystemExit
        When the wanted experiment is missing: nothing else is stored under its id.
    """
    if folder is not None:
        return folder, str(folder)
    wanted = data_dir / experiment_id
    if wanted.is_dir() and wanted.parent == data_dir and experiment_id not in (".", ".."):
        return wanted, f"data/{experiment_id}"
    if experiment_id in _NOBODYS:
        return sample_path(), "the bundled sample"
    there = sorted(path.name for path in data_dir.glob("*") if path.is_dir() and objects_of(path))
    message = (
        f"There is no folder data/{experiment_id} with one of {', '.join(_OBJECTS)} in it. "
        f"Put the experiment there, or choose another with EXPERIMENT_ID: {', '.join(there) or 'there is none yet'}."
    )
    raise SystemExit(message)


async def send(  # noqa: PLR0917 - two of them are where, two what
    cloud: Cloud, names: Names, queue_url: str, experiment_id: str, body: dict[str, Any], retry_budget_s: float
) -> bytes:
    """Send a request as the API does, and wait for its result in the results bucket.

    Raises
    ------
    TimeoutError
        When there is none in time: the worker's log says why.
    """
    etag = uuid.uuid4().hex
    message = {
        "experimentId": experiment_id,
        "ETag": etag,
        "timeout": (datetime.now(UTC) + timedelta(seconds=retry_budget_s)).isoformat().replace("+00:00", "Z"),
        "body": body,
        "requestProps": {},
        "signedUrl": "",
    }
    await cloud.sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=json.dumps(message),
        MessageGroupId="work",
        MessageDeduplicationId=etag,
    )
    async with asyncio.timeout(retry_budget_s):
        while True:
            try:
                found = await cloud.s3.get_object(Bucket=names.results_bucket, Key=etag)
            except cloud.s3.exceptions.NoSuchKey:
                await asyncio.sleep(0.2)
                continue
            content: bytes = await found["Body"].read()
            return content


async def _unless_there(call: Any) -> None:  # noqa: ANN401
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        await call
    except ClientError as error:
        if error.response["Error"]["Code"].rpartition(".")[2] not in _EXISTS:
            raise


async def _run(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    names = Names.of(settings)
    if not names.local:
        print(f"this is for stand-ins, and CLUSTER_ENV is {names.environment}", file=sys.stderr)
        return 1
    experiment_id = options.id or settings.experiment_id or "test"
    source = None if options.only_send else chosen(options.experiment, experiment_id, settings.data_dir)
    async with Cloud(settings) as cloud:
        queue_url = await prepare(cloud, names)
        if source is not None:
            folder, place = source
            there = await upload(cloud, names, folder, experiment_id)
            print(f"experiment {experiment_id}, from {place}: {', '.join(there)}")
        if options.send:
            body = {**json.loads(options.body), "name": options.send}
            try:
                answer = await send(cloud, names, queue_url, experiment_id, body, options.patience)
            except TimeoutError:
                print(f"no answer within {options.patience:g} s: look into the worker's log", file=sys.stderr)
                return 1
            print(decoded(answer)[: options.head])
    return 0


def decoded(content: bytes) -> str:
    """Return a stored result's text: results are compressed with gzip or zstd."""
    import gzip  # noqa: PLC0415

    import zstandard  # noqa: PLC0415

    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    elif content[:4] == b"\x28\xb5\x2f\xfd":
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return content.decode("utf-8", "replace")


def main(arguments: list[str]) -> int:
    """Seed, and send the request."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiment", type=Path, help="folder with r.rds and cell_sets.json")
    parser.add_argument("--id", help="the experiment's id (EXPERIMENT_ID, else test)")
    parser.add_argument("--send", metavar="TASK", help="ask this afterwards, and print the answer")
    parser.add_argument("--body", default="{}", help="the request's fields as JSON")
    parser.add_argument("--only-send", action="store_true", help="everything is there already")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds to wait for the answer (120)")
    parser.add_argument("--head", type=int, default=2000, help="characters of the answer to print (2000)")
    return asyncio.run(_run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
