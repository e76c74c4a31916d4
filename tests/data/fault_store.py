"""A folder served over HTTP by a thread of the test, which can be told to fail in every way that a store fails."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.spec import AbstractFileSystem

KINDS = ("500", "503", "429", "reset", "stall", "cut", "short", "shifted", "flipped")
"""Two server errors and a refusal for now, a connection reset, no answer, a body that breaks off, one that is too short by its own
account, one of another range, one with a wrong byte."""


class FaultStore:
    """Serves `root` at `url`. `share` of the requests meet one of `kinds`, drawn from a seed; `away` answers none at all."""

    def __init__(self, root: Path) -> None:
        self.root, self.share, self.kinds, self.statuses = root, 0.0, KINDS, {}
        self.away, self.back_after = False, 10**9
        self.met: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.gate: threading.Barrier | None = None
        self.stalled = threading.Event()
        self._rng, self._lock = random.Random(0), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, protocol: str) -> str:
        return f"{protocol}://127.0.0.1:{self._server.server_port}"

    def fault(self, path: str) -> str | None:
        with self._lock:
            self.asked[path] += 1
            if self.away:
                self.met["away"] += 1
                self.away = self.met["away"] < self.back_after
                return "reset"
            if self._rng.random() >= self.share:
                return None
            kind = self._rng.choice(self.kinds)
            self.met[kind] += 1
            return kind

    def close(self) -> None:
        self.stalled.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # else the kernel refuses connections on its own account


class _Handler(BaseHTTPRequestHandler):
    store: FaultStore
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.store.root / self.path.lstrip("/")
        kind = self.store.fault(path.name)
        status = self.store.statuses.get(path.name) or (int(kind) if (kind or "").isdigit() else None)
        if status:
            self._send(status, b"")
        elif kind in ("reset", "stall"):
            if kind == "stall":
                self.store.stalled.wait(30)
            self._reset()
        elif path.is_dir():
            links = "".join(f'<a href="{p.name}{"/" * p.is_dir()}">x</a>' for p in sorted(path.iterdir()))
            self._send(200, links.encode(), kind="text/html")
        elif path.is_file():
            self._file(path.read_bytes(), kind if self.command == "GET" else None)
        else:
            self._send(404, b"")

    def _file(self, whole: bytes, fault: str | None) -> None:
        start, end = 0, len(whole)
        if asked := self.headers.get("Range"):
            start, end = (int(word) for word in asked.removeprefix("bytes=").split("-"))
            end = min(end + 1, len(whole))
            if self.store.gate:
                self.store.gate.wait()
        body = whole[start:end]
        if fault == "shifted":
            body = (whole[start + 16 : end + 16] + whole[:16])[: len(body)]
        if fault == "flipped" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "short":
            body = body[: len(body) // 2]
        status = 416 if start >= len(whole) else 206 if asked else 200
        self._send(status, body, cut=fault == "cut")

    def _send(self, status: int, body: bytes, *, kind: str = "application/octet-stream", cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class PlainHttp(AbstractFileSystem):
    """HTTP for fsspec out of the standard library: blocking, no retries, and here whether aiohttp is or not."""

    protocol = "plainhttp"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def _get(self, url: str, method: str = "GET", **headers: str) -> tuple[bytes, dict[str, str]]:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=60)
        try:
            connection.request(method, parts.path or "/", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status == 404:
            raise FileNotFoundError(url)
        if answer.status >= 400:
            error = OSError(f"{answer.status} {answer.reason}")
            error.status = answer.status  # type: ignore[attr-defined]
            raise error
        return body, dict(answer.headers)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        headers = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
        return self._get(path, **headers)[0]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        _, headers = self._get(path, "HEAD")
        return {"name": path, "type": "file", "size": int(headers["Content-Length"])}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        links = [part.split('"')[0] for part in self._get(path)[0].decode().split('href="')[1:]]
        return [
            {"name": path.rstrip("/") + "/" + link, "size": None, "type": "directory" if link.endswith("/") else "file"}
            for link in links
        ]


fsspec.register_implementation("plainhttp", PlainHttp, clobber=True)


@contextlib.contextmanager
def serve(root: Path) -> Iterator[FaultStore]:
    store = FaultStore(root)
    try:
        yield store
    finally:
        store.close()
