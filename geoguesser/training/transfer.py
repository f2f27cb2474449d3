"""Starting a network from what another run learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytorch_lightning.callbacks import EarlyStopping

from geoguesser.data.fingerprint import find_differing_parts
from geoguesser.errors import CheckpointError
from geoguesser.inference.checkpoint import find_checkpoint, get_network_state, read_checkpoint
from geoguesser.model.decoder import restore_decoder
from geoguesser.model.fusion import full_state
from geoguesser.model.network import GeoNetwork


def start_network(network: GeoNetwork, path: str) -> tuple[str, bool]:
    """Loads a run's network into a new one: all of it where the heads mean the same, else the backbone.

    Returns:
        A line that says which, and whether it was all of it.

    Raises:
        MissingFileError: There is no such run.
        CheckpointError: It is no checkpoint of ours, or has another backbone.
    """
    checkpoint = read_checkpoint(find_checkpoint(path))
    given = checkpoint["geoguesser"]["network"]
    if given["backbone"]["name"] != network.backbone.name:
        raise CheckpointError.at(
            f"init_from={path}",
            f"must have the backbone {network.backbone.name}",
            found=given["backbone"]["name"],
        )
    tensors = get_network_state(checkpoint)
    own = network.state_dict()
    if _same(_meaning(given), _meaning(network.state())):
        kept = {
            key: value for key, value in tensors.items() if key != "head.class_vectors"
        }  # points may have moved
        network.load_state_dict(own | kept)
        return f"network from {path}", True
    part = {key: value for key, value in tensors.items() if key.startswith("backbone.")}
    network.load_state_dict(own | part)
    return f"backbone from {path}; fusion and head start afresh, for their cells or shapes differ", False


def resume_network(network: GeoNetwork, checkpoint: dict[str, Any], where: str) -> None:
    """Loads a checkpoint's network into one that must be the same in everything.

    Raises:
        CheckpointError: Cells, class points or another part differ: data or config are not those of the run.
    """
    given, own = dict(checkpoint["geoguesser"]["network"]), network.state()
    given["fusion"] = full_state(given["fusion"])

    # Version 0.1 recorded decoder=auto of unfinished runs, which is the median today.
    if (decoder := given["head"].get("decoder")) is not None:
        given["head"] = given["head"] | {"decoder": restore_decoder(decoder).state()}

    parts = [part for part in own if not _same(given.get(part), own[part])]
    if parts:
        differ = "differs" if len(parts) == 1 else "differ"
        raise CheckpointError(
            f"{where} cannot be resumed: its {' and '.join(parts)} {differ} from what data and config now give. "
            "Resume with the run's own data and keys, or start a new run with init_from=RUN_FOLDER."
        )
    network.load_state_dict(get_network_state(checkpoint))


def check_same_data(checkpoint: dict[str, Any], here: dict[str, Any], where: str) -> None:
    """Refuses to resume with data that are not those of the run, down to the bytes of its images.

    Args:
        checkpoint: What `read_checkpoint` read.
        here: The fingerprint of the data at hand.
        where: The checkpoint, for the message.

    Raises:
        CheckpointError: They differ; the message says in what.
    """
    there = checkpoint["geoguesser"].get("data")
    found = [] if there is None else find_differing_parts(there, here)
    if found:
        raise CheckpointError(
            f"{where} cannot be resumed: its data differ from those given now in {'; '.join(found)}. "
            "Resume with the run's own data, or start a new run with init_from=RUN_FOLDER."
        )


def is_stopped_early(checkpoint: dict[str, Any], callbacks: list[Any]) -> bool:
    """Whether early stopping had ended the run of a checkpoint: Lightning keeps the count, not the decision.

    Args:
        checkpoint: What `read_checkpoint` read.
        callbacks: Those of the run at hand; more patience than the run had lets it go on.
    """
    states = checkpoint.get("callbacks", {})
    stops = [one for one in callbacks if isinstance(one, EarlyStopping) and one.state_key in states]
    return any(states[one.state_key]["wait_count"] >= one.patience for one in stops)


def _meaning(state: dict[str, Any]) -> dict[str, Any]:
    """What an output of the head means: not class points, decoder nor view dropout, which may change freely."""
    head = {key: value for key, value in state["head"].items() if key not in ("grid", "decoder")}
    grid = state["head"].get("grid")
    cells = None if grid is None else {"cells": grid["cells"], "kept": grid["kept"]}
    fusion = {key: value for key, value in full_state(state["fusion"]).items() if key != "view_dropout"}
    return {"backbone": state["backbone"]["name"], "fusion": fusion, "head": head, "cells": cells}


def _same(given: Any, own: Any) -> bool:
    """Whether two states mean the same: cells, class points, scales; arrays may come as tensors."""
    if isinstance(own, dict):
        return isinstance(given, dict) and given.keys() == own.keys() and all(_same(given[k], own[k]) for k in own)
    return bool(np.array_equal(np.asarray(given), np.asarray(own)))
