"""Diagram of a network with shapes and parameters, and filters of its first layer."""

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
from geoguesser.reporting.style import INK, MUTED, NARROW_WIDTH_IN, add_axes, narrow_picture

FILLS = ("#F2F2F2", "#DCEBF5", "#FCEBD0", "#DFF1EA", "#F2F2F2")
ROW_IN, STEP_IN = 0.62, 0.98


@dataclass(frozen=True)
class NetworkPart:
    """Box of the diagram, with the shape of the output for one place."""

    name: str
    detail: str
    shape: str


def list_parts(network: GeoNetwork, image_px: int) -> list[NetworkPart]:
    """Lists the parts of a network from views of `image_px` pixels to the prediction."""
    backbone, fusion, head = network.backbone, network.fusion, network.head
    kind = str(head.state()["kind"])
    size, grid = backbone.feature_size, head.grid
    parameters = count_parameters(network.get_submodule("backbone"))
    outputs, prediction = f"{head.output_size:,} outputs", "a point"
    if grid is not None:
        decoder: Any = head
        prediction = f"{decoder.decoder.state()['kind']} of the probabilities of {grid.num_cells:,} cells"
        if head.output_size != grid.num_cells:
            outputs += f" for {grid.num_cells:,} cells"

    return [
        NetworkPart("views", "north, east, south, west", f"{NUM_VIEWS} × 3 × {image_px} × {image_px}"),
        NetworkPart(
            f"backbone {backbone.name}", f"{parameters}; the same for each view", f"{NUM_VIEWS} × {size:,}"
        ),
        NetworkPart(f"fusion {fusion.kind}", count_parameters(fusion), f"{fusion.output_size:,}"),
        NetworkPart(f"head {kind}", f"{count_parameters(head)}; {outputs}", f"{head.output_size:,}"),
        NetworkPart("prediction", prediction, "latitude, longitude"),
    ]


def count_parameters(module: nn.Module) -> str:
    """Returns `3,371,008 parameters`, or `no parameters`."""
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count:,} parameters" if count else "no parameters"


def draw_network(path: Path, *, parts: list[NetworkPart]) -> None:
    """Draws the parts from top to bottom, with the shape of the output between a part and the next."""
    height = STEP_IN * (len(parts) - 1) + ROW_IN + 0.3
    with narrow_picture(path, height) as figure:
        axes = add_axes(figure, 0.0, 0.0, NARROW_WIDTH_IN, height)
        axes.set_axis_off()
        axes.set(xlim=(0, NARROW_WIDTH_IN), ylim=(0, height))

        for row, (part, fill) in enumerate(zip(parts, FILLS, strict=True)):
            bottom = height - 0.15 - ROW_IN - row * STEP_IN
            _draw_part(axes, part, fill, bottom, views=row == 0)
            if row < len(parts) - 1:
                ends = ((1.3, bottom), (1.3, bottom - STEP_IN + ROW_IN))
                arrow = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color=MUTED, lw=1.2, shrinkA=0)
                axes.add_patch(arrow)
                axes.text(1.48, bottom - (STEP_IN - ROW_IN) / 2, part.shape, va="center", fontsize=8, color=INK)


def _draw_part(axes: Axes, part: NetworkPart, fill: str, bottom: float, *, views: bool) -> None:
    look: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": fill, "ec": MUTED, "lw": 0.9}
    width, height = NARROW_WIDTH_IN - 0.3, ROW_IN
    if views:
        # A stack of four boxes.
        width, height = width - 0.15, height - 0.12
        for shift in (0.12, 0.08, 0.04):
            axes.add_patch(FancyBboxPatch((0.15 + shift, bottom + shift), width, height, **look))

    axes.add_patch(FancyBboxPatch((0.15, bottom), width, height, **look))
    axes.text(0.28, bottom + 0.66 * height, part.name, fontsize=9.5, fontweight="bold", va="center")
    axes.text(0.28, bottom + 0.26 * height, part.detail, fontsize=8, color=MUTED, va="center")


def make_filter_pictures(weights: FloatArray) -> FloatArray:
    """Converts filters, (F, 3, k, k), to colours, (F, k, k, 3) from 0 to 1 on one scale; zero weights are grey."""
    top = float(np.abs(weights).max()) or 1.0
    return 0.5 + 0.5 * np.moveaxis(weights, 1, -1) / top


def draw_filters(path: Path, *, weights: FloatArray) -> None:
    """Draws the (F, 3, k, k) filters of the first layer as the colours they respond to."""
    colours = make_filter_pictures(weights)
    columns = min(len(colours), 8 if len(colours) <= 64 else 16)
    rows = -(-len(colours) // columns)
    gap = 0.06
    side = (NARROW_WIDTH_IN - 0.2 - gap * (columns - 1)) / columns
    step = side + gap
    height = rows * step + 0.14

    with narrow_picture(path, height) as figure:
        for index, filter_colours in enumerate(colours):
            row, column = divmod(index, columns)
            axes = add_axes(figure, 0.1 + column * step, height - 0.1 - (row + 1) * step + gap, side, side)
            axes.set_axis_off()
            axes.imshow(filter_colours, interpolation="nearest", aspect="auto")
