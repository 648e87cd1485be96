"""Equivariant layers: irreps and tensors only, no atoms."""
