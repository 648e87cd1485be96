"""Which products a tensor-product convolution takes, and where its inputs and outputs lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ase_equivariant.irreps import Block, Irreps, blocks, clebsch_gordan, merge


@dataclass(frozen=True)
class Path:
    """One product (l1, p1) ⊗ (l2, p2) → (l3, p3) of sender features with harmonics, channel by channel ("uvu").

    ``weight_offset`` is where its ``mul`` weights start, ``out`` the merged output block
    and ``channel_offset`` the first of its channels in that block.
    """

    source: Block
    harmonic: Block
    out: Block
    weight_offset: int
    channel_offset: int


class ConvPlan:
    """All paths from ``irreps_in`` ⊗ ``irreps_sh`` into the irreps of ``irreps_keep``.

    Weights are ordered by source block, then harmonic, then output irrep. The output
    irreps are merged, each irrep once, its channels ordered as the paths that fill it.

    Parameters
    ----------
    irreps_in : Irreps
        Of the node features; merged, see :func:`ase_equivariant.irreps.merge`.
    irreps_sh : Irreps
        Of the spherical harmonics, multiplicity 1 each.
    irreps_keep : Irreps
        Irreps wanted of the product; multiplicities do not matter.
    """

    def __init__(self, irreps_in: Irreps, irreps_sh: Irreps, irreps_keep: Irreps):
        wanted = {ir for _, ir in irreps_keep}
        triples = [
            (source, harmonic, ir)
            for source in blocks(irreps_in)
            for harmonic in blocks(irreps_sh)
            for ir in source.irrep * harmonic.irrep
            if ir in wanted
        ]
        self.irreps_in, self.irreps_sh = irreps_in, irreps_sh
        self.irreps_out = merge(Irreps([(source.mul, ir) for source, _, ir in triples]))
        out_blocks = {block.irrep: block for block in blocks(self.irreps_out)}
        filled = dict.fromkeys(out_blocks, 0)
        paths, weight_offset = [], 0
        for source, harmonic, ir in triples:
            paths.append(Path(source, harmonic, out_blocks[ir], weight_offset, filled[ir]))
            filled[ir] += source.mul
            weight_offset += source.mul
        self.paths = tuple(paths)
        self.num_weights = weight_offset

    @cached_property
    def by_source(self) -> tuple[tuple[Path, ...], ...]:
        """The paths grouped by the block of the sender they read."""
        sources = dict.fromkeys(path.source for path in self.paths)
        return tuple(tuple(path for path in self.paths if path.source == source) for source in sources)

    def coupling(self, group: tuple[Path, ...]) -> Tensor:
        """√(2·l3+1)·C of a group with one source l1, as (dim of harmonics, Σ(2·l3+1) · (2·l1+1)) float64.

        A product with the harmonics (E, dim) gives every edge's coupling matrices
        M[m3, m1] = Σ C[m1, m2, m3] Y[m2] at once. The factor √(2·l3+1) is e3nn's
        "component" normalization: unit-variance inputs give unit-variance outputs.
        """
        rows = []
        for path in group:
            l1, l2, l3 = path.source.l, path.harmonic.l, path.out.l
            dense = torch.zeros(self.irreps_sh.dim, 2 * l3 + 1, 2 * l1 + 1, dtype=torch.float64)
            dense[path.harmonic.slice] = math.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3).permute(1, 2, 0)
            rows.append(dense)
        return torch.cat(rows, dim=1).flatten(1)

    def path_of_component(self, group: tuple[Path, ...]) -> Tensor:
        """(Σ(2·l3+1),) position in ``group`` of the path that fills each output component."""
        sizes = torch.tensor([path.out.num_components for path in group])
        return torch.repeat_interleave(torch.arange(len(group)), sizes)

    @cached_property
    def out_order(self) -> Tensor:
        """(dim_out,) permutation from "group by group, (component, channel)" to the merged output layout."""
        destination = []
        for group in self.by_source:
            for path in group:
                for m in range(path.out.num_components):
                    start = path.out.offset + m * path.out.mul + path.channel_offset
                    destination.append(torch.arange(start, start + path.source.mul))
        return torch.argsort(torch.cat(destination))
