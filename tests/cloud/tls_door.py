"""A server behind TLS, for a redis-server that was built without it.

``python tls_door.py PORT CERTIFICATE KEY PORT_BEHIND COMMAND...`` starts the command and passes everything on to it.
"""

import asyncio
import contextlib
import ctypes
import signal
import ssl
import sys

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def main(port: int, certificate: str, key: str, behind: int, command: list[str]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.create_subprocess_exec(*command, preexec_fn=_die_with_parent)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    while True:  # the door opens when there is somebody behind it
        with contextlib.suppress(OSError):
            _, probe = await asyncio.open_connection("127.0.0.1", behind)
            probe.close()
            break
        await asyncio.sleep(0.01)
    async with await asyncio.start_server(pass_on, "127.0.0.1", port, ssl=context):
        await server.wait()


if __name__ == "__main__":
    _, port, certificate, key, behind, *command = sys.argv
    asyncio.run(main(int(port), certificate, key, int(behind), command))
