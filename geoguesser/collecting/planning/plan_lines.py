"""Formatting of a plan's statistics for the log."""

from __future__ import annotations

from typing import Any

from geoguesser.system.text import format_count


def format_plan(report: dict[str, Any]) -> list[str]:
    """Formats the statistics of `Strategy.report` as lines."""
    spacing = f", at least {report['spacing_m']:g} m apart" if report["spacing_m"] else ""
    counts = f"{report['made']:,} of {report['asked']:,} points"
    lines = [f"{counts} in {report['region']} by strategy={report['strategy']}{spacing}"]
    if report["existing"]:
        lines.append(f"existing places: {report['existing']:,}")
    if report["near"]:
        refused = f"{report['refused_near']:,} trials were farther"
        lines.append(f"within {report['near_m']:g} m of {report['near']} ({refused})")

    if "cells" in report:
        lines.append(
            f"{report['cells']:,} cells of {report['cell_km']:.3g} km with {report['min_in_cell']:,} to "
            f"{report['max_in_cell']:,} points each; {report['cells_short']:,} had no room for their quota of "
            f"{report['quota']:.1f}, {report['cells_empty']:,} are empty"
        )
    if "largest_gap_km" in report:
        lines.append(
            f"distance to the nearest place: {report['largest_gap_km']:.3g} km for the first point, "
            f"{report['last_gap_km']:.3g} km for the last"
        )

    if report["short"]:
        limits = "the spacing and the layer leave" if report["near"] else "the spacing leaves"
        lines.append(f"{format_count(report['short'], 'point')} fewer than requested: {limits} no more room")
    return lines
