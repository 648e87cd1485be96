"""Imports point down: a unit imports lower layers, or files of its own unit."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ase_equivariant"
LAYERS = {
    "config": 0, "lazy": 0, "precision": 0, "irreps": 0, "graph": 0, "kernels": 0,
    "nn": 1,
    "architectures": 2,
    "potential": 3,
    "testing": 4, "io": 4, "dispersion": 4,
    "calculator": 5, "ase_plugin": 5, "training": 5,
    "engines": 6, "recipes": 6, "plotting": 6,
    "cli": 7,
    "__init__": 8,
}  # fmt: skip
# kernels speak irreps, both are at the bottom; plots draw what recipes return; other programs run recipes
SAME_LAYER = {("kernels", "irreps"), ("ase_plugin", "calculator"), ("plotting", "recipes"), ("engines", "recipes")}
OPTIONAL = ("torch.utils.tensorboard", "ase_equivariant.training.fit", "ase_equivariant.training.processes")
TYPES_ONLY = "TYPE_CHECKING"  # names that a package gives when they are first asked for
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    blocks = [tree, *(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == TYPES_ONLY)]
    top_level = {id(node) for block in blocks for node in block.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative}:{node.lineno}: relative import"
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            if id(node) not in top_level:
                allowed = module in OPTIONAL or (module == "ase_equivariant" and relative.name == "calculator.py")
                assert allowed, f"{relative}:{node.lineno}: import of {module} inside a function"
                continue
            if not module.startswith("ase_equivariant"):
                continue
            other = unit_of(module)
            if module == "ase_equivariant" and own == "cli":
                continue  # the version
            down = LAYERS[other] < LAYERS[own] or other == own or (own, other) in SAME_LAYER
            assert down, (
                f"{relative}:{node.lineno}: {own} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[other]})"
            )


def test_every_unit_has_a_layer():
    units = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"_models"}
    assert units <= set(LAYERS)
