"""The look of all pictures: sizes, colours, fonts, and the file that is written whole or not at all.

Pictures are drawn with matplotlib's objects, never with pyplot, so that no global state is touched.
The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geoguesser.system.files import open_replacement
from geoguesser.system.text import shorten

DPI = 120
WIDTH_IN = 10.0  # 1,200 pixels: the width of a README's column at double density
MARGIN_IN = 0.25
HEADER_IN = 0.78  # title and subtitle

# Colours that people with any colour vision tell apart: M. Okabe and K. Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT = "#222222", "#666666", "#D8D8D8"
NO_BREAK = "\N{NO-BREAK SPACE}"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures are the same on each machine
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a title may hold dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECECEC",
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "hatch.linewidth": 0.6,
}


@contextmanager
def picture(path: Path, height_in: float, *, width_in: float = WIDTH_IN, dpi: int = DPI) -> Iterator[Figure]:
    """Gives an empty figure in the style of all pictures, and writes it atomically.

    Args:
        path: The PNG to write; its folder is made where it is missing.
        height_in: Height in inches.
        width_in: Width in inches; less for a picture that a phone must show legibly.
        dpi: Pixels per inch.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_replacement(path) as stream:
            figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes whose box is given in inches from the lower left of the figure."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def add_header(figure: Figure, title: str, subtitle: str) -> None:
    """Writes title and subtitle into the top `HEADER_IN` inches; an over-long line is cut to fit."""
    up = figure.get_size_inches()[1]
    x = MARGIN_IN / WIDTH_IN
    figure.text(x, 1 - 0.2 / up, shorten(title, 88), fontsize=13, fontweight="bold", va="top")
    figure.text(x, 1 - 0.47 / up, shorten(subtitle, 130), fontsize=9.5, color=MUTED, va="top")
