"""Common style of all pictures, and their atomic writing. The same input gives the same bytes.

Pictures are drawn with matplotlib's objects, never with pyplot, so that global state does not change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, NullFormatter

from geoguesser.system.files import open_replacement
from geoguesser.system.text import format_number, shorten

DPI = 120
# 1,200 pixels: the width of a README's column at double density.
WIDTH_IN = 10.0
MARGIN_IN = 0.25
# Pictures of a page are narrow and have no title: they must be legible on a phone.
NARROW_WIDTH_IN, NARROW_DPI = 5.0, 200
# Height of title and subtitle.
HEADER_IN = 0.78

# Colours that people with any colour vision can distinguish: M. Okabe and K. Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT = "#222222", "#666666", "#D8D8D8"
NO_BREAK = "\N{NO-BREAK SPACE}"

STYLE: dict[Any, Any] = {
    # This font comes with matplotlib, so that pictures are the same on each machine.
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    # A title may contain dollar signs.
    "text.parse_math": False,
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
    """Yields an empty figure in the common style, and writes it atomically when the block ends without error."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure

        path.parent.mkdir(parents=True, exist_ok=True)
        with open_replacement(path) as stream:
            figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})


def narrow_picture(path: Path, height_in: float) -> AbstractContextManager[Figure]:
    """Yields an empty figure for a page, as `picture` does."""
    return picture(path, height_in, width_in=NARROW_WIDTH_IN, dpi=NARROW_DPI)


def add_axes(figure: Figure, left_in: float, bottom_in: float, width_in: float, height_in: float) -> Axes:
    """Adds axes whose box is given in inches from the lower left corner of the figure."""
    figure_width, figure_height = figure.get_size_inches()
    return figure.add_axes(
        (left_in / figure_width, bottom_in / figure_height, width_in / figure_width, height_in / figure_height)
    )


def add_colour_bar(
    figure: Figure,
    box_in: tuple[float, float, float, float],
    colours: ScalarMappable,
    *,
    extend: str = "neither",
    vertical: bool = False,
    formatter: Formatter | None = None,
) -> Colorbar:
    """Adds a colour bar in a box, as for `add_axes`; the default formatter is `format_number`."""
    bar = figure.colorbar(
        colours,
        cax=add_axes(figure, *box_in),
        extend=extend,
        orientation="vertical" if vertical else "horizontal",
        format=formatter or FuncFormatter(format_number),
    )
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    return bar


def set_log_ticks(axis: Axis, ratio: float) -> None:
    """Sets ticks at powers of ten; also at 2 and 5 times these if the axis spans few decades."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 100 else (1.0,)))
    axis.set_major_formatter(format_number)
    axis.set_minor_formatter(NullFormatter())


def add_header(figure: Figure, title: str, subtitle: str) -> None:
    """Writes title and subtitle into the top `HEADER_IN` inches; lines that are too long are cut."""
    height = figure.get_size_inches()[1]
    x = MARGIN_IN / WIDTH_IN
    figure.text(x, 1 - 0.2 / height, shorten(title, 88), fontsize=13, fontweight="bold", va="top")
    figure.text(x, 1 - 0.47 / height, shorten(subtitle, 130), fontsize=9.5, color=MUTED, va="top")
