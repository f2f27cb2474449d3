"""Plots of a run: distribution of errors, training curves, learning-rate search."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geoguesser.arrays import FloatArray
from geoguesser.reporting import style
from geoguesser.system.text import format_count, format_km, format_number, shorten

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)))
# With more learning rates, only the first and the last are named.
MAX_NAMED_RATES = 6


def draw_errors(path: Path, *, error_km: FloatArray, baselines: dict[str, float], title: str = "") -> None:
    """Draws the distribution of (N,) errors: a histogram, and below it the share of places within a distance."""
    error_km = np.sort(np.asarray(error_km, dtype=np.float64))
    end_km = compute_histogram_end_km(error_km, baselines)
    statistics = {
        "median": float(np.median(error_km)),
        "mean": float(error_km.mean()),
        "90th percentile": float(np.percentile(error_km, 90)),
    }
    beyond = int((error_km > end_km).sum())
    subtitle = format_count(len(error_km), "test place")
    if beyond:
        subtitle += f"; {beyond:,} beyond {format_km(end_km)} not drawn"

    with style.picture(path, 6.0) as figure:
        style.add_header(figure, title or "Errors on the test places", subtitle)
        above = style.add_axes(figure, 0.85, 3.15, 6.55, 6.0 - style.HEADER_IN - 3.15)
        below = style.add_axes(figure, 0.85, 0.65, 6.55, 2.15)
        bins = np.linspace(0.0, end_km, 51).tolist()
        above.hist(error_km, bins=bins, color=style.SKY, edgecolor="white", lw=0.4)
        above.axvline(statistics["mean"], color=style.VERMILION, lw=1.8, zorder=4)
        above.set_ylabel("test places")
        above.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        above.yaxis.set_major_formatter(format_number)
        below.xaxis.set_major_formatter(format_number)
        above.tick_params(labelbottom=False)
        _draw_share(below, error_km, statistics, end_km)
        _draw_baselines((above, below), baselines)
        for axes in (above, below):
            axes.set_xlim(0.0, end_km)

        corner = (0.755, 1 - style.HEADER_IN / 6.0)
        entries = below.get_legend_handles_labels()
        figure.legend(*entries, loc="upper left", bbox_to_anchor=corner, labelspacing=0.9)


def compute_histogram_end_km(error_km: FloatArray, baselines: dict[str, float]) -> float:
    """Returns the end of the axis: beyond 99.5 % of the errors, their mean and every baseline."""
    end = 1.05 * max(float(np.percentile(error_km, 99.5)), float(error_km.mean()), *baselines.values())
    # No further than needed for all errors and baselines.
    covering = max([1.02 * float(error_km.max()), *(1.05 * mean for mean in baselines.values())])
    return min(end, covering) or 1.0


def _draw_share(axes: Axes, error_km: FloatArray, statistics: dict[str, float], end_km: float) -> None:
    steps = np.concatenate(([0.0], error_km, [max(end_km, error_km[-1])]))
    share = np.concatenate(([0.0], np.arange(1, len(error_km) + 1) / len(error_km), [1.0]))
    axes.step(steps, share, where="post", color=style.BLUE)

    look: dict[str, Any] = {"ms": 7.5, "color": style.VERMILION, "mec": "white", "mew": 1.0, "zorder": 5}
    for (name, value), marker in zip(statistics.items(), "osD", strict=True):
        height = float(np.searchsorted(error_km, value, side="right")) / len(error_km)
        axes.plot(value, height, marker, clip_on=False, label=f"{name}: {format_km(value)}", **look)

    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.set(xlabel="error in km", ylabel="share of places within")


def _draw_baselines(panels: Sequence[Axes], baselines: dict[str, float]) -> None:
    for index, (name, mean_km) in enumerate(baselines.items()):
        value = format_km(mean_km).replace(" ", style.NO_BREAK)
        label = textwrap.fill(f"{name}, mean: {value}", 26)
        for axes in panels:
            axes.axvline(mean_km, color=style.MUTED, lw=1.4, ls=DASHES[1 + index % 4], label=label, zorder=4)


def draw_curves(path: Path, *, history: pd.DataFrame, best_epoch: int | None, title: str = "") -> None:
    """Draws losses, validation errors and learning rates over the epochs.

    `history` has one row per epoch with `epoch`, `train/loss`, `val/loss`, `val/error_km_mean`,
    `val/error_km_median` and a column `lr/GROUP` per parameter group. Values may be NaN; a column may be missing;
    a learning rate of 0 (frozen) is not drawn. The weights of `best_epoch` were kept.
    """
    best = find_best_point(history, best_epoch)
    subtitle = format_count(history["epoch"].nunique(), "epoch")
    if best is not None:
        subtitle += f"; best epoch {best[0]}, with a mean validation error of {format_km(best[1])}"
    rates = make_rate_labels(find_rate_columns(history))
    legend_in = 0.19 * max(2, sum(not label.startswith("_") for label in rates.values()))
    height = style.HEADER_IN + 3.55 + legend_in

    with style.picture(path, height) as figure:
        style.add_header(figure, title or "Training", subtitle)
        boxes = [(0.6 + 3.27 * index, 0.75 + legend_in, 2.6, 2.5) for index in range(3)]
        loss, error, rate = (style.add_axes(figure, *box) for box in boxes)

        _draw_series(loss, history, {"train/loss": "train", "val/loss": "validation"}, (style.BLUE, style.ORANGE))
        labels = {"val/error_km_mean": "mean", "val/error_km_median": "median"}
        _draw_series(error, history, labels, (style.BLUE, style.ORANGE))
        if best is not None:
            look: dict[str, Any] = {"ms": 14, "color": style.VERMILION, "mec": "white", "zorder": 5}
            error.plot(*best, "*", label="best", clip_on=False, **look)
        thinner_pt = 0.7 if len(rates) <= MAX_NAMED_RATES else 0.0
        _draw_series(rate, history, rates, _choose_rate_colours(len(rates)), thinner_pt=thinner_pt)
        _set_log_y(rate)

        for axes, heading in ((loss, "Loss"), (error, "Validation error in km"), (rate, "Learning rate")):
            _finish_panel(axes, heading, history["epoch"])


def find_best_point(history: pd.DataFrame, best_epoch: int | None) -> tuple[int, float] | None:
    """Returns the best epoch and its mean validation error in km; None if either is not known."""
    if best_epoch is None or "val/error_km_mean" not in history:
        return None
    values = history.loc[history["epoch"] == best_epoch, "val/error_km_mean"].dropna()
    return (best_epoch, float(values.iloc[-1])) if len(values) else None


def find_rate_columns(history: pd.DataFrame) -> list[str]:
    """Returns the columns `lr/GROUP` with a positive value."""
    return [name for name in map(str, history.columns) if name.startswith("lr/") and (history[name] > 0).any()]


def make_rate_labels(columns: Sequence[str]) -> dict[str, str]:
    """Returns column -> label of each learning rate; of many, only the first and the last are named.

    Matplotlib omits labels that start with an underscore from the legend.
    """
    labels = {column: column.removeprefix("lr/") for column in columns}
    if len(columns) > MAX_NAMED_RATES:
        labels = {column: f"_{label}" for column, label in labels.items()}
        labels[columns[0]] = f"{columns[0].removeprefix('lr/')}, first of {len(columns)} groups"
        labels[columns[-1]] = f"{columns[-1].removeprefix('lr/')}, last"
    return labels


def _choose_rate_colours(count: int) -> Sequence[Any]:
    if count > MAX_NAMED_RATES:
        return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, count)))
    return (style.BLUE, style.ORANGE, style.GREEN, style.VERMILION, style.PURPLE, style.SKY)[:count]


def _draw_series(
    axes: Axes, history: pd.DataFrame, labels: dict[str, str], colours: Sequence[Any], *, thinner_pt: float = 0.0
) -> None:
    """Draws the columns that exist; with `thinner_pt` lines become thinner, so that equal ones are all visible."""
    for index, ((column, label), colour) in enumerate(zip(labels.items(), colours, strict=True)):
        if column not in history:
            continue
        values = history[["epoch", column]].to_numpy(dtype=np.float64)
        values = values[np.isfinite(values).all(axis=1)]

        if len(values):
            width = 1.8 + thinner_pt * (len(labels) - 1 - index)
            # One row makes no line, so that few rows get markers.
            few = (values[:, 1] > 0).sum() <= (2 if thinner_pt else 40)
            look: dict[str, Any] = {"lw": width, "ms": width + 1.7, "marker": "o" if few else ""}
            axes.plot(*values.T, color=colour, label=shorten(label, 42), **look)


def _set_log_y(axes: Axes) -> None:
    """Makes the y axis logarithmic over the positive values; zeros leave a gap."""
    values = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    positive = np.concatenate([np.zeros(0), *values])
    positive = positive[positive > 0]
    if len(positive):
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(positive.min() / 1.6, positive.max() * 1.6)
        style.set_log_ticks(axes.yaxis, float(positive.max() / positive.min()))


def _finish_panel(axes: Axes, heading: str, epochs: pd.Series[Any]) -> None:
    axes.set_title(heading, fontweight="bold")
    axes.set_xlabel("epoch")

    known = np.unique(epochs.dropna().to_numpy(dtype=np.float64))
    if len(known) > 1:
        pad = 0.03 * (known[-1] - known[0])
        axes.set_xlim(known[0] - pad, known[-1] + pad)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    else:
        axes.set_xticks(known)
    axes.xaxis.set_major_formatter(format_number)

    if not axes.lines:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=style.MUTED)
        axes.set_yticks([])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.03, -0.17), borderaxespad=0.0, labelspacing=0.35)


def draw_rate_search(path: Path, *, rates: FloatArray, losses: FloatArray, chosen: float) -> None:
    """Draws a learning-rate range test: the finite losses at (S,) learning rates, and the chosen learning rate."""
    rates, losses = np.asarray(rates, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(losses) & (rates > 0)
    rates, losses = rates[finite], losses[finite]

    with style.picture(path, 4.6) as figure:
        subtitle = f"{len(rates):,} steps; chosen learning rate {chosen:.3g}"
        style.add_header(figure, "Learning-rate search", subtitle)
        axes = style.add_axes(figure, 0.85, 0.65, 8.85, 4.6 - style.HEADER_IN - 0.75)
        axes.set_xscale("log")
        low, high = np.append(rates, chosen).min(), np.append(rates, chosen).max()
        axes.set_xlim(low / 1.15, high * 1.15)
        axes.plot(rates, losses, color=style.BLUE, marker="o" if len(rates) <= 40 else "", ms=3.5)
        axes.axvline(chosen, color=style.VERMILION, lw=1.4, ls=DASHES[1])

        if len(losses):
            loss = float(np.interp(np.log(chosen), np.log(rates), losses))
            axes.plot(chosen, loss, "*", ms=15, color=style.VERMILION, mec="white", zorder=5)
            axes.set_ylim(*compute_loss_limits(losses))
        style.set_log_ticks(axes.xaxis, float(high / low))
        axes.set(xlabel="learning rate", ylabel="training loss")


def compute_loss_limits(losses: FloatArray) -> tuple[float, float]:
    """Returns the limits of an axis of losses, without the divergence at high learning rates."""
    low = float(losses.min())
    start = float(np.median(losses[: max(1, len(losses) // 5)]))
    high = min(float(losses.max()), start + 0.6 * (start - low))
    high = high if high > low else float(losses.max())
    pad = 0.06 * (high - low) or 0.5
    return low - pad, high + pad
