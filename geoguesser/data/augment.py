"""Augmentation of training views, on the device.

A flip would exchange east and west, and an exchange of views would change the headings: neither is done.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.data.images import LUMA_WEIGHTS
from geoguesser.errors import check_number


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of each view, up to the sizes that the files of conf/augment describe; 0 changes nothing."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    # In both directions, because cameras are not exactly level.
    rotate_deg: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            high = 45.0 if field.name == "rotate_deg" else 0.9
            check_number(f"augment.{field.name}", getattr(self, field.name), low=0.0, high=high)

    @property
    def active(self) -> bool:
        """Returns whether views are changed."""
        return any(getattr(self, field.name) > 0 for field in fields(self))

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Changes each view of (B, 4, 3, H, W) uint8 by random numbers; `images` itself if augmentation is off."""
        if not self.active:
            return images
        views = images.flatten(0, 1).float()

        # Drawn on the CPU, so that they are the same on every device; from -1 to 1.
        draws = torch.rand((len(views), 10), generator=torch.Generator().manual_seed(seed))
        draws = draws.to(images.device, non_blocking=True) * 2.0 - 1.0

        if self.zoom or self.shift or self.rotate_deg:
            views = self._move(views, draws[:, 0:4])
        views = self._recolour(views, draws[:, 4:7, None, None, None])
        if self.erase:
            views = self._erase_square(views, draws[:, 7:10])
        return views.round_().clamp_(0.0, 255.0).to(torch.uint8).view_as(images)

    def _move(self, views: Tensor, draws: Tensor) -> Tensor:
        # Each row maps output to input coordinates, so that a magnification divides.
        angle = torch.deg2rad(draws[:, 0] * self.rotate_deg)
        scale = 1.0 / (1.0 + self.zoom * (draws[:, 1] + 1.0) / 2.0)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale

        # A side has the length 2 in the coordinates of affine_grid.
        shift = draws[:, 2:4] * self.shift * 2.0
        rows = (torch.stack((cos, -sin, shift[:, 0]), -1), torch.stack((sin, cos, shift[:, 1]), -1))
        grid = functional.affine_grid(torch.stack(rows, 1), list(views.shape), align_corners=False)
        return functional.grid_sample(views, grid, padding_mode="reflection", align_corners=False)

    def _recolour(self, views: Tensor, draws: Tensor) -> Tensor:
        weights = torch.tensor(LUMA_WEIGHTS, device=views.device).view(1, 3, 1, 1)
        luma = (views * weights).sum(1, keepdim=True)
        views = luma + (views - luma) * (1.0 + self.saturation * draws[:, 0])
        mean = luma.mean((2, 3), keepdim=True)
        views = mean + (views - mean) * (1.0 + self.contrast * draws[:, 1])
        return views * (1.0 + self.brightness * draws[:, 2])

    def _erase_square(self, views: Tensor, draws: Tensor) -> Tensor:
        height, width = views.shape[-2:]
        side = (draws[:, 0] + 1.0) / 2.0 * self.erase
        y, x = ((draws[:, axis] + 1.0) / 2.0 * (1.0 - side) for axis in (1, 2))

        rows = (torch.arange(height, device=views.device) + 0.5) / height
        columns = (torch.arange(width, device=views.device) + 0.5) / width
        in_rows = (rows >= y[:, None]) & (rows < (y + side)[:, None])
        in_columns = (columns >= x[:, None]) & (columns < (x + side)[:, None])
        hole = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        return torch.where(hole, 127.0, views)
