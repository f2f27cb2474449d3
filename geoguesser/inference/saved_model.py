"""Model folder: a trained model as two files without pickle: tensors and plain values.

Written from a locator and read into one; docs/export.md describes both files. Asking it is portable.py's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from geoguesser.data.images import choose_decoder
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import CheckpointError, MissingFileError, UnknownKindError, first_line
from geoguesser.inference.predictor import Predictor, find_checkpoint, make_record
from geoguesser.model.network import GeoNetwork

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DESCRIBED = ("views", "region", "network", "calibration", "data")  # of config.json: what the model is made from
NETWORK, RECORD = "network.", "config."  # how tensors' names begin: the network's, and what config.json refers to
REMEDY = "Export it again."
PACKAGES = ("torch", "timm", "numpy", "safetensors", "pyproj", "shapely")


def write_model(locator: Predictor, folder: Path, about: Mapping[str, Any]) -> None:
    """Writes `model.safetensors` and `config.json` into a folder that exists.

    Args:
        locator: The trained network with all that it needs.
        folder: Where; what has these names is overwritten.
        about: Further plain values for config.json.
    """
    tensors: dict[str, Tensor] = {}
    record = make_record(locator.network, locator.region, locator.image)
    plain = {name: _without_tensors(record[name], f"{name}", tensors) for name in ("region", "network")}
    for name, value in locator.network.state_dict().items():
        tensors[NETWORK + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    data = tensor_bytes(tensors, {"format": "pt"})
    config = {
        "format": FORMAT,
        "versions": {name: version(name) for name in ("geoguesser", *PACKAGES)},
        **about,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "views": {
            "size": locator.image.size,
            "fit": locator.image.fit,
            "headings": list(HEADINGS),
            "pixels": "uint8 RGB (4, 3, size, size), normalised by the network itself",
            "decoder": choose_decoder(),
        },
        **plain,
        "calibration": locator.calibration,
        "data": locator.data,
    }
    config["description_sha256"] = _digest_of(json.loads(json.dumps(config)))
    (folder / WEIGHTS).write_bytes(data)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_model(folder: Path, *, device: str | torch.device = "cpu") -> tuple[Predictor, dict[str, Any]]:
    """Reads a folder that `write_model` wrote.

    Returns:
        The locator, and what config.json says beside what that is made from.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: It is damaged, incomplete, or of a newer format.
    """
    config = _read_config(folder / CONFIG)
    tensors = _read_weights(folder / WEIGHTS, str(config.get("weights_sha256")))
    where = str(folder / CONFIG)
    if config.get("description_sha256") != _digest_of(config):
        raise CheckpointError.at(
            where, f"is damaged or was changed by hand: the SHA-256 of {', '.join(DESCRIBED)} is not that in it",
            remedy="Copy the folder again, or export it again.",
        )  # fmt: skip
    try:
        state = _with_arrays(config["network"], tensors, folder)
        if ":" in state["backbone"]["name"]:  # timm would fetch what stands behind the colon
            raise CheckpointError.at(where, "must name a model that timm holds", found=state["backbone"]["name"])
        locator = Predictor.from_record(
            {
                "region": _with_arrays(config["region"], tensors, folder),
                "network": state,
                "image": {"size": config["views"]["size"], "fit": config["views"]["fit"]},
                "data": config["data"],
                "calibration": config["calibration"],
                "config": {"extensions": config.get("extensions")},
            }
        )
    except UnknownKindError as error:
        raise UnknownKindError(f"{where} cannot be loaded: {error}") from error
    except CheckpointError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError.at(where, f"does not describe a model ({reason})", remedy=REMEDY) from error
    _fill(locator.network, tensors, str(folder / WEIGHTS))
    locator.network.to(device)
    known = ("region", "network", "calibration", "data", "weights_sha256", "description_sha256")
    return locator, {name: value for name, value in config.items() if name not in known}


def open_predictor(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[Predictor, dict[str, Any]]:
    """Opens whatever holds a trained network.

    Args:
        path: A folder that `write_model` wrote, a run folder (its best checkpoint is taken), or a checkpoint file.
        device: Where it works.

    Returns:
        The locator, and what the folder says beside it; nothing of a run or a checkpoint.

    Raises:
        MissingFileError: There is none.
        CheckpointError: It is damaged, incomplete, or of a newer format.
    """
    given = Path(path).expanduser()
    if (given / CONFIG).is_file():
        return read_model(given, device=device)
    if (given / WEIGHTS).is_file():
        raise MissingFileError.at(str(given), f"must hold {CONFIG} beside {WEIGHTS}", remedy=REMEDY)
    return Predictor.load(given, device=device), {}


def find_network_file(path: str | Path) -> Path:
    """The file with the weights of what `open_predictor` opens.

    Raises:
        MissingFileError: There is none.
    """
    given = Path(path).expanduser()
    return given / WEIGHTS if (given / CONFIG).is_file() else find_checkpoint(given)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError.at(str(file), f"is no description of a model ({first_line(error)})") from error
    found = config.get("format") if isinstance(config, dict) else None
    if type(found) is not int or found < 1:
        raise CheckpointError.at(str(file), "is no description of a model (it has no format)", remedy=REMEDY)
    if found > FORMAT:
        raise CheckpointError.at(
            str(file), f"must have a format up to {FORMAT}", found=found, remedy="Update geoguesser."
        )
    whole: dict[str, Any] = config
    return whole


def _digest_of(config: Mapping[str, Any]) -> str:
    """The SHA-256 of what a model is made from, in JSON with sorted keys."""
    text = json.dumps([config.get(name) for name in DESCRIBED], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_weights(file: Path, digest: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise MissingFileError.at(str(file), f"must lie beside {CONFIG}", remedy="Copy the folder again.")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError.at(
            str(file), f"is damaged or of another model: its SHA-256 is not that in {CONFIG}",
            remedy="Copy the folder again.",
        )  # fmt: skip
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise CheckpointError.at(str(file), f"holds no tensors ({first_line(error)})") from error


def _fill(network: GeoNetwork, tensors: dict[str, Tensor], file: str) -> None:
    """Loads the weights; all of them, and no others."""
    own = network.state_dict()
    given = {name[len(NETWORK) :]: value for name, value in tensors.items() if name.startswith(NETWORK)}
    lacking = sorted(set(own) - set(given))
    if lacking:
        raise CheckpointError.at(
            file, f"lacks {len(lacking)} of {len(own)} tensors, {NETWORK}{lacking[0]} the first"
        )
    unknown = sorted(set(given) - set(own))
    if unknown:
        raise CheckpointError.at(file, f"holds {NETWORK}{unknown[0]}, which its model does not have")
    for name, value in given.items():
        if value.shape != own[name].shape:
            rule = f"must hold {NETWORK}{name} of shape {tuple(own[name].shape)}"
            raise CheckpointError.at(file, rule, found=tuple(value.shape))
    network.load_state_dict(given)


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Plain values, with the name of a tensor in place of each."""
    if isinstance(value, dict):
        return {key: _without_tensors(one, f"{name}.{key}", tensors) for key, one in value.items()}
    if isinstance(value, Tensor):
        tensors[RECORD + name] = value.contiguous()
        return {"tensor": RECORD + name}
    return value


def _with_arrays(value: Any, tensors: dict[str, Tensor], folder: Path) -> Any:
    """The inverse of `_without_tensors`, with arrays."""
    if not isinstance(value, dict):
        return value
    if set(value) != {"tensor"}:
        return {key: _with_arrays(one, tensors, folder) for key, one in value.items()}
    if value["tensor"] not in tensors:
        raise CheckpointError.at(str(folder / WEIGHTS), f"lacks the tensor {value['tensor']}")
    return tensors[value["tensor"]].numpy()
