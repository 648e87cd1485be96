"""What a model is, as one number."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from ase_equivariant.potential.potential import Potential


def content_hash(potential: Potential) -> str:
    """sha256 of a potential's configuration and weights, to tell one model from another."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in potential.state_dict().items()}
    return sha256_of(tensors, {"config": potential.config.model_dump(mode="json")})


def sha256_of(tensors: dict[str, torch.Tensor], content: dict[str, Any]) -> str:
    """sha256 of tensors, contiguous and on the CPU, and of what is said beside them in JSON's types."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
