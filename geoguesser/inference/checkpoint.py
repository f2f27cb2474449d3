"""Checkpoint files: plain values and tensors of a trained model, loaded with `weights_only=True`.

The entry `geoguesser` is a record of region, grid, decoder and preprocessing; `state_dict` holds the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoguesser.data.images import ImageSpec
from geoguesser.errors import CheckpointError, MissingFileError, first_line
from geoguesser.geo.region import Region
from geoguesser.model.network import GeoNetwork
from geoguesser.system.files import open_replacement
from geoguesser.system.tensor_files import load_tensors
from geoguesser.system.versions import __version__

# Heads of format 1 did not standardise their input features.
CHECKPOINT_FORMAT = 2
# Prefix of the network's tensors in a state dict, which is that of the Lightning module.
STATE_PREFIX = "network."


def find_checkpoint(path: str | Path) -> Path:
    """Returns the checkpoint file at a path: the file itself, or the best checkpoint of a run folder.

    Raises:
        MissingFileError: There is no checkpoint.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return given

    best = given / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise MissingFileError.at(
            str(given),
            "must be a run folder with checkpoints/best.ckpt, or a checkpoint file",
            remedy="Runs lie in outputs/DATE/TIME.",
        )
    return best


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Reads the plain values and tensors of a checkpoint.

    Raises:
        CheckpointError: The file is no checkpoint of this package, or has a newer format.
    """
    try:
        checkpoint: dict[str, Any] = load_tensors(file)
        version = int(checkpoint["geoguesser"]["format"])
    except Exception as error:
        reason = "it was written by another program" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(f"{file} is no checkpoint of geoguesser: {reason}") from error

    if version > CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{file} has format {version}; this version reads up to {CHECKPOINT_FORMAT}. Update geoguesser."
        )
    return checkpoint


def write_checkpoint(file: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint, as `read_checkpoint` returns it, atomically."""
    with open_replacement(file) as stream:
        torch.save(checkpoint, stream)


def get_network_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the state dict of the network in a checkpoint."""
    state: dict[str, Tensor] = {
        key[len(STATE_PREFIX) :]: value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(STATE_PREFIX)
    }
    if checkpoint["geoguesser"]["format"] == 1:
        width = state["head.linear.weight"].shape[1]
        state |= {"head.centre": torch.zeros(width), "head.spread": torch.ones(())}
    return state


def make_record(network: GeoNetwork, region: Region, image: ImageSpec) -> dict[str, Any]:
    """Returns the plain values and tensors, without weights, from which a predictor is restored."""
    record: dict[str, Any] = to_plain_tensors(
        {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "region": region.state(),
            "network": network.state(),
            "image": {"size": image.size, "fit": image.fit},
        }
    )
    return record


def to_plain_tensors(value: Any) -> Any:
    """Replaces NumPy arrays in nested mappings by tensors, because `weights_only=True` refuses arrays."""
    if isinstance(value, dict):
        return {key: to_plain_tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def to_plain_arrays(value: Any) -> Any:
    """Replaces tensors in nested mappings by NumPy arrays: the inverse of `to_plain_tensors`."""
    if isinstance(value, dict):
        return {key: to_plain_arrays(item) for key, item in value.items()}
    return value.numpy() if isinstance(value, Tensor) else value
