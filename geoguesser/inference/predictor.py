"""Trained network with its region, image preprocessing and calibration. No Lightning, no Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoguesser.arrays import FloatArray
from geoguesser.data.images import ImageSpec
from geoguesser.errors import CheckpointError, ConfigError, GeoguesserError, UnknownKindError, first_line
from geoguesser.geo.region import Region, restore_region
from geoguesser.inference.checkpoint import (
    STATE_PREFIX,
    find_checkpoint,
    get_network_state,
    make_record,
    read_checkpoint,
    to_plain_arrays,
    write_checkpoint,
)
from geoguesser.inference.predictions import Predictions, calibrate
from geoguesser.model.network import GeoNetwork, restore_network
from geoguesser.model.uncertainty import Calibration, HeadOutput, decode_output, restore_calibration
from geoguesser.system.tensor_files import limit_allocation


class Predictor:
    """Predicts the coordinates of places from their views.

    Args:
        network: Trained network.
        region: Region that the network was trained for.
        image: Size of the views and the way they are made square, as in training.
        data: Fingerprint of the training data; None if unknown.
        calibration: State of the run's `uncertainty.Calibration`; None for a run without calibration.
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
        self.data = data
        self.calibration = calibration

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Predictor:
        """Loads a run folder (its best checkpoint) or a checkpoint file."""
        file = find_checkpoint(path)
        checkpoint = read_checkpoint(file)

        try:
            state = get_network_state(checkpoint)
            with limit_allocation(state.values()):
                predictor = cls.from_record(to_plain_arrays(checkpoint["geoguesser"]))
        except UnknownKindError as error:
            raise UnknownKindError(f"{file} cannot be loaded: {error}") from error
        except GeoguesserError:
            raise
        except Exception as error:
            # The record comes from a file, so any value may be missing or wrong.
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError.at(str(file), f"does not describe a model ({reason})") from error

        try:
            predictor.network.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"{file} does not fit the network that it describes: {error}") from error
        predictor.network.to(device)
        return predictor

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Predictor:
        """Makes a predictor without its weights from `region`, `network` and `image` of `make_record`.

        Args:
            record: Plain values and arrays; `data` and `calibration` may be missing.

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
            # Only a check: a wrong state fails here and not at the first prediction.
            restore_calibration(calibration)
        return cls(network, region, ImageSpec(**record["image"]), record.get("data"), calibration)

    def save(self, path: str | Path) -> None:
        """Writes a checkpoint file that `load` reads, atomically."""
        state = {STATE_PREFIX + key: value.cpu() for key, value in self.network.state_dict().items()}
        record = make_record(self.network, self.region, self.image)
        record |= {"data": self.data, "calibration": self.calibration}
        write_checkpoint(Path(path), {"geoguesser": record, "state_dict": state})

    @torch.no_grad()
    def predict_coords(self, images: Tensor, mask: Tensor | None = None) -> FloatArray:
        """Predicts coordinates only.

        Args:
            images: (B, 4, 3, S, S) uint8 at headings 0, 90, 180 and 270, with S the predictor's image size.
            mask: (B, 4) bool, true for views that are present; None if all are.

        Returns:
            (B, 2) latitude and longitude in degrees.
        """
        coords: FloatArray = self.network.head.decode(self._forward(images, mask)).cpu().double().numpy()
        return coords

    @torch.no_grad()
    def compute_output(self, images: Tensor, mask: Tensor | None = None) -> HeadOutput:
        """Computes points, logits and class points, before calibration. Arguments as in `predict_coords`."""
        return decode_output(self.network.head, self._forward(images, mask))

    def predict(self, images: Tensor, mask: Tensor | None = None) -> Predictions:
        """Predicts coordinates with their uncertainty. Arguments as in `predict_coords`."""
        return self.calibrate_output(self.compute_output(images, mask))

    def calibrate_output(self, output: HeadOutput) -> Predictions:
        return calibrate(output, self.region, self.network.head.grid, self.uncertainty)

    @torch.no_grad()
    def compute_prior(self) -> HeadOutput:
        """Computes the output for one place without images: for the mean training features."""
        head = self.network.head
        return decode_output(head, head(head.centre[None]))

    @property
    def uncertainty(self) -> Calibration | None:
        """The run's calibration as an object; None for a run without."""
        return None if self.calibration is None else restore_calibration(self.calibration)

    def _forward(self, images: Tensor, mask: Tensor | None) -> Tensor:
        device = next(self.network.parameters()).device
        mask = torch.ones(images.shape[:2], dtype=torch.bool) if mask is None else mask
        output: Tensor = self.network(images.to(device), mask.to(device))
        return output


def choose_device(name: str) -> torch.device:
    """Returns the device that the config key `device` names; `auto` is CUDA if available, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"

    try:
        device = torch.device(name)
        # Only an allocation shows whether the device can be used.
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError.at("device", "must be auto or a device of this machine", found=name) from error
    return device


def _advise_extensions(record: Mapping[str, Any]) -> str:
    """Returns the remedy for a kind that no imported module registers."""
    packages = (record.get("config") or {}).get("extensions")
    if not packages:
        return "If a package of yours registers the kind, add extensions=[PACKAGE]."
    return f"The model was trained with extensions: add extensions=[{','.join(map(str, packages))}]."
