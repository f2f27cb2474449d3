"""Python interface: `geoguesser.load` opens an exported folder or a run and predicts. No Hydra, no Lightning."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from geoguesser.arrays import BoolArray, ByteArray
from geoguesser.data.images import ImageSpec, to_upright_rgb
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import ConfigError, DataError, check_int, first_line
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.inference.batch_inference import predict_places
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import UNUSED_NOTE, find_places
from geoguesser.inference.predictions import Predictions, concatenate
from geoguesser.inference.predictor import Predictor, choose_device
from geoguesser.inference.saved_model import open_predictor
from geoguesser.system.extensions import load_extensions

PhotoInput = str | Path | Image.Image
# Heading (0, 90, 180, 270) -> photo.
PlaceInput = Mapping[int, PhotoInput]
ImagesInput = (
    str | Path | PlaceInput | Sequence[str | Path] | Sequence[PlaceInput] | npt.NDArray[np.uint8] | Tensor
)
IMAGE_FORMS = (
    "a path or several, {heading: photo} or several, or uint8 pixels (B, 4, 3, H, W); see geoguesser.Model.predict"
)


class Model:
    """Trained model, made by `geoguesser.load`.

    Attributes:
        predictor: Network with its region and preprocessing.
        about: Further entries of config.json, such as versions; empty for a run.
    """

    def __init__(self, predictor: Predictor, about: Mapping[str, Any] | None = None) -> None:
        self.predictor = predictor
        self.about = dict(about or {})

    @property
    def locator(self) -> Predictor:
        """Name of `predictor` in version 0.1."""
        return self.predictor

    @property
    def region(self) -> Region:
        """Region that the model was trained for."""
        return self.predictor.region

    @property
    def grid(self) -> Grid | None:
        """Grid of the cells; None for a model without cells."""
        return self.predictor.network.head.grid

    @property
    def image(self) -> ImageSpec:
        """Size of the views and the way they are made square."""
        return self.predictor.image

    def predict(
        self, images: ImagesInput, *, mask: npt.NDArray[np.bool_] | Tensor | None = None, batch_size: int = 32
    ) -> Predictions:
        """Predicts the coordinates of places with their uncertainty.

        Args:
            images: One of

                - a path, or a list of paths: a folder of place folders (each with one to four of 0.jpg, 90.jpg,
                  180.jpg, 270.jpg), one such folder, a photo, or a CSV file of paths, as for
                  `python -m geoguesser.predict`. `ids` returns the ids of these places, in order;
                - a mapping from heading to photo for one place, `{0: photo, 90: photo}`, or a list of mappings; a
                  photo is a path or a PIL image;
                - pixels: (B, 4, 3, H, W) uint8 RGB, an array or tensor, at headings 0, 90, 180 and 270. They are
                  cropped and resized as photos are if the size is not the model's.
            mask: (B, 4) true for views that are present, only with pixels; None if all are.
            batch_size: Number of places that the network processes at once.

        Returns:
            Predictions for B places; see `geoguesser.inference.predictions.Predictions`.

        Raises:
            ConfigError: `images` or `mask` has none of these forms.
            MissingFileError: A path does not exist.
            DataError: There is no place, a place has no view, or a photo is broken; the message names it.
        """
        check_int("batch_size", batch_size, low=1)
        if isinstance(images, np.ndarray | Tensor):
            return self._predict_pixels(*_check_pixels(images, mask), batch_size)
        if mask is not None:
            raise ConfigError.at("mask", "can only be given with pixels: absent photos are simply left out")

        items = [images] if isinstance(images, Mapping | str | Path) else images
        if not isinstance(items, Sequence) or not items:
            raise ConfigError.at("images", f"must be {IMAGE_FORMS}", found=type(images).__name__)
        if isinstance(items[0], Mapping):
            return self._predict_mappings(items, batch_size)
        wrong = next((item for item in items if not isinstance(item, str | Path)), None)
        if wrong is not None:
            raise ConfigError.at("images", f"must be {IMAGE_FORMS}", found=f"a {type(wrong).__name__} among them")
        return self._predict_paths(items, batch_size)

    def ids(self, paths: str | Path | Sequence[str | Path]) -> list[str]:
        """Returns the ids of the places for which `predict` returns predictions, given the same paths."""
        is_list = isinstance(paths, Sequence) and not isinstance(paths, str)
        return [place.uuid for place in find_places(list(paths) if is_list else paths)]  # type: ignore[arg-type]

    def _predict_paths(self, paths: Sequence[Any], batch_size: int) -> Predictions:
        parts = []
        places = find_places(list(paths))
        for batch in predict_places(Ensemble([self.predictor]), places, batch_size=batch_size):
            notes = [note for problems in batch.problems for note in problems]
            if broken := [note for note in notes if not note.startswith(UNUSED_NOTE)]:
                remedy = "python -m geoguesser.predict continues without broken images."
                raise DataError.at("images", f"must be complete: {broken[0]}", remedy=remedy)
            assert batch.predictions is not None
            parts.append(batch.predictions)
        return concatenate(parts)

    def _predict_mappings(self, places: Sequence[Any], batch_size: int) -> Predictions:
        size = self.image.size
        pixels = np.zeros((len(places), 4, 3, size, size), dtype=np.uint8)
        mask = np.zeros((len(places), 4), dtype=np.bool_)
        for row, place in enumerate(places):
            if not isinstance(place, Mapping) or not place or not set(place) <= set(HEADINGS):
                found = sorted(map(str, place)) if isinstance(place, Mapping) else type(place).__name__
                raise ConfigError.at(f"images[{row}]", f"must map some of {HEADINGS} to photos", found=found)

            for heading, photo in place.items():
                position = HEADINGS.index(heading)
                pixels[row, position] = self._read_photo(photo, f"images[{row}][{heading}]")
                mask[row, position] = True
        return self._predict_pixels(torch.from_numpy(pixels), torch.from_numpy(mask), batch_size)

    def _read_photo(self, photo: Any, key: str) -> ByteArray:
        if isinstance(photo, str | Path):
            return self.image.read(photo)
        if not isinstance(photo, Image.Image):
            raise ConfigError.at(key, "must be a path or a PIL image", found=type(photo).__name__)
        try:
            return self.image.resize_chw(to_upright_rgb(photo))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError.at(key, f"is not a complete image ({first_line(error)})") from error

    def _predict_pixels(self, images: Tensor, mask: Tensor, batch_size: int) -> Predictions:
        size = self.image.size
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if batch.shape[-2:] != (size, size):
                views = batch.flatten(0, 1).permute(0, 2, 3, 1).contiguous().numpy()
                resized = np.stack([self.image.resize_chw(view) for view in views])
                batch = torch.from_numpy(resized).reshape(-1, 4, 3, size, size)
            parts.append(self.predictor.predict(batch, mask[start : start + batch_size]))
        return concatenate(parts)


def load(path: str | Path, *, device: str | torch.device = "cpu", extensions: Sequence[str] = ()) -> Model:
    """Opens a trained model.

    Args:
        path: A folder that `python -m geoguesser.export` wrote, a run folder (its best checkpoint is taken), or a
            checkpoint file.
        device: Device of the network, such as `cpu` or `cuda`; `auto` is CUDA if available, else the CPU.
        extensions: Packages whose modules register kinds of heads, backbones and other parts of the model.

    Raises:
        ConfigError: `path` is no path, this machine has no such device, or a package cannot be imported.
        MissingFileError: The path does not exist.
        CheckpointError: The model is damaged, incomplete, or has a newer format.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        rule = "must name a folder that python -m geoguesser.export wrote, a run folder or a checkpoint file"
        raise ConfigError.at("path", rule, found=path)
    load_extensions(extensions)
    return Model(*open_predictor(path, device=choose_device(str(device))))


def _check_pixels(
    images: npt.NDArray[np.uint8] | Tensor, mask: BoolArray | Tensor | None
) -> tuple[Tensor, Tensor]:
    shape, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if dtype != "uint8" or len(shape) != 5 or shape[1:3] != (4, 3) or 0 in shape:
        raise ConfigError.at("images", "must be uint8 pixels (B, 4, 3, H, W)", found=f"{dtype} {shape}")
    pixels = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images.cpu()

    present = torch.ones(shape[:2], dtype=torch.bool) if mask is None else _check_mask(mask, shape[:2])
    without_view = torch.nonzero(~present.any(dim=1))[:, 0].tolist()
    if without_view:
        raise DataError.at(f"mask[{without_view[0]}]", "must be true somewhere: the place has no view")
    return pixels, present


def _check_mask(mask: Any, shape: tuple[int, ...]) -> Tensor:
    rule = f"must be bool {shape}, true where there is a view"
    try:
        tensor = torch.as_tensor(mask).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        # Strings, rows of different lengths, and other objects.
        raise ConfigError.at("mask", rule, found=type(mask).__name__) from error
    if tensor.dtype != torch.bool or tensor.shape != shape:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ConfigError.at("mask", rule, found=f"{dtype} {tuple(tensor.shape)}")
    return tensor
