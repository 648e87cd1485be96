"""Where fetched models are kept."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

# Raised when conversion changes, so that models of an earlier conversion are made anew.
CONVERSION = 1
ENVIRONMENT_VARIABLE = "ASE_EQUIVARIANT_CACHE"


def cache_folder() -> Path:
    """``$ASE_EQUIVARIANT_CACHE``, or the platform's folder for caches. Not made here."""
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(given).expanduser() if given else user_cache_path("ase-equivariant", appauthor=False)


def cached_model(name: str, modal: str | None = None) -> Path:
    """Where the converted model of this name and level of theory is, or would be."""
    return cache_folder() / f"models-{CONVERSION}" / f"{name}{f'.{modal}' if modal else ''}.safetensors"


def download_folder() -> Path:
    """Where the published files are, whole ones and parts of them: several models may be in one."""
    return cache_folder() / "downloads"
