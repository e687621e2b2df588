"""Fill a local stack (`docker-compose.yaml`) with an experiment, and send it a request: what the platform would do.

The stand-ins listen where the worker's settings for development say, or where AWS_ENDPOINT_URL and REDIS_URL do.
`python scripts/seed.py` makes the buckets and the queue and puts the bundled sample there as the experiment `test`,
`--experiment FOLDER --id ID` another one; `--send ListGenes` asks something and prints the answer.
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
from cellworker.sample import sample_path
from cellworker.settings import Settings

__all__ = ["main", "prepare", "send", "upload"]

_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "QueueAlreadyExists", "QueueNameExists")
_OBJECTS = ("r.rds", "r.qs", "r.h5ad", "matrix_dir.tar.zst")


async def prepare(cloud: Cloud, names: Names) -> str:
    """Make the buckets and the queue, unless they are there, and return the queue's address."""
    for bucket in (names.results_bucket, names.cell_sets_bucket, names.object_bucket):
        place = {"LocationConstraint": names.region}
        await _unless_there(cloud.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place))
    queue = names.queue(None)
    await _unless_there(cloud.sqs.create_queue(QueueName=queue, Attributes={"FifoQueue": "true"}))
    found = await cloud.sqs.get_queue_url(QueueName=queue)
    return str(found["QueueUrl"])


async def upload(cloud: Cloud, names: Names, folder: Path, experiment_id: str) -> list[str]:
    """Put an experiment's files where the platform's pipeline puts them, and return their names."""
    files = [folder / name for name in _OBJECTS if (folder / name).is_file()]
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


async def send(  # noqa: PLR0917 - two of them are where, two what
    cloud: Cloud, names: Names, queue_url: str, experiment_id: str, body: dict[str, Any], patience_s: float
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
        "timeout": (datetime.now(UTC) + timedelta(seconds=patience_s)).isoformat().replace("+00:00", "Z"),
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
    async with asyncio.timeout(patience_s):
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
    async with Cloud(settings) as cloud:
        queue_url = await prepare(cloud, names)
        if not options.only_send:
            folder = options.experiment or sample_path()
            there = await upload(cloud, names, folder, options.id)
            print(f"experiment {options.id}: {', '.join(there)}")
        if options.send:
            body = {**json.loads(options.body), "name": options.send}
            try:
                answer = await send(cloud, names, queue_url, options.id, body, options.patience)
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
    """Seed, and ask."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiment", type=Path, help="folder with r.rds and cell_sets.json; without it the sample")
    parser.add_argument("--id", default="test", help="the experiment's id (test)")
    parser.add_argument("--send", metavar="TASK", help="ask this afterwards, and print the answer")
    parser.add_argument("--body", default="{}", help="the request's fields as JSON")
    parser.add_argument("--only-send", action="store_true", help="everything is there already")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds to wait for the answer (120)")
    parser.add_argument("--head", type=int, default=2000, help="characters of the answer to print (2000)")
    return asyncio.run(_run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
