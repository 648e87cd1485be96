"""Models of ``nequip-package``: the pickled modules as records, and what they say of the model.

A package may come from a package again (fine-tuning), so that its configuration need not name the
architecture; the modules do. Their attributes are put into the arguments that build the same model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ase.data import chemical_symbols
from torch import Tensor

from ase_equivariant.io.foreign.nequip_settings import NequIPSettings, checked_settings
from ase_equivariant.io.foreign.nequip_tensors import NequIPFileError
from ase_equivariant.io.foreign.safe_pickle import Record
from ase_equivariant.irreps import Irreps
from ase_equivariant.nn.activations import SECOND_MOMENT
from ase_equivariant.potential.repulsion import COULOMB_IN_LAMMPS

# The children of the network, in nequip's order.
_BEFORE = ("type_embed", "spharm", "edge_norm", "bessel_encode", "factor")
_BEHIND = ("per_atom_energy_readout", "per_type_energy_scale_shift", "pair_potential", "total_energy_sum")
_PARAMETER_KEYS = ("_parameters", "_buffers")
# What packages hold in float32 is this close to what it follows from.
_TOLERANCE = 1e-6


class Module:
    """A pickled ``torch.nn.Module``.

    Parameters
    ----------
    record : Record
        As it was unpickled.
    path : str
        Where it is, for messages.
    """

    def __init__(self, record: Any, path: str):
        if not isinstance(record, Record) or not isinstance(record.state, dict):
            raise NequIPFileError(f"what it has as {path} is not a module")
        self.record, self.path = record, path

    @property
    def kind(self) -> str:
        """Name of its class, without the package."""
        return self.record.name.rpartition(".")[2]

    @property
    def children(self) -> dict[str, Module]:
        """Its modules by name."""
        modules = self.record.state.get("_modules", {})
        return {name: Module(child, f"{self.path}.{name}") for name, child in modules.items() if child is not None}

    def __getitem__(self, names: str) -> Module:
        """The module at a dotted path below this one."""
        first, _, rest = names.partition(".")
        if first not in self.children:
            raise NequIPFileError(f"it has no module {self.path}.{first}")
        return self.children[first][rest] if rest else self.children[first]

    def attribute(self, name: str) -> Any:
        """One of its attributes."""
        try:
            return self.record.state[name]
        except KeyError:
            raise NequIPFileError(f"its module {self.path} has no attribute {name}") from None

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """All its parameters and buffers with their names."""
        for key in _PARAMETER_KEYS:
            for name, value in self.record.state.get(key, {}).items():
                if value is not None:
                    yield prefix + name, value
        for name, child in self.children.items():
            yield from child.tensors(f"{prefix}{name}.")


def settings_and_tensors(models: Any) -> tuple[NequIPSettings, dict[str, Tensor]]:
    """What a package's pickle says of the model, and its tensors.

    Raises
    ------
    NequIPFileError, ConfigError
        If it is not NequIP's, or cannot be represented.
    """
    root = Module(models, "model")
    if list(root.children) != ["sole_model"]:
        raise NequIPFileError(f"it has the models {', '.join(root.children)} instead of the one called sole_model")
    graph_model = root["sole_model"]
    network = graph_model["model.func"]
    layers = [name for name in network.children if name.endswith("_convnet")]
    expected = (*_BEFORE, *(f"layer{k}_convnet" for k in range(len(layers))), *_BEHIND)
    if strange := [name for name in network.children if name not in expected]:
        raise NequIPFileError(f"it has a module {strange[0]}, which NequIP's networks do not have")
    tensors = dict(network.tensors())
    names = tuple(graph_model.attribute("type_names"))
    arguments = {
        "type_names": names,
        **_embeddings(network, tensors),
        **_layers([network[name] for name in layers], tensors, names),
        **_energies(network, tensors),
    }
    return checked_settings(arguments), tensors


def _embeddings(network: Module, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    species, norm, bessel = network["type_embed"], network["edge_norm"], network["bessel_encode"]
    cutoff, names = norm.attribute("r_max"), tuple(network["per_type_energy_scale_shift"].attribute("type_names"))
    if not math.isclose(network["factor"].attribute("factor"), 2 * math.pi / cutoff**2, rel_tol=_TOLERANCE):
        raise NequIPFileError("its radial functions are scaled otherwise than NequIP 0.19 scales them")
    pairs = None
    if norm.attribute("_per_edge_type"):
        # Reciprocals of cutoffs that people type: 15 digits give them back.
        rows = tensors["edge_norm._rmax_recip"].reciprocal().view(len(names), len(names)).tolist()
        pairs = {
            a: {b: float(f"{x:.15g}") for b, x in zip(names, row, strict=True)}
            for a, row in zip(names, rows, strict=True)
        }
    return {
        "r_max": cutoff,
        "per_edge_type_cutoff": pairs,
        "irreps_edge_sh": str(irreps_of(network["spharm"].attribute("irreps_edge_sh"))),
        "type_embed_num_features": species["embed_module"].attribute("embedding_dim"),
        "categorical_graph_field_embed": species.attribute("categorical_graph_field_embed_shifts") or None,
        "num_bessels": bessel.attribute("num_bessels"),
        "bessel_trainable": bessel.attribute("trainable"),
        "polynomial_cutoff_p": bessel["cutoff"].attribute("p"),
    }


def _layers(layers: list[Module], tensors: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Any]:
    for layer in layers:
        _check_gate(layer)
    radial = [layer["conv.edge_mlp"] for layer in layers]
    widths = [_hidden_widths(mlp, tensors, f"layer{k}_convnet.conv.edge_mlp.") for k, mlp in enumerate(radial)]
    connected = [layer["conv"].attribute("use_sc") for layer in layers]
    if connected[1:] != [any(connected)] * (len(connected) - 1):
        raise NequIPFileError("some of its layers have a self-connection and others have not")
    roots = [
        tensors.pop(f"layer{k}_convnet.conv.avg_num_neighbors_norm.norm_const").double() for k in range(len(layers))
    ]
    numbers = roots[0].flatten().square().reciprocal().tolist()
    if any(root.tolist() != roots[0].tolist() for root in roots):
        raise NequIPFileError("its layers normalize by different numbers of neighbours")
    return {
        "feature_irreps_hidden": [str(irreps_of(layer.attribute("feature_irreps_hidden"))) for layer in layers],
        "radial_mlp_depth": [len(hidden) for hidden in widths],
        "radial_mlp_width": [hidden[0] if hidden else 1 for hidden in widths],
        "avg_num_neighbors": numbers[0] if len(numbers) == 1 else dict(zip(names, numbers, strict=True)),
        "convnet_sc": any(connected),
        "learnable_shift": connected[0],
        "convnet_resnet": any(layer.attribute("resnet") for layer in layers),
    }


def _check_gate(layer: Module) -> None:
    """Refuse other nonlinearities than the gate with silu and tanh, normalized as ours."""
    gate = layer["equivariant_nonlin"]
    if gate.kind != "Gate":
        raise NequIPFileError(f"its nonlinearity is {gate.kind}, only Gate can be represented")
    for name, parities in (("act_scalars", (1, -1)), ("act_gates", (1,))):
        for _, (_, parity), activation in gate[name].attribute("paths"):
            found = Module(activation, f"{gate.path}.{name}")
            wanted = "silu" if parity == 1 else "tanh"
            function = _function_name(found.attribute("f"))
            moment = found.attribute("cst")
            if parity not in parities or function != wanted or abs(moment - SECOND_MOMENT[wanted]) > 1e-12:
                raise NequIPFileError(f"it activates by {moment} · {function} where ours does by {wanted}")


def _function_name(record: Any) -> str:
    """Of a function that was pickled by its name, or, as PyTorch's compiled ones, by ``getattr(module, name)``."""
    if record.name in ("builtins.getattr", "__builtin__.getattr") and len(record.args) == 2:
        return str(record.args[1])
    return str(record.name.rpartition(".")[2])


def _hidden_widths(network: Module, tensors: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Of a network on scalars, whose scale factors are taken from the tensors and compared with ours."""
    sizes = network.attribute("dims")
    nonlinear = network.attribute("is_nonlinear")
    if network.attribute("bias"):
        raise NequIPFileError(f"{network.path} has biases, which cannot be represented")
    layers = network["mlp"].children.values() if nonlinear else ()
    if strange := [layer.kind for layer in layers if layer.kind not in ("ScalarLinearLayer", "SiLU")]:
        raise NequIPFileError(f"{network.path} is activated by {strange[0]}, where ours has SiLU")
    scales = [(math.sqrt(2) if k and nonlinear else 1.0) / math.sqrt(size) for k, size in enumerate(sizes[:-1])]
    found = {f"{prefix}mlp.{2 * k}.alpha": scale for k, scale in enumerate(scales)}
    if f"{prefix}mlp.alpha" in tensors:  # several linear maps in a row share one factor
        found = {f"{prefix}mlp.alpha": math.prod(scales)}
    for name, expected in found.items():
        if name not in tensors or not math.isclose(float(tensors.pop(name)), expected, rel_tol=_TOLERANCE):
            raise NequIPFileError(f"{name} is not what NequIP 0.19 makes it")
    return tuple(sizes[1:-1])


def _energies(network: Module, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Read-out and pair potential. Scales and shifts are among the tensors."""
    readout = network["per_atom_energy_readout.mlp_module"]
    hidden = _hidden_widths(readout, tensors, "per_atom_energy_readout.mlp_module.")
    if len(set(hidden)) > 1:
        raise NequIPFileError("the hidden layers of its read-out differ in width, which cannot be represented")
    if network["total_energy_sum"].attribute("constant") != 1.0:
        raise NequIPFileError("it multiplies total energies by a constant, which cannot be represented")
    found: dict[str, Any] = {
        "readout_mlp_hidden_layers_depth": len(hidden),
        "readout_mlp_hidden_layers_width": hidden[0] if hidden else None,
        "readout_mlp_nonlinearity": "silu" if readout.attribute("is_nonlinear") or not hidden else None,
    }
    if "pair_potential" in network.children:
        zbl = network["pair_potential"]
        if zbl.kind != "ZBL":
            raise NequIPFileError(f"its pair potential is {zbl.kind}, only ZBL can be represented")
        numbers = tensors["pair_potential.atomic_numbers"].flatten().tolist()
        coulomb = 2 * float(tensors["pair_potential._qqr2exesquare"])
        metal = math.isclose(coulomb, COULOMB_IN_LAMMPS, rel_tol=_TOLERANCE)
        found["pair_potential"] = {
            "_target_": "nequip.nn.pair_potential.ZBL",
            "units": "metal" if metal else f"with e²/4πε₀ = {coulomb:g}",
            "chemical_species": tuple(chemical_symbols[round(number)] for number in numbers),
            "polynomial_cutoff_p": zbl["cutoff"].attribute("p"),
        }
    return found


def irreps_of(record: Any) -> Irreps:
    """Irreps of e3nn's as they are pickled: tuples of (multiplicity, (l, p)), each a class of its own.

    Raises
    ------
    NequIPFileError
        If the record is something else.
    """
    try:
        pairs = [entry.args[0] for entry in record.args[0]]
        return Irreps([(int(mul), (int(ir.args[0][0]), int(ir.args[0][1]))) for mul, ir in pairs])
    except (AttributeError, IndexError, TypeError, ValueError):
        raise NequIPFileError("it has something else where irreps are expected") from None
