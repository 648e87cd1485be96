"""Downloads end whole or not at all, go on where they stopped, and say what is wrong (a local server plays along)."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ase_equivariant.io import download
from ase_equivariant.io.catalog import WebFile, WheelMember
from ase_equivariant.io.download import DownloadError, fetch, fetch_wheel

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """Serves ``content``; ``cut`` ends each answer after so many bytes, ``ranges``: whether parts can be asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.asked = CONTENT, None, True, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        start = 0
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path == "/absent":
            self.send_error(404)
            return
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}"
            )
        else:
            self.send_response(200)
        rest = self.server.content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def published(server, path="model.bin"):
    url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
    return WebFile(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_file_comes_whole_and_progress_is_told(server, tmp_path):
    seen = []
    fetch(published(server), tmp_path / "deep" / "model.bin", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "deep" / "model.bin").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.bin"]


def test_an_interrupted_download_goes_on(server, tmp_path):
    server.cut = 200_000  # every answer breaks off: three are needed
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.asked[0] is None
    assert [asked.startswith("bytes=") for asked in server.asked[1:]] == [True, True]


def test_what_came_is_kept_for_the_next_time(server, tmp_path):
    server.cut = 50_000
    with pytest.raises(
        DownloadError, match=r"cannot fetch http.*the connection ended.*200000 of 512000 bytes are kept"
    ):
        fetch(published(server), tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()
    assert (tmp_path / "model.bin.part").stat().st_size == 200_000
    server.cut = None
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=200000-"


def test_a_server_without_parts_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "model.bin.part").write_bytes(b"x" * 1000)
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match="is not the published file"):
        fetch(published(server), tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_too_long_starts_over(server, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(b"x" * (len(CONTENT) + 1))
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_refusals_and_unreachable_hosts_are_named(server, tmp_path):
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch(published(server, "absent"), tmp_path / "model.bin")
    nobody = WebFile("http://127.0.0.1:9/model.bin", 10, "0" * 64)
    with pytest.raises(DownloadError, match=r"cannot fetch http://127\.0\.0\.1:9/model\.bin: .*refused.*0 of 10 bytes"):
        fetch(nobody, tmp_path / "other.bin")


def test_pips_own_words_reach_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = WheelMember("sevenn", "0.13.0", "0" * 64, 1, "x", "0" * 64)
    with pytest.raises(DownloadError, match=r"pip cannot download sevenn==0\.13\.0: ERROR: .*sevenn"):
        fetch_wheel(source, tmp_path / "w.whl")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_without_pip_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(download.sys, "executable", "/bin/false")
    source = WheelMember("sevenn", "0.13.0", "0" * 64, 1, "x", "0" * 64)
    with pytest.raises(DownloadError, match="pip cannot download sevenn"):
        fetch_wheel(source, tmp_path / "w.whl")
