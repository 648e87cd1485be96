"""The nequip model of the benchmark: 4 layers, 32 features, l_max 2; eager, or exported with AOTInductor.

``python nequip_model.py OUTPUT.nequip.pt2`` exports. Runs in nequip's environment.
"""

import sys
from pathlib import Path


def eager_model(species, compile_mode="eager"):
    import torch

    torch.set_default_dtype(torch.float64)
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state(allow_tf32=False)
    model = NequIPGNNModel(
        seed=1, model_dtype="float32", type_names=species, r_max=5.0, num_layers=4, l_max=2, parity=False,
        num_features=32, avg_num_neighbors=20.0, compile_mode=compile_mode, per_type_energy_scales=0.01,
        per_type_energy_shifts=0.0,
    )  # fmt: skip
    return model.train() if compile_mode == "compile" else model.eval()


def export(path):
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from nequip.data import from_ase
    from nequip.integrations.utils import basic_transforms
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
    from nequip.scripts._workflow_utils import set_workflow_state
    from nequip.utils.aot import aot_export_model
    from nequip.utils.aoti_metadata import NEQUIP_AOTI_INPUTS_KEY, NEQUIP_AOTI_OUTPUTS_KEY, serialize_aoti_keys
    from nequip.utils.global_state import get_latest_global_state
    from systems import system
    from worker import SPECIES

    set_workflow_state("compile")
    model, target = eager_model(SPECIES), COMPILE_TARGET_DICT["ase"]
    data = from_ase(system("si64"))
    for transform in basic_transforms(model.metadata, 5.0, SPECIES, {symbol: symbol for symbol in SPECIES}):
        data = transform(data)
    sizes = (("graph", "num_frames"), ("node", "num_nodes"), ("edge", "num_edges"))
    dims = {key: torch.export.dynamic_shapes.Dim(name, min=2, max=torch.inf) for key, name in sizes}
    metadata = {**model.metadata, **get_latest_global_state(only_metadata_related=True)}
    metadata = {key: str(int(value)) if isinstance(value, bool) else str(value) for key, value in metadata.items()}
    metadata[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(target["input"])
    metadata[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(target["output"])
    aot_export_model(
        model=model, device=torch.device("cpu"), input_fields=target["input"], output_fields=target["output"],
        data=target["data_settings"](data), batch_map=target["batch_map_settings"](dims), output_path=path,
        inductor_configs={"aot_inductor.metadata": metadata}, seed=1,
    )  # fmt: skip


if __name__ == "__main__":
    export(sys.argv[1])
