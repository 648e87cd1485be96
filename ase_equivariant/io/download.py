"""Fetching published files: verified, resumable, never half there."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ase_equivariant.io.catalog import WebFile, WheelMember

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4


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
    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            _continue(file, part, progress)
            break
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{file.url}: the server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = error  # what came is on the disk; go on from there
    else:
        reason = getattr(problem, "reason", None) or problem
        raise DownloadError(f"cannot fetch {file.url}: {reason}; {_size(part)} of {file.size} bytes are kept")
    if sha256_of(part) != file.sha256:
        part.unlink()
        raise DownloadError(f"{file.url} is not the published file: its sha256 is not {file.sha256}; nothing was kept")
    part.replace(target)


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
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", folder]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise DownloadError(
                f"pip cannot download {requirement}: {lines[-1].strip() if lines else 'no reason given'}"
            )
        if sha256_of(wheels[0]) != source.wheel_sha256:
            raise DownloadError(
                f"the wheel of {requirement} is not the published one: its sha256 is not {source.wheel_sha256}"
            )
        wheels[0].replace(target)
