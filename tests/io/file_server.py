"""A server on this machine that answers as well, or as badly, as a test wants; no test needs another network."""

from __future__ import annotations

import contextlib
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Serves ``content``, or ``files`` by their paths.

    ``cut`` ends each answer after so many bytes, ``ranges``: whether parts can be asked for, ``pause``: seconds
    between blocks of 16 kB, ``refusals``: status codes of the next answers. ``asked``: path and range of every request.
    """

    def __init__(self, content: bytes = b""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.files, self.cut, self.ranges, self.pause = content, {}, None, True, 0.0
        self.refusals, self.asked = [], []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        content = self.server.files.get(self.path) if self.server.files else self.server.content
        if content is None or self.server.refusals:
            self.send_error(self.server.refusals.pop(0) if self.server.refusals else 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        rest = content[start:]
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        rest = rest[: self.server.cut]
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            for k in range(0, len(rest), 1 << 14):
                self.wfile.write(rest[k : k + (1 << 14)])
                time.sleep(self.server.pause)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content: bytes = b"") -> Iterator[Server]:
    """A server that runs while the block does."""
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def write_wheel(path: Path, members: dict[str, bytes]) -> None:
    """A wheel named NAME-VERSION-py3-none-any.whl that pip takes for one."""
    name, version = path.name.split("-")[:2]
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def serve_index(server: Server, wheel: Path) -> dict[str, str]:
    """Make the server a package index that has the wheel; gives the environment in which pip asks it alone."""
    name = wheel.name.split("-")[0]
    server.files[f"/simple/{name}/"] = f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode()
    server.files[f"/files/{wheel.name}"] = wheel.read_bytes()
    return {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": f"{server.url}/simple", "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}  # fmt: skip
