"""Drawings of a network: its parts with their shapes and parameters, and the first layer's filters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import nn

from geoguesser.arrays import FloatArray
from geoguesser.model.fusion import NUM_VIEWS
from geoguesser.model.network import GeoNetwork
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.style import INK, MUTED, add_axes, picture

FILLS = ("#F2F2F2", "#DCEBF5", "#FCEBD0", "#DFF1EA", "#F2F2F2")
ROW_IN, STEP_IN = 0.62, 0.98


@dataclass(frozen=True)
class NetworkPart:
    """A box of the drawing.

    Attributes:
        name: What it is.
        detail: More about it, with its parameters.
        shape: Of what leaves it, for one place.
    """

    name: str
    detail: str
    shape: str


def list_parts(network: GeoNetwork, image_px: int) -> list[NetworkPart]:
    """The parts of a network from views to answer, as they are in it.

    Args:
        network: Any.
        image_px: Height and width of a view.
    """
    backbone, fusion, head = network.backbone, network.fusion, network.head
    kind = str(head.state()["kind"])
    size, grid = backbone.feature_size, head.grid
    end = "point of the land" if grid is None else f"{grid.num_cells:,} cells"
    outputs = f"{head.output_size:,} outputs"
    if grid is not None and head.output_size != grid.num_cells:
        outputs += f" for {end}"
    last = "a point" if grid is None else f"{_decoder(head)} of the probabilities of {end}"
    return [
        NetworkPart("views", "north, east, south, west", f"{NUM_VIEWS} × 3 × {image_px} × {image_px}"),
        NetworkPart(
            f"backbone {backbone.name}",
            f"{count_parameters(network.get_submodule('backbone'))}; the same for each view",
            f"{NUM_VIEWS} × {size:,}",
        ),
        NetworkPart(f"fusion {fusion.kind}", count_parameters(fusion), f"{fusion.output_size:,}"),
        NetworkPart(f"head {kind}", f"{count_parameters(head)}; {outputs}", f"{head.output_size:,}"),
        NetworkPart("answer", last, "latitude, longitude"),
    ]


def _decoder(head: Any) -> str:
    return str(head.decoder.state()["kind"])


def count_parameters(module: nn.Module) -> str:
    """`3,371,008 parameters`."""
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count:,} parameters" if count else "no parameters"


def draw_network(path: Path, *, parts: list[NetworkPart]) -> None:
    """Draws the parts one below the other, with the shape of what goes from each to the next.

    Args:
        path: The PNG to write.
        parts: As `list_parts` gives them.
    """
    height = STEP_IN * (len(parts) - 1) + ROW_IN + 0.3
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.0, 0.0, WIDTH_IN, height)
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH_IN)
        axes.set_ylim(0, height)
        for at, (part, fill) in enumerate(zip(parts, FILLS, strict=True)):
            bottom = height - 0.15 - ROW_IN - at * STEP_IN
            _draw_part(axes, part, fill, bottom, views=at == 0)
            if at < len(parts) - 1:
                ends = ((1.3, bottom), (1.3, bottom - STEP_IN + ROW_IN))
                arrow = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color=MUTED, lw=1.2, shrinkA=0)
                axes.add_patch(arrow)
                axes.text(1.48, bottom - (STEP_IN - ROW_IN) / 2, part.shape, va="center", fontsize=8, color=INK)


def _draw_part(axes: Axes, part: NetworkPart, fill: str, bottom: float, *, views: bool) -> None:
    look: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": fill, "ec": MUTED, "lw": 0.9}
    for shift in (0.12, 0.08, 0.04) if views else ():  # a pile of four
        axes.add_patch(FancyBboxPatch((0.15 + shift, bottom + shift), WIDTH_IN - 0.45, ROW_IN - 0.12, **look))
    tall = ROW_IN - 0.12 if views else ROW_IN
    axes.add_patch(FancyBboxPatch((0.15, bottom), WIDTH_IN - (0.45 if views else 0.3), tall, **look))
    axes.text(0.28, bottom + 0.66 * tall, part.name, fontsize=9.5, fontweight="bold", va="center")
    axes.text(0.28, bottom + 0.26 * tall, part.detail, fontsize=8, color=MUTED, va="center")


def make_filter_pictures(weights: FloatArray) -> FloatArray:
    """(F, 3, k, k) filters -> (F, k, k, 3) colours from 0 to 1, on one scale: grey is a weight of zero."""
    top = float(np.abs(weights).max()) or 1.0
    return 0.5 + 0.5 * np.moveaxis(weights, 1, -1) / top


def draw_filters(path: Path, *, weights: FloatArray) -> None:
    """Draws the first layer's filters as the colours that they answer to.

    Args:
        path: The PNG to write.
        weights: (F, 3, k, k).
    """
    shown = make_filter_pictures(weights)
    columns = min(len(shown), 8 if len(shown) <= 64 else 16)
    rows = -(-len(shown) // columns)
    gap, across = 0.06, WIDTH_IN - 0.2
    side = (across - gap * (columns - 1)) / columns
    height = rows * (side + gap) + 0.14
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        for at, one in enumerate(shown):
            row, column = divmod(at, columns)
            axes = add_axes(
                figure, 0.1 + column * (side + gap), height - 0.1 - (row + 1) * (side + gap) + gap, side, side
            )
            axes.set_axis_off()
            axes.imshow(one, interpolation="nearest", aspect="auto")
