"""Downloads end whole or not at all, go on where they stopped, and say what is wrong (a local server plays along)."""

import hashlib
import subprocess
import sys

import pytest
from file_server import serve_index, serving, write_wheel

from ase_equivariant.io import download
from ase_equivariant.io.catalog import WebFile, WheelMember
from ase_equivariant.io.download import DownloadError, fetch, fetch_wheel

CONTENT = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def server():
    with serving(CONTENT) as made:
        yield made


def ranges_asked(server):
    return [asked for _, asked in server.asked]


def published(server, path="model.bin"):
    return WebFile(f"{server.url}/{path}", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


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
    assert ranges_asked(server) == [None, "bytes=200000-", "bytes=400000-"]


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
    assert ranges_asked(server)[-1] == "bytes=200000-"


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


def test_what_was_left_of_something_else_starts_over(server, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(b"x" * 1000)
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert ranges_asked(server) == ["bytes=1000-", None]


def test_a_server_that_has_less_than_was_left_is_asked_for_all(server, tmp_path):
    server.content = CONTENT[:1000]
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:2000])
    with pytest.raises(DownloadError, match="the connection ended after 1000 of 512000 bytes"):
        fetch(published(server), tmp_path / "model.bin")
    assert ranges_asked(server)[:2] == ["bytes=2000-", None]


def test_a_server_that_is_busy_is_asked_again(server, tmp_path):
    server.refusals = [503, 429]
    fetch(published(server), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    server.refusals, server.asked = [503] * 9, []
    with pytest.raises(DownloadError, match="the server answers 503 Service Unavailable"):
        fetch(published(server), tmp_path / "other.bin")
    assert len(server.asked) == 4


def test_refusals_and_unreachable_hosts_are_named(server, tmp_path):
    server.refusals = [404]
    with pytest.raises(DownloadError, match=r"cannot fetch http.*: the server answers 404 Not Found$"):
        fetch(published(server), tmp_path / "model.bin")
    assert len(server.asked) == 1
    nobody = WebFile("http://127.0.0.1:9/model.bin", 10, "0" * 64)
    with pytest.raises(DownloadError, match=r"model\.bin: 127\.0\.0\.1 cannot be reached \(Connection refused\)$"):
        fetch(nobody, tmp_path / "other.bin")
    nowhere = WebFile("http://nowhere.invalid/model.bin", 10, "0" * 64)
    with pytest.raises(DownloadError, match=r"nowhere\.invalid cannot be reached \(.*[Nn]ame"):
        fetch(nowhere, tmp_path / "other.bin")


@pytest.fixture
def wheel(server, tmp_path, monkeypatch):
    """A wheel that the server, as package index, has."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    write_wheel(path, {"tiny/model.bin": CONTENT})
    for name, value in serve_index(server, path).items():
        monkeypatch.setenv(name, value)
    return path


def in_wheel(wheel, version="1.0", sha256=None):
    return WheelMember("tiny", version, sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest(), 1, "x", "0" * 64)


def test_pip_downloads_a_wheel(wheel, tmp_path):
    fetch_wheel(in_wheel(wheel), tmp_path / "there" / "w.whl")
    assert (tmp_path / "there" / "w.whl").read_bytes() == wheel.read_bytes()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["w.whl"]


def test_another_wheel_is_refused_and_not_kept(wheel, tmp_path):
    with pytest.raises(DownloadError, match=r"the wheel of tiny==1\.0 is not the published one"):
        fetch_wheel(in_wheel(wheel, sha256="0" * 64), tmp_path / "there" / "w.whl")
    assert list((tmp_path / "there").iterdir()) == []


def test_pips_own_words_reach_the_user(wheel, tmp_path):
    with pytest.raises(
        DownloadError, match=r"pip cannot download tiny==2\.0: ERROR: No matching distribution.*tiny==2"
    ):
        fetch_wheel(in_wheel(wheel, version="2.0"), tmp_path / "w.whl")


@pytest.mark.parametrize(
    ("retries", "words"),
    [
        (1, r"the package index cannot be reached \(Connection refused\)"),
        (0, "index cannot be reached, or has no such"),
    ],
)
def test_an_index_out_of_reach_is_named(retries, words, wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", str(retries))
    with pytest.raises(DownloadError, match=rf"pip cannot download tiny==1\.0: .*{words}"):
        fetch_wheel(in_wheel(wheel), tmp_path / "w.whl")


def test_a_python_without_pip_is_named_with_the_cure(wheel, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    monkeypatch.setattr(download.sys, "executable", str(python))
    with pytest.raises(
        DownloadError, match=rf"pip cannot download tiny==1\.0: there is none in {python}; .*-m ensurepip"
    ):
        fetch_wheel(in_wheel(wheel), tmp_path / "w.whl")
