"""Atoms to graphs: neighbour lists and the one place where ase.Atoms become tensors."""
