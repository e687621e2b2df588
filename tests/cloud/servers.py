"""Starts what stands in for the cloud in tests: SQS, S3, Redis, moto; each a process on a free port.

All of it is synchronous, also in asynchronous tests: the servers are processes of their own. Usage::

    with start_sqs() as sqs, start_s3(buckets=["results"]) as s3, start_redis(tls=True, password="x") as redis:
        sqs.url, s3.url, redis.url           # http://127.0.0.1:20123, ..., rediss://:x@127.0.0.1:20125
        s3.restrict(allow=["s3:GetObject", "s3:ListBucket"])
        s3.fault("PutObject", fail=2, status=503, code="SlowDown")
        sqs.kill(); sqs.restart()            # SIGKILL; the same port, and everything that was acknowledged

Requests signed with the access key `TESTER` are the test's own: no policy, no fault, no count applies to them.
"""

import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cloud.ports import free_port

TESTER = "tester"
HERE = Path(__file__).parent
READY_S = 120.0
STOP_S = 60.0

_ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


class Server:
    """One process that listens on ``127.0.0.1:port``."""

    def __init__(self, command: Sequence[str | Path], url: str, log: Path) -> None:
        self.command = [str(word) for word in command]
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until the port answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=_ENVIRONMENT)
        deadline = time.monotonic() + READY_S
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"{self.command} did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether the port accepts connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """End by SIGKILL: clients see their connections reset, later ones are refused."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int | None:
        """End by SIGTERM; return the exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.process = None
        return code

    def restart(self) -> None:
        """Start again on the same port, with the same state; end it first if it still runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering (SIGSTOP); connections stay open, as when a network drops everything."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class StandIn(Server):
    """A server of this folder, with its door for tests at ``/_admin``."""

    def admin(self, **change: Any) -> dict[str, Any]:
        """Change what is given, and return what there is; see `stand_in` for all that can be said."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=STOP_S)
        try:
            connection.request("POST" if change else "GET", "/_admin", json.dumps(change) if change else None)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(content)
        return content  # type: ignore[no-any-return]

    def counts(self) -> dict[str, int]:
        """How often each action was asked for, refused and failed ones included, since the process started."""
        return self.admin()["counts"]  # type: ignore[no-any-return]

    def restrict(self, allow: Sequence[str] | None = None, deny: Sequence[str] = ()) -> None:
        """Allow only these actions (None: all), and never those of `deny`, such as ``sqs:DeleteMessage``.

        ``s3:PutObject/worker-results-*`` is about the keys ``bucket/key`` or the queues that match.
        """
        self.admin(allow=None if allow is None else list(allow), deny=list(deny))

    def fault(self, action: str, **fault: Any) -> None:
        """Let an action (``PutObject``, ``*`` for any) fail from now on; replaces its earlier fault.

        Parameters
        ----------
        action
            The operation's name in the API.
        **fault
            ``fail``, ``status``, ``code``: the next `fail` requests are not carried out, but answered so.
            ``latency_s``: seconds before each is looked at. ``bandwidth``: bytes per second of its body, either way.
            ``reset_after_bytes``, ``times``: the next `times` connections are reset after so many bytes of the body.
            ``drop_answer``: the next so many are carried out, and the connection is reset instead of an answer.
        """
        self.admin(faults={action: fault})

    def clear(self) -> None:
        """Remove all faults; the policy stays."""
        self.admin(clear=True)

    def advance(self, seconds: float) -> None:
        """Move the server's clock forward: what is due by then happens now."""
        self.admin(advance_s=seconds)

    def refuse(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for so long."""
        self.admin(refuse_s=seconds)


class Redis(Server):
    """A real redis-server."""

    ca_file: Path | None = None
    password: str = ""

    def command_of(self, *words: str | int) -> Any:
        """Have one command carried out, for example ``command_of("CLIENT", "KILL", "TYPE", "pubsub")``."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        more: dict[str, Any] = {"ssl_ca_certs": str(self.ca_file)} if self.ca_file else {}
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **more) as client:
            return client.execute_command(*words)


@contextlib.contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.kill()


@contextlib.contextmanager
def start_sqs(
    *, allow: Sequence[str] | None = None, state: Path | None = None, port: int = 0, groups_once: bool = False
) -> Iterator[StandIn]:
    """SQS with exact semantics; `state` is the file that a restart reads, a temporary one unless given.

    With `groups_once` a long poll looks at blocked groups once, as moto's does.
    """
    with tempfile.TemporaryDirectory() as name:
        port = port or free_port()
        command = [sys.executable, HERE / "sqs_server.py", "--port", str(port), "--state"]
        command += [state or Path(name) / "state.jsonl"]
        if allow is not None:
            command += ["--allow", ",".join(allow)]
        if groups_once:
            command.append("--groups-once")
        server = StandIn(command, f"http://127.0.0.1:{port}", Path(name) / "log")
        with _running(server):
            yield server


@contextlib.contextmanager
def start_s3(
    *,
    buckets: Sequence[str] = (),
    allow: Sequence[str] | None = None,
    folder: Path | None = None,
    port: int = 0,
) -> Iterator[StandIn]:
    """S3 whose objects lie in `folder`, a temporary one unless given; `buckets` are made."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        port = port or free_port()
        command: list[str | Path] = [sys.executable, HERE / "s3_server.py", "--port", str(port)]
        command += ["--folder", folder or Path(name) / "objects"]
        for bucket in buckets:
            command += ["--bucket", bucket]
        if allow is not None:
            command += ["--allow", ",".join(allow)]
        server = StandIn(command, f"http://127.0.0.1:{port}", Path(name) / "log")
        with _running(server):
            yield server


def _memory() -> str | None:
    """A folder in memory, where there is one that is large enough: making a file on a disk may take 0.4 ms of CPU."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free > 4 << 30:
            return "/dev/shm"
    return None


@contextlib.contextmanager
def start_redis(
    *, tls: bool = False, password: str = "", names: Sequence[str] = ("localhost", "127.0.0.1"), port: int = 0
) -> Iterator[Redis]:
    """A redis-server that keeps nothing; skips the test where there is none.

    With `tls`, its certificate is for `names` and signed by the authority in ``.ca_file``, which nobody else knows.
    """
    program = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("there is no redis-server here")
    with tempfile.TemporaryDirectory() as name:
        port = port or free_port()
        command: list[str | Path] = [program, "--save", "", "--appendonly", "no", "--dir", name, "--bind", "127.0.0.1"]
        secret = f":{password}@" if password else ""
        server = Redis([], f"redis{'s' if tls else ''}://{secret}127.0.0.1:{port}", Path(name) / "log")
        server.password = password
        if password:
            command += ["--requirepass", password]
        if not tls:
            command += ["--port", str(port)]
        else:
            ca, certificate, key = make_certificates(Path(name), names)
            server.ca_file = ca
            if _speaks_tls(program):
                command += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
                command += ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", ca]
            else:
                behind = free_port()
                door = [sys.executable, HERE / "tls_door.py", str(port), certificate, key, str(behind)]
                command = [*door, *command, "--port", str(behind)]
        server.command = [str(word) for word in command]
        with _running(server):
            yield server


@functools.cache
def _speaks_tls(program: str) -> bool:
    """Whether a redis-server was built with TLS: one that was not refuses the directive."""
    done = subprocess.run(
        [program, "--port", "0", "--tls-port", "x"], capture_output=True, timeout=READY_S, check=False
    )
    return b"Bad directive" not in done.stdout + done.stderr


@contextlib.contextmanager
def moto_server() -> Iterator[Server]:
    """moto's server for all of AWS; skips the test where there is none."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        pytest.skip("moto_server is not installed")
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        server = Server([program, "-H", "127.0.0.1", "-p", str(port)], f"http://127.0.0.1:{port}", Path(name) / "log")
        with _running(server):
            yield server


def make_certificates(folder: Path, names: Sequence[str]) -> tuple[Path, Path, Path]:
    """Write an authority's certificate, and a certificate of it with its key, valid for `names`; return their files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name_of(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def alternative(text: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ip_address(text))
        except ValueError:
            return x509.DNSName(text)

    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = name_of("cellworker tests")

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    no = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"),
        False,
    )  # fmt: skip
    ca = (
        builder(authority, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **no), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        builder(name_of(names[0]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative(text) for text in names]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = folder / "ca.pem", folder / "server.pem", folder / "server.key"
    files[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    ssl.create_default_context(cafile=str(files[0]))  # a file that no client could read would be found here
    return files
