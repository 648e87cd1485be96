"""What a file is that should be a model and is not, by its first bytes: for messages that say what to do."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # a number that torch.save began with, behind the protocol
# Behind the names of models, in any order: "X.nequip.zip" is a package of X.
_SUFFIXES = (".nequip", ".zip", ".ckpt", ".pth", ".pt", ".nqx", ".safetensors")


def name_of_model(path: Path) -> str:
    """The file's name without what only says of which kind it is: "X" of "X.nequip.zip", "a.v2" of "a.v2.pth"."""
    name = path.name
    while (suffix := Path(name).suffix) and suffix.lower() in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def what_else(path: Path) -> str:
    """What a file looks like that is no model, and the cure; empty if nothing is known of it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(1024)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "it is empty, get it anew"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page that came in its place, get it anew from the link to the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "it is Git LFS' pointer to the file, get it with git lfs pull"
    if start.startswith(b"PK\x03\x04"):  # a zip archive, whose directory comes last
        return "" if zipfile.is_zipfile(path) else "it is truncated, get it anew"
    if start[2:].startswith(_OLD_TORCH):
        return "it is in PyTorch's format before version 1.6, save it anew with a newer one"
    # Up to eight bytes may be the length that safetensors begin with, cut off; a pickle's last byte is a full stop.
    if start.startswith(b"\x80") and (len(start) > 8 or start.endswith(b".")):
        return "it is a bare pickle"
    return "it is a text file" if _is_text(start) else ""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors do: the length of a header, then its JSON."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and not _is_text(start)


def _is_text(start: bytes) -> bool:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)  # its last character may be cut off
    return "\ufffd" not in text and all(character.isprintable() or character in "\n\r\t\f" for character in text)
