"""Portable: a trained model to ask in Python, opened from its small folder or from a run. No Hydra, no Lightning.

What the folder holds is model_folder.py's business.
"""

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

from geoguesser.data.images import ImageSpec, open_rgb
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import ConfigError, DataError, check_int, first_line
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.inference.batch_inference import predict_places
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import UNUSED, find_places
from geoguesser.inference.loading import choose_device
from geoguesser.inference.predictions import Predictions, concatenate
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import open_predictor
from geoguesser.system.extensions import load_extensions

Photo = str | Path | Image.Image
Place = Mapping[int, Photo]  # heading (0, 90, 180, 270) -> photo
Images = str | Path | Place | Sequence[str | Path] | Sequence[Place] | npt.NDArray[np.uint8] | Tensor
FORMS = (
    "a path or several, {heading: photo} or several, or uint8 pixels (B, 4, 3, H, W); see geoguesser.Model.predict"
)


class Model:
    """A trained model: where was this photo taken, and how sure is that?

    Made by `geoguesser.load`.

    Attributes:
        locator: The network with its region and preprocessing.
        about: What config.json says beside what the model is made from: versions, data; empty for a run.
    """

    def __init__(self, locator: Predictor, about: Mapping[str, Any] | None = None) -> None:
        self.locator = locator
        self.about = dict(about or {})

    @property
    def region(self) -> Region:
        """The land it was trained for."""
        return self.locator.region

    @property
    def grid(self) -> Grid | None:
        """Its cells; None for a model without."""
        return self.locator.network.head.grid

    @property
    def image(self) -> ImageSpec:
        """How views are brought to the size that it was trained with."""
        return self.locator.image

    def predict(
        self, images: Images, *, mask: npt.NDArray[np.bool_] | Tensor | None = None, batch_size: int = 32
    ) -> Predictions:
        """Says where places are, and how sure that is.

        Args:
            images: One of

                - a path, or a list of paths: a folder of place folders (each with one to four of 0.jpg, 90.jpg,
                  180.jpg, 270.jpg), one such folder, a photo, or a CSV file of paths, as for
                  `python -m geoguesser.predict`. `ids` says which places these are, in order;
                - a mapping from heading to photo for one place, `{0: photo, 90: photo}`, or a list of mappings; a
                  photo is a path or a PIL image;
                - pixels: (B, 4, 3, H, W) uint8 RGB, an array or tensor, headings 0, 90, 180, 270. Of another size
                  than the model's they are fitted and resized as photos are.
            mask: (B, 4) true where there is a view, for pixels alone; None for all.
            batch_size: How many places the network takes at once.

        Returns:
            For B places `coords_deg` (B, 2), and what the model knows beside it: `posterior`, `expected_error_km`,
            `radius_km`, `in_region`, `sets`. See `geoguesser.inference.predictions.Predictions`.

        Raises:
            ConfigError: `images` or `mask` is none of these.
            MissingFileError: A path names nothing.
            DataError: There is no place, a place has no view, or a photo is broken; the message names it.
        """
        check_int("batch_size", batch_size, low=1)
        if isinstance(images, np.ndarray | Tensor):
            return self._of_pixels(*_checked(images, mask), batch_size)
        if mask is not None:
            raise ConfigError.at("mask", "can be given with pixels alone: absent photos are simply left out")
        given = [images] if isinstance(images, Mapping | str | Path) else images
        if not isinstance(given, Sequence) or not given:
            raise ConfigError.at("images", f"must be {FORMS}", found=type(images).__name__)
        if isinstance(given[0], Mapping):
            return self._of_mappings(given, batch_size)
        wrong = next((one for one in given if not isinstance(one, str | Path)), None)
        if wrong is not None:
            raise ConfigError.at("images", f"must be {FORMS}", found=f"a {type(wrong).__name__} among them")
        return self._of_paths(given, batch_size)

    def ids(self, paths: str | Path | Sequence[str | Path]) -> list[str]:
        """The ids of the places that `predict` answers for where it is given paths, in its order.

        Raises:
            ConfigError: It is no path, nor several.
            MissingFileError: A path names nothing.
            DataError: There is no place.
        """
        given: Any = list(paths) if isinstance(paths, Sequence) and not isinstance(paths, str) else paths
        return [one.uuid for one in find_places(given)]

    def _of_paths(self, paths: Sequence[Any], batch_size: int) -> Predictions:
        parts = []
        for batch in predict_places(Ensemble([self.locator]), find_places(list(paths)), batch_size=batch_size):
            notes = (note for one in batch.broken for note in one)
            wrong = next((note for note in notes if not note.startswith(UNUSED)), None)
            if wrong is not None:
                raise DataError.at(
                    "images", f"must be whole: {wrong}",
                    remedy="python -m geoguesser.predict goes on without what is broken.",
                )  # fmt: skip
            assert batch.answers is not None
            parts.append(batch.answers)
        return concatenate(parts)

    def _of_mappings(self, places: Sequence[Any], batch_size: int) -> Predictions:
        size = self.image.size
        pixels = np.zeros((len(places), 4, 3, size, size), dtype=np.uint8)
        mask = np.zeros((len(places), 4), dtype=np.bool_)
        for row, place in enumerate(places):
            if not isinstance(place, Mapping) or not place or not set(place) <= set(HEADINGS):
                found = sorted(map(str, place)) if isinstance(place, Mapping) else type(place).__name__
                raise ConfigError.at(f"images[{row}]", f"must map some of {HEADINGS} to photos", found=found)
            for heading, photo in place.items():
                column = HEADINGS.index(heading)
                pixels[row, column], mask[row, column] = self._view(photo, f"images[{row}][{heading}]"), True
        return self._of_pixels(torch.from_numpy(pixels), torch.from_numpy(mask), batch_size)

    def _view(self, photo: Any, where: str) -> npt.NDArray[np.uint8]:
        if isinstance(photo, str | Path):
            return self.image.read(photo)
        if not isinstance(photo, Image.Image):
            raise ConfigError.at(where, "must be a path or a PIL image", found=type(photo).__name__)
        try:
            return self.image.resize(open_rgb(photo))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError.at(where, f"is no whole image ({first_line(error)})") from error

    def _of_pixels(self, images: Tensor, mask: Tensor, batch_size: int) -> Predictions:
        size = self.image.size
        parts = []
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            if some.shape[-2:] != (size, size):
                views = some.flatten(0, 1).permute(0, 2, 3, 1).contiguous().numpy()
                some = torch.from_numpy(np.stack([self.image.resize(one) for one in views])).reshape(
                    -1, 4, 3, size, size
                )
            parts.append(self.locator.answer(some, mask[start : start + batch_size]))
        return concatenate(parts)


def load(path: str | Path, *, device: str | torch.device = "cpu", extensions: Sequence[str] = ()) -> Model:
    """Opens a trained model.

    Args:
        path: A folder that `python -m geoguesser.export` wrote, a run folder (its best checkpoint is taken), or a
            checkpoint file.
        device: Where it works, `cpu` or `cuda`; `auto` is CUDA's where there is one.
        extensions: Packages whose modules register kinds of heads, backbones and other parts of the model.

    Raises:
        ConfigError: `path` is no path, this machine has no such device, or a package cannot be imported.
        MissingFileError: There is none.
        CheckpointError: It is damaged, incomplete, or of a newer format.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ConfigError.at(
            "path", "must name a folder that python -m geoguesser.export wrote, a run folder or a checkpoint file",
            found=path,
        )  # fmt: skip
    load_extensions(extensions)
    return Model(*open_predictor(path, device=choose_device(str(device))))


def _checked(
    images: npt.NDArray[np.uint8] | Tensor, mask: npt.NDArray[np.bool_] | Tensor | None
) -> tuple[Tensor, Tensor]:
    shape, kind = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if kind != "uint8" or len(shape) != 5 or shape[1:3] != (4, 3) or 0 in shape:
        raise ConfigError.at("images", "must be uint8 pixels (B, 4, 3, H, W)", found=f"{kind} {shape}")
    pixels = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images.cpu()
    there = torch.ones(shape[:2], dtype=torch.bool) if mask is None else _mask(mask, shape[:2])
    blind = torch.nonzero(~there.any(dim=1))[:, 0].tolist()
    if blind:
        raise DataError.at(f"mask[{blind[0]}]", "must be true somewhere: the place has no view")
    return pixels, there


def _mask(mask: Any, shape: tuple[int, ...]) -> Tensor:
    """Which views there are, as a tensor on the CPU."""
    rule = f"must be bool {shape}, true where there is a view"
    try:
        there = torch.as_tensor(mask).cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # words, rows of different lengths, other objects
        raise ConfigError.at("mask", rule, found=type(mask).__name__) from error
    if there.dtype != torch.bool or there.shape != shape:
        raise ConfigError.at("mask", rule, found=f"{str(there.dtype).removeprefix('torch.')} {tuple(there.shape)}")
    return there
