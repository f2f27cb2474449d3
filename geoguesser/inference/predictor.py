"""Locator: a trained network with its region, grid, decoder and preprocessing. No Lightning, no Hydra.

One checkpoint holds all of it as plain values and tensors, and loads with `weights_only=True`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoguesser.arrays import FloatArray
from geoguesser.data.images import ImageSpec
from geoguesser.errors import CheckpointError, GeoguesserError, MissingFileError, UnknownKindError, first_line
from geoguesser.geo.region import Region, restore_region
from geoguesser.inference.predictions import Predictions, calibrate
from geoguesser.model.network import GeoNetwork, restore_network
from geoguesser.model.uncertainty import Calibration, HeadOutput, decode_output, restore_calibration
from geoguesser.system.files import open_replacement
from geoguesser.system.versions import __version__

FORMAT = 2  # 1 had heads that did not scale what they are given
PREFIX = "network."  # of the network's tensors in a training checkpoint's state dict


class Predictor:
    """Says where places are.

    Args:
        network: The trained network.
        region: The land it was trained for.
        image: How views are brought to the size it was trained with.
        data: The fingerprint of the data it was trained on; None where it is not known.
        calibration: The state of the run's `uncertainty.Calibration`; None where there is none.
    """

    def __init__(
        self,
        network: GeoNetwork,
        region: Region,
        image: ImageSpec,
        data: dict[str, Any] | None = None,
        calibration: dict[str, Any] | None = None,
    ) -> None:
        self.network = network.eval()
        self.region = region
        self.image = image
        self.data, self.calibration = data, calibration

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Predictor:
        """Loads a run folder (its best checkpoint) or a checkpoint file.

        Raises:
            MissingFileError: There is none.
            CheckpointError: It is no locator, or of a newer format.
        """
        file = find_checkpoint(path)
        checkpoint = read_checkpoint(file)
        try:
            locator = cls.from_record(_to_arrays(checkpoint["geoguesser"]))
            tensors = to_tensors(checkpoint)
        except UnknownKindError as error:
            raise UnknownKindError(f"{file} cannot be loaded: {error}") from error
        except GeoguesserError:
            raise
        except Exception as error:  # whatever is missing or not as it should be
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError.at(str(file), f"does not describe a model ({reason})") from error
        try:
            locator.network.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(f"{file} does not fit the network that it describes: {error}") from error
        locator.network.to(device)
        return locator

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Predictor:
        """Makes a locator from plain values and arrays; its weights are still to be loaded.

        Args:
            record: `region`, `network` and `image` from `make_record`; `data` and `calibration` if they are known.

        Raises:
            Exception: A value is missing or wrong; of any type, because the record comes from a file.
        """
        region = restore_region(record["region"])
        try:
            network = restore_network(region, record["network"])
        except UnknownKindError as error:
            raise UnknownKindError(f"{error} {_advise_extensions(record)}") from error
        calibration = record.get("calibration")
        if calibration is not None:
            restore_calibration(calibration)
        return cls(network, region, ImageSpec(**record["image"]), record.get("data"), calibration)

    def save(self, path: str | Path) -> None:
        """Writes one file that `load` reads, atomically."""
        tensors = {PREFIX + key: value.cpu() for key, value in self.network.state_dict().items()}
        record = make_record(self.network, self.region, self.image)
        record |= {"data": self.data, "calibration": self.calibration}
        write_checkpoint(Path(path), {"geoguesser": record, "state_dict": tensors})

    @torch.no_grad()
    def predict(self, images: Tensor, mask: Tensor | None = None) -> FloatArray:
        """Predicts coordinates.

        Args:
            images: (B, 4, 3, S, S) uint8, headings 0, 90, 180, 270, at the locator's image size.
            mask: (B, 4) bool, true where there is a view; None for all.

        Returns:
            (B, 2) latitude and longitude in degrees.
        """
        coords: FloatArray = self.network.head.decode(self._output(images, mask)).cpu().double().numpy()
        return coords

    @torch.no_grad()
    def said(self, images: Tensor, mask: Tensor | None = None) -> HeadOutput:
        """What the head says of places, as `predict` takes them: points, logits, the cells' points."""
        return decode_output(self.network.head, self._output(images, mask))

    def answer(self, images: Tensor, mask: Tensor | None = None) -> Predictions:
        """Predicts coordinates, and how sure they are, of places as `predict` takes them."""
        return self.complete(self.said(images, mask))

    def complete(self, said: HeadOutput) -> Predictions:
        """What the head said of places, with what calibration places taught."""
        return calibrate(said, self.region, self.network.head.grid, self.uncertainty)

    @torch.no_grad()
    def prior(self) -> HeadOutput:
        """What the head says of one place of which nothing is seen: its features are the training places' mean."""
        head = self.network.head
        return decode_output(head, head(head.centre[None]))

    @property
    def uncertainty(self) -> Calibration | None:
        """What the run's calibration places taught; None where it had none."""
        return None if self.calibration is None else restore_calibration(self.calibration)

    def _output(self, images: Tensor, mask: Tensor | None) -> Tensor:
        device = next(self.network.parameters()).device
        mask = torch.ones(images.shape[:2], dtype=torch.bool) if mask is None else mask
        out: Tensor = self.network(images.to(device), mask.to(device))
        return out


def write_checkpoint(file: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint atomically: one that `read_checkpoint` read, with more in its record."""
    with open_replacement(file) as stream:
        torch.save(checkpoint, stream)


def to_tensors(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The network's tensors of a checkpoint that `read_checkpoint` read, under the network's own names."""
    state: dict[str, Tensor] = checkpoint["state_dict"]
    tensors = {key[len(PREFIX) :]: value for key, value in state.items() if key.startswith(PREFIX)}
    if checkpoint["geoguesser"]["format"] == 1:
        width = tensors["head.linear.weight"].shape[1]
        tensors |= {"head.centre": torch.zeros(width), "head.spread": torch.ones(())}
    return tensors


def make_record(network: GeoNetwork, region: Region, image: ImageSpec) -> dict[str, Any]:
    """Plain values and tensors from which a locator is made again; the weights lie beside it."""
    record: dict[str, Any] = _to_tensors(
        {
            "format": FORMAT,
            "version": __version__,
            "region": region.state(),
            "network": network.state(),
            "image": {"size": image.size, "fit": image.fit},
        }
    )
    return record


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a path means: a file itself, or the best checkpoint of a run folder.

    Raises:
        MissingFileError: There is none.
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
    """Reads a checkpoint's plain values and tensors.

    Raises:
        CheckpointError: It is none of ours, or of a newer format.
    """
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        found = int(checkpoint["geoguesser"]["format"])
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, KeyError) or reason.startswith("Weights only load failed"):
            reason = "it was written by another program"
        raise CheckpointError(f"{file} is no checkpoint of geoguesser: {reason}") from error
    if found > FORMAT:
        raise CheckpointError(f"{file} has format {found}; this version reads up to {FORMAT}. Update geoguesser.")
    loaded: dict[str, Any] = checkpoint
    return loaded


def _advise_extensions(record: Mapping[str, Any]) -> str:
    """Returns the remedy for a kind that no imported module registers."""
    packages = (record.get("config") or {}).get("extensions")
    if not packages:
        return "If a package of yours registers the kind, add extensions=[PACKAGE]."
    return f"The model was trained with extensions: add extensions=[{','.join(map(str, packages))}]."


def _to_tensors(value: Any) -> Any:
    """NumPy arrays become tensors: `weights_only=True` refuses arrays."""
    if isinstance(value, dict):
        return {key: _to_tensors(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_arrays(one) for key, one in value.items()}
    return value.numpy() if isinstance(value, Tensor) else value
