"""A chat endpoint that misbehaves as told, on a free loopback port, and remembers what it was asked."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pyrite.records import Chat, Message

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@dataclass
class Reply:
    """What goes back: `delay` seconds later, a byte each `drip` seconds, or nothing but a closed connection."""

    status: int = 200
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    drop: bool = False


def good(text: str = "fine", *, finish: str | None = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    """A well-formed reply."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"id": "x", "model": "stub-1", "system_fingerprint": "fp_9", "choices": [choice], "usage": usage}


class Stub(ThreadingHTTPServer):
    """`script` holds, for each prompt text, the replies to give first; afterwards every reply is `always`. What is posted to
    /completions, `complete` answers; without it, nothing is there."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: dict[str, list[Reply]] = defaultdict(list)
        self.always = Reply(body=good())
        self.complete: Callable[[dict[str, Any]], Reply] | None = None
        self.models: list[str] = ["stub"]
        self.plain_models = False
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: list[str | None] = []
        self.under_way = self.peak = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def texts(self) -> list[str]:
        """What was asked, sorted."""
        return sorted(body["messages"][-1]["content"] for body in self.asked)


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self.send(Reply(404, {"detail": "Not Found"}))
            return
        rows = [{"id": name} for name in self.server.models]
        self.send(Reply(body=rows if self.server.plain_models else {"object": "list", "data": rows}))

    def do_POST(self) -> None:
        stub = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        completes = stub.complete if self.path == "/v1/completions" else None
        if self.path != "/v1/chat/completions" and completes is None:
            self.send(Reply(404, {"detail": "Not Found"}))
            return
        with stub.lock:
            stub.times.append(time.monotonic())
            stub.asked.append(body)
            stub.keys.append(self.headers["authorization"])
            stub.under_way += 1
            stub.peak = max(stub.peak, stub.under_way)
            if completes is not None:
                reply = completes(body)
            else:
                todo = stub.script[body["messages"][-1]["content"]]
                reply = todo.pop(0) if todo else stub.always
        time.sleep(reply.delay)
        with stub.lock:
            stub.under_way -= 1
        if reply.drop:
            self.close_connection = True
            return
        self.send(reply)

    def send(self, reply: Reply) -> None:
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            for at in range(len(raw)) if reply.drip else ():
                self.wfile.write(raw[at : at + 1])
                time.sleep(reply.drip)
            self.wfile.write(b"" if reply.drip else raw)
        except OSError:  # the client has given up
            self.close_connection = True


@contextmanager
def served() -> Iterator[Stub]:
    """A stub that listens until the block ends."""
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join()


def prompts(*texts: str) -> list[Chat]:
    """One-message chats whose id is `id-` and the text."""
    return [Chat((Message("user", text),), f"id-{text}") for text in texts]


def ignore_progress(finished: float, total: float, unit: str) -> None:
    pass
