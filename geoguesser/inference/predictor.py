"""Trained network with its region, image preprocessing and calibration. No Lightning, no Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def check_record(
    model: Path, file: Path, *, passed: type[GeoguesserError] = GeoguesserError, remedy: str = ""
) -> Iterator[None]:
    """Raises `CheckpointError` for any error of a record, whose values may be missing or wrong, but `passed`."""
    try:
        yield
    except UnknownKindError as error:
        raise UnknownKindError(f"{model} cannot be loaded: {error}") from error
    except passed:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError.at(str(file), f"does not describe a model ({reason})", remedy=remedy) from error


def load_weights(network: GeoNetwork, state: dict[str, Tensor], message: str) -> None:
    """Loads the weights of a network; raises `CheckpointError` with the message if names or shapes differ."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{message}: {error}") from error


class Predictor:
    """Predicts the coordinates of places from their views.

    `image` is the size of the views and the way they are made square, as in training. `data` is the fingerprint of
    the training data, None if unknown. `calibration` is the state of the run's `uncertainty.Calibration`; None for
    a run without.
    """

    def __init__(
        self,
        network: GeoNetwork,
        region: Region,
        image: ImageSpec,
        data: dict[str, Any] | None = None,
        calibration: dict[str, Any] | None = None,
    ) -> None:
        self.network, self.region, self.image = network.eval(), region, image
        self.data, self.calibration = data, calibration

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Predictor:
        """Loads a run folder (its best checkpoint) or a checkpoint file."""
        file = find_checkpoint(path)
        checkpoint = read_checkpoint(file)

        with check_record(file, file):
            state = get_network_state(checkpoint)
            with limit_allocation(state.values()):
                predictor = cls.from_record(to_plain_arrays(checkpoint["geoguesser"]))
        load_weights(predictor.network, state, f"{file} does not fit the network that it describes")
        predictor.network.to(device)
        return predictor

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Predictor:
        """Makes a predictor without its weights from `region`, `network` and `image` of `make_record`.

        `data` and `calibration` may be missing. Raises errors of any type if another value is missing or wrong.
        """
        region = restore_region(record["region"])
        try:
            network = restore_network(region, record["network"])
        except UnknownKindError as error:
            raise UnknownKindError(f"{error} {_advise_extensions(record)}") from error
        predictor = cls(
            network, region, ImageSpec(**record["image"]), record.get("data"), record.get("calibration")
        )
        # A wrong state fails here and not at the first prediction.
        _ = predictor.uncertainty
        return predictor

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
        return self.network.head.decode(self._forward(images, mask)).cpu().double().numpy()

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
        return self.network(images.to(device), mask.to(device))


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
