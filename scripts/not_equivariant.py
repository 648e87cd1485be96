"""A network that is not equivariant, and structures turned at random, for ``data_efficiency.py``."""

from dataclasses import replace

import torch
from torch import Tensor

from ase_equivariant.architectures import NequIP, NequIPConfig
from ase_equivariant.irreps import random_rotation
from ase_equivariant.nn.linear import group_by_species
from ase_equivariant.nn.radial import BesselBasis
from ase_equivariant.potential import Potential
from ase_equivariant.training.build import build_potential
from ase_equivariant.training.checkpoint import check_same_run, load_checkpoint
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch, make_samples
from ase_equivariant.training.fit import fit
from ase_equivariant.training.logs import MetricsLog
from ase_equivariant.training.splits import make_splits


class Directional(NequIP):
    """NequIP of l_max = 0 whose filters see an edge's direction beside its length, as plain numbers."""

    def __init__(self, config: NequIPConfig):
        super().__init__(config.model_copy(update={"num_radial": config.num_radial + 3}))
        self.basis = BesselBasis(config.cutoff, config.num_radial, config.trainable_radial)

    def forward(self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, exchange: None = None) -> Tensor:
        """Features of every atom."""
        r = torch.linalg.vector_norm(edge_vectors, dim=1, keepdim=True)
        seen = torch.cat([self.basis(r.squeeze(1)), edge_vectors / r], dim=1) * self.cutoff(r)
        x, groups = self.embedding.index_select(0, species), group_by_species(species)
        for layer in self.layers:
            x = layer(x, groups, torch.ones_like(r), seen, edge_index)
        return x


class Turned(list[Batch]):
    """Each structure at a new angle whenever it is asked for."""

    def __getitem__(self, index: int) -> Batch:
        sample = super().__getitem__(index)
        turn = random_rotation().T.to(sample.forces.dtype)
        graph = replace(sample.graph, edge_vectors=sample.graph.edge_vectors @ turn)
        return replace(sample, graph=graph, forces=sample.forces @ turn)


def train_directional(config: TrainConfig, turned: bool) -> tuple[Potential, str | None]:
    torch.manual_seed(config.run.seed)  # a run that continues takes the generator's state from its checkpoint
    splits, kind = make_splits(config.data), Turned if turned else list
    potential, config, samples = build_potential(config, splits)
    potential.network = Directional(config.model.architecture).to(potential.dtype)
    validation = kind(make_samples(splits.validation, potential.cutoff, potential.dtype))
    given = kind(samples), [validation[k] for k in range(len(validation))]
    rest = {"folder": config.folder, "fingerprint": f"{config.fingerprint()} turned: {turned}", "progress": False}
    if state := load_checkpoint(last) if (last := config.folder / "last.ckpt").exists() else None:
        check_same_run(state, rest["fingerprint"], last)
    log = MetricsLog(config.folder / "metrics.csv", state["epoch"] if state else 0)
    return potential, fit(config, potential, *given, state=state, log=log, on_best=lambda *_: None, **rest).stopped
