"""Networks that start from another run's checkpoint, or resume their own."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import EarlyStopping

from geoguesser.data.fingerprint import find_differing_parts
from geoguesser.errors import CheckpointError
from geoguesser.inference.checkpoint import find_checkpoint, get_network_state, read_checkpoint
from geoguesser.inference.ensemble import equal_states
from geoguesser.model.decoder import restore_decoder
from geoguesser.model.fusion import complete_fusion_state
from geoguesser.model.network import GeoNetwork


def load_initial_weights(network: GeoNetwork, path: str) -> tuple[str, bool]:
    """Loads the weights of another run folder or checkpoint into a new network.

    Loads all weights if both heads give outputs of the same meaning, otherwise those of the backbone. Returns a
    line for the log, and whether all weights were loaded.

    Raises:
        MissingFileError: There is no such run.
        CheckpointError: The file is not a checkpoint of this package, or has another backbone.
    """
    checkpoint = read_checkpoint(find_checkpoint(path))
    saved = checkpoint["geoguesser"]["network"]
    backbone = saved["backbone"]["name"]
    if backbone != network.backbone.name:
        rule = f"must have the backbone {network.backbone.name}"
        raise CheckpointError.at(f"init_from={path}", rule, found=backbone)

    tensors = get_network_state(checkpoint)
    same_outputs = equal_states(_get_output_state(saved), _get_output_state(network.state()))
    if same_outputs:
        # Class points may differ: they are those of the new run's training places.
        loaded = {key: value for key, value in tensors.items() if key != "head.class_vectors"}
        line = f"network from {path}"
    else:
        loaded = {key: value for key, value in tensors.items() if key.startswith("backbone.")}
        line = f"backbone from {path}; fusion and head start afresh, for their cells or shapes differ"
    network.load_state_dict(network.state_dict() | loaded)
    return line, same_outputs


def resume_network(network: GeoNetwork, checkpoint: dict[str, Any], where: str) -> None:
    """Loads the network of a checkpoint, named `where` in errors, into one made from the current data and config.

    Raises CheckpointError if cells, class points or another part differ: data or config are not those of the run.
    """
    saved, current = dict(checkpoint["geoguesser"]["network"]), network.state()
    saved["fusion"] = complete_fusion_state(saved["fusion"])

    # Version 0.1 recorded decoder=auto of unfinished runs, which is the median today.
    if (decoder := saved["head"].get("decoder")) is not None:
        saved["head"] = saved["head"] | {"decoder": restore_decoder(decoder).state()}

    parts = [part for part in current if not equal_states(saved.get(part), current[part])]
    if parts:
        differ = "differs" if len(parts) == 1 else "differ"
        raise CheckpointError(
            f"{where} cannot be resumed: its {' and '.join(parts)} {differ} from what data and config now give. "
            "Resume with the run's own data and keys, or start a new run with init_from=RUN_FOLDER."
        )
    network.load_state_dict(get_network_state(checkpoint))


def check_same_data(checkpoint: dict[str, Any], fingerprint: dict[str, Any], where: str) -> None:
    """Raises CheckpointError if a run would be resumed with other data, down to the bytes of the images."""
    saved = checkpoint["geoguesser"].get("data")
    parts = [] if saved is None else find_differing_parts(saved, fingerprint)
    if parts:
        raise CheckpointError(
            f"{where} cannot be resumed: its data differ from those given now in {'; '.join(parts)}. "
            "Resume with the run's own data, or start a new run with init_from=RUN_FOLDER."
        )


def is_stopped_early(checkpoint: dict[str, Any], callbacks: list[Any]) -> bool:
    """Returns whether early stopping had ended the run of a checkpoint.

    Lightning saves the count of validations without improvement, not the decision. With more patience than before,
    the run continues.
    """
    states = checkpoint.get("callbacks", {})
    stoppers = [item for item in callbacks if isinstance(item, EarlyStopping) and item.state_key in states]
    return any(states[stopper.state_key]["wait_count"] >= stopper.patience for stopper in stoppers)


def _get_output_state(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts of a network's state that decide the meaning of the head's outputs."""
    head = {key: value for key, value in state["head"].items() if key not in ("grid", "decoder")}
    grid = state["head"].get("grid")
    cells = None if grid is None else {"cells": grid["cells"], "kept": grid["kept"]}
    fusion = {key: value for key, value in complete_fusion_state(state["fusion"]).items() if key != "view_dropout"}
    return {"backbone": state["backbone"]["name"], "fusion": fusion, "head": head, "cells": cells}
