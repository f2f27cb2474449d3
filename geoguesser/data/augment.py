"""Augmentation: per view, on the device, in training only. No flips and no exchange of views.

A flip would turn east into west; exchanging views would turn the headings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.errors import check_number

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How far each view may be changed; 0 everywhere changes nothing.

    Attributes:
        brightness: Values are multiplied by 1 +- this.
        contrast: Distances from the view's mean are multiplied by 1 +- this.
        saturation: Distances from grey are multiplied by 1 +- this.
        zoom: Magnified by 1 to 1 + this.
        shift: Moved by up to this share of the side, each way.
        rotate_deg: Rolled by up to this many degrees, either way (a camera is never quite level).
        erase: A square of up to this share of the side becomes grey.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    rotate_deg: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            high = 45.0 if field.name == "rotate_deg" else 0.9
            check_number(f"augment.{field.name}", getattr(self, field.name), low=0.0, high=high)

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return any(getattr(self, field.name) > 0 for field in fields(self))

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Changes each view by numbers of its own.

        The numbers are drawn on the CPU from the seed, so they are the same on every device.

        Args:
            images: (B, 4, 3, H, W) uint8.
            seed: Names the draw; a run uses one per step.

        Returns:
            (B, 4, 3, H, W) uint8, new.
        """
        if not self.active:
            return images
        views = images.flatten(0, 1).float()
        draws = torch.rand((len(views), 10), generator=torch.Generator().manual_seed(seed))
        draws = draws.to(images.device, non_blocking=True) * 2.0 - 1.0  # each from -1 to 1
        if self.zoom or self.shift or self.rotate_deg:
            views = self._moved(views, draws[:, 0:4])
        views = self._recoloured(views, draws[:, 4:7, None, None, None])
        if self.erase:
            views = self._erased(views, draws[:, 7:10])
        return views.round_().clamp_(0.0, 255.0).to(torch.uint8).view_as(images)

    def _moved(self, views: Tensor, draws: Tensor) -> Tensor:
        angle = torch.deg2rad(draws[:, 0] * self.rotate_deg)
        scale = 1.0 / (1.0 + self.zoom * (draws[:, 1] + 1.0) / 2.0)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        shift = draws[:, 2:4] * self.shift * 2.0
        rows = (torch.stack((cos, -sin, shift[:, 0]), -1), torch.stack((sin, cos, shift[:, 1]), -1))
        grid = functional.affine_grid(torch.stack(rows, 1), list(views.shape), align_corners=False)
        return functional.grid_sample(views, grid, padding_mode="reflection", align_corners=False)

    def _recoloured(self, views: Tensor, draws: Tensor) -> Tensor:
        grey = torch.tensor(GREY, device=views.device).view(1, 3, 1, 1)
        luma = (views * grey).sum(1, keepdim=True)
        views = luma + (views - luma) * (1.0 + self.saturation * draws[:, 0])
        mean = luma.mean((2, 3), keepdim=True)
        views = mean + (views - mean) * (1.0 + self.contrast * draws[:, 1])
        return views * (1.0 + self.brightness * draws[:, 2])

    def _erased(self, views: Tensor, draws: Tensor) -> Tensor:
        height, width = views.shape[-2:]
        side = (draws[:, 0] + 1.0) / 2.0 * self.erase
        y, x = ((draws[:, axis] + 1.0) / 2.0 * (1.0 - side) for axis in (1, 2))
        rows = (torch.arange(height, device=views.device) + 0.5) / height
        columns = (torch.arange(width, device=views.device) + 0.5) / width
        in_rows = (rows >= y[:, None]) & (rows < (y + side)[:, None])
        in_columns = (columns >= x[:, None]) & (columns < (x + side)[:, None])
        hole = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        return torch.where(hole, 127.0, views)
