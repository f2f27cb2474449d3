"""Exported model as two files without pickle: tensors and plain values. docs/export.md describes both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from geoguesser.data.images import describe_decoder
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import CheckpointError, MissingFileError, first_line
from geoguesser.inference.checkpoint import find_checkpoint, make_record
from geoguesser.inference.predictor import Predictor, check_record, load_weights
from geoguesser.system.received_files import MAX_JSON_BYTES, parse_json, read_regular
from geoguesser.system.tensor_files import MAX_FILE_BYTES, limit_allocation

FOLDER_FORMAT = 1
CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
# Keys of config.json from which a predictor is restored.
MODEL_KEYS = ("views", "region", "network", "calibration", "data")
# Prefixes of tensor names: weights of the network, and arrays that config.json refers to.
NETWORK_PREFIX, CONFIG_PREFIX = "network.", "config."
EXPORT_AGAIN = "Export it again."
RECORDED_PACKAGES = ("torch", "timm", "numpy", "safetensors", "pyproj", "shapely")


def write_model_folder(predictor: Predictor, folder: Path, about: Mapping[str, Any]) -> None:
    """Writes `model.safetensors`, and `config.json` with the values of `about`, into an existing folder."""
    tensors: dict[str, Tensor] = {}
    record = make_record(predictor.network, predictor.region, predictor.image)
    parts = {name: _replace_tensors(record[name], name, tensors) for name in ("region", "network")}
    for name, value in predictor.network.state_dict().items():
        tensors[NETWORK_PREFIX + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    data = to_bytes(tensors, {"format": "pt"})

    config = {
        "format": FOLDER_FORMAT,
        "versions": {name: version(name) for name in ("geoguesser", *RECORDED_PACKAGES)},
        **about,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "views": {
            "size": predictor.image.size,
            "fit": predictor.image.fit,
            "headings": list(HEADINGS),
            "pixels": "uint8 RGB (4, 3, size, size), normalised by the network itself",
            "decoder": describe_decoder(),
        },
        **parts,
        "calibration": predictor.calibration,
        "data": predictor.data,
    }
    # The digest is of the values as they are read back: JSON has no tuples.
    config["description_sha256"] = _compute_description_digest(json.loads(json.dumps(config)))
    (folder / WEIGHTS_NAME).write_bytes(data)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_model_folder(folder: Path, *, device: str | torch.device = "cpu") -> tuple[Predictor, dict[str, Any]]:
    """Reads a folder that `write_model_folder` wrote. Results and errors as for `open_predictor`."""
    config_file, weights_file = folder / CONFIG_NAME, folder / WEIGHTS_NAME
    config = _read_config(config_file)
    tensors = _read_weights(weights_file, str(config.get("weights_sha256")))
    if config.get("description_sha256") != _compute_description_digest(config):
        rule = f"is damaged or was edited: the SHA-256 of {', '.join(MODEL_KEYS)} differs from the recorded one"
        raise CheckpointError.at(str(config_file), rule, remedy="Copy the folder again, or export it again.")

    with check_record(folder, config_file, passed=CheckpointError, remedy=EXPORT_AGAIN):
        network_state = _restore_arrays(config["network"], tensors, weights_file)
        record = {
            "region": _restore_arrays(config["region"], tensors, weights_file),
            "network": network_state,
            "image": {"size": config["views"]["size"], "fit": config["views"]["fit"]},
            "data": config["data"],
            "calibration": config["calibration"],
            "config": {"extensions": config.get("extensions")},
        }
        with limit_allocation(tensors.values()):
            predictor = Predictor.from_record(record)

    prefix = len(NETWORK_PREFIX)
    weights = {name[prefix:]: value for name, value in tensors.items() if name.startswith(NETWORK_PREFIX)}
    message = f"{weights_file} does not fit the network that {CONFIG_NAME} describes"
    load_weights(predictor.network, weights, message)
    predictor.network.to(device)
    used = ("region", "network", "calibration", "data", "weights_sha256", "description_sha256")
    return predictor, {name: value for name, value in config.items() if name not in used}


def open_predictor(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[Predictor, dict[str, Any]]:
    """Opens an exported folder, a run folder or a checkpoint file.

    Returns:
        The predictor, and those entries of config.json that are not part of it; none for a run or a checkpoint.

    Raises:
        MissingFileError: There is no such file or folder.
        CheckpointError: The model is damaged, incomplete, or has a newer format.
    """
    given = Path(path).expanduser()
    if (given / CONFIG_NAME).is_file():
        return read_model_folder(given, device=device)
    if (given / WEIGHTS_NAME).is_file():
        rule = f"must hold {CONFIG_NAME} beside {WEIGHTS_NAME}"
        raise MissingFileError.at(str(given), rule, remedy=EXPORT_AGAIN)
    return Predictor.load(given, device=device), {}


def find_network_file(path: str | Path) -> Path:
    """Returns the file that holds the weights of the model at a path, as for `open_predictor`."""
    given = Path(path).expanduser()
    return given / WEIGHTS_NAME if (given / CONFIG_NAME).is_file() else find_checkpoint(given)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_regular(file, MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise CheckpointError.at(str(file), f"is no description of a model ({first_line(error)})") from error

    found = config.get("format") if isinstance(config, dict) else None
    if type(found) is not int or found < 1:
        rule = "is no description of a model (it has no format)"
        raise CheckpointError.at(str(file), rule, remedy=EXPORT_AGAIN)
    if found > FOLDER_FORMAT:
        rule = f"must have a format up to {FOLDER_FORMAT}"
        raise CheckpointError.at(str(file), rule, found=found, remedy="Update geoguesser.")
    return dict(config)


def _compute_description_digest(config: Mapping[str, Any]) -> str:
    text = json.dumps([config.get(name) for name in MODEL_KEYS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_weights(file: Path, digest: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise MissingFileError.at(str(file), f"must lie beside {CONFIG_NAME}", remedy="Copy the folder again.")

    try:
        data = read_regular(file, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise CheckpointError.at(str(file), f"cannot be read ({first_line(error)})") from error
    if hashlib.sha256(data).hexdigest() != digest:
        rule = f"is damaged or of another model: its SHA-256 is not that in {CONFIG_NAME}"
        raise CheckpointError.at(str(file), rule, remedy="Copy the folder again.")
    try:
        return from_bytes(data)
    except SafetensorError as error:
        raise CheckpointError.at(str(file), f"holds no tensors ({first_line(error)})") from error


def _replace_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Replaces the tensors in nested mappings by references, and collects them in `tensors`."""
    if isinstance(value, dict):
        return {key: _replace_tensors(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, Tensor):
        tensors[CONFIG_PREFIX + name] = value.contiguous()
        return {"tensor": CONFIG_PREFIX + name}
    return value


def _restore_arrays(value: Any, tensors: dict[str, Tensor], file: Path) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) != {"tensor"}:
        return {key: _restore_arrays(item, tensors, file) for key, item in value.items()}
    if value["tensor"] not in tensors:
        raise CheckpointError.at(str(file), f"lacks the tensor {value['tensor']}")
    return tensors[value["tensor"]].numpy()
