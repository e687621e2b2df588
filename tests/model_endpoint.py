"""An endpoint on this machine that speaks OpenAI's protocol and answers as CASSIA's agents are asked to."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TYPES = ("T cell", "B cell", "Monocyte")


class Endpoint:
    """What it was asked, and how it answers: `status` other than 200 fails, `content` replaces every answer."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.status = 200
        self.content: str | None = None
        self.body: bytes | None = None
        self.silent = threading.Event()
        self.hangs = False
        self.arrived = threading.Event()

    def reply(self, question: dict[str, Any]) -> str:
        """Answer one list of messages."""
        said = str(question["messages"][-1]["content"])
        clusters = re.findall(r"Cluster (\d+): General annotation: ([^,]*)", said)
        if clusters:
            detail = next((word for word in ("intermediate", "broader", "standardize") if word in said), "")
            return json.dumps({number: f"{name}s ({detail})" for number, name in clusters})
        first = re.search(r"GENE(\d+)", json.dumps(question["messages"]))
        kind = _TYPES[int(first[1]) % len(_TYPES) if first else 0]
        answer = {"main_cell_type": kind, "sub_cell_types": [f"naive {kind}"], "possible_mixed_cell_types": []}
        fenced = f"```json\n{json.dumps(answer)}\n```"
        return f"FINAL ANNOTATION COMPLETED. VALIDATION PASSED. GENE{first[1] if first else ''}\n{fenced}"


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.asked.append(question)
            endpoint.keys.append(self.headers["Authorization"])
            endpoint.arrived.set()
            if endpoint.hangs:
                endpoint.silent.wait(60)
                return
            if endpoint.status == 200:
                content = endpoint.reply(question) if endpoint.content is None else endpoint.content
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
                answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            else:
                answer = {"error": {"message": f"no: {self.headers['Authorization']}"}}
            body = json.dumps(answer).encode() if endpoint.body is None else endpoint.body
            self.send_response(endpoint.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@contextmanager
def listening() -> Iterator[Endpoint]:
    """Serve until the end of the block."""
    endpoint = Endpoint()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(endpoint))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        endpoint.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()
