"""A small tour of the irreps behind the networks: each line prints a claim and by how much it is violated."""

import torch

from ase_equivariant.irreps import clebsch_gordan, random_rotation, wigner_d
from ase_equivariant.testing import assert_equivariant

torch.manual_seed(0)


def report(claim, violation, holds=True):
    print(f"{claim:<74} {float(violation):.0e}")
    if (float(violation) < 1e-12) != holds:
        raise SystemExit(f"this should {'' if holds else 'not '}hold: {claim}")


# %% Representations: products and inverses of rotations become products and transposes of matrices
first, second = random_rotation(), random_rotation()
for l in range(5):  # noqa: E741 - the field's name for the degree
    product, inverse = wigner_d(l, first) @ wigner_d(l, second), wigner_d(l, first.T)
    report(f"l = {l}: D(R1 R2) = D(R1) D(R2)", (wigner_d(l, first @ second) - product).abs().max())
    report(f"l = {l}: transposed D = inverse D", (wigner_d(l, first).T - inverse).abs().max())

# %% The outer product of two vectors: 1o x 1o = 0e + 1e + 2e, the trace, the cross product, and what is left
a, b = torch.randn(2, 3, dtype=torch.float64)
outer = torch.outer(a, b)
trace, antisymmetric = torch.eye(3, dtype=torch.float64) * outer.trace() / 3, (outer - outer.T) / 2
symmetric = (outer + outer.T) / 2 - trace
cross = 2 * antisymmetric[[1, 2, 0], [2, 0, 1]]
report("antisymmetric part = cross product", (cross - torch.linalg.cross(a, b)).norm())
for l, part in enumerate((trace, antisymmetric, symmetric)):  # noqa: E741
    coupling = clebsch_gordan(1, 1, l) * (2 * l + 1) ** 0.5  # (3, 3, 2l+1), each component of norm 1
    components = torch.einsum("abm,ab->m", coupling, outer)
    report(f"the part by Clebsch-Gordan coefficients, l = {l}", (coupling @ components - part).abs().max())
    turned = torch.einsum("abm,ab->m", coupling, torch.outer(first @ a, first @ b))
    report(f"it turns by D of l = {l}", (turned - wigner_d(l, first) @ components).abs().max())

# %% A projector onto an irrep
basis = clebsch_gordan(1, 1, 2).reshape(9, 5) * 5**0.5
projector, turn = basis @ basis.T, torch.kron(first, first)
report("P P = P", (projector @ projector - projector).abs().max())
report("trace of P = 2l+1", abs(projector.trace() - 5))
report("P commutes with rotations", (projector @ turn - turn @ projector).abs().max())
report("P a b = symmetric traceless part", (projector @ outer.flatten() - symmetric.flatten()).abs().max())

# %% Functions of two vectors: how far each is from turning as it should
report("dot product, 0e", assert_equivariant(lambda x, y: (x * y).sum(1, keepdim=True), ["1o", "1o"], "0e"))
for irreps, holds in (("1e", True), ("1o", False)):  # axial, and polar as if the cross product changed its sign
    violation = assert_equivariant(torch.linalg.cross, ["1o", "1o"], irreps, tolerance=torch.inf)
    report(f"cross product, {irreps}", violation, holds)
report("ReLU of each component", assert_equivariant(torch.relu, "2x1o", "2x1o", tolerance=torch.inf), holds=False)
