"""Plan lines: what a plan came to, in words. Pure."""

from __future__ import annotations

from typing import Any

from geoguesser.system.text import format_count


def plan_lines(report: dict[str, Any]) -> list[str]:
    """What a plan came to, as lines for people."""
    made = (
        f"{report['made']:,} of {report['asked']:,} points in {report['region']} by strategy={report['strategy']}"
    )
    lines = [made + (f", at least {report['spacing_m']:g} m apart" if report["spacing_m"] else "")]
    if report["existing"]:
        lines.append(f"places that are there already: {report['existing']:,}")
    if report["near"]:
        lines.append(
            f"within {report['near_m']:g} m of {report['near']} ({report['refused_near']:,} trials were not near)"
        )
    if "cells" in report:
        lines.append(
            f"{report['cells']:,} cells of {report['cell_km']:.3g} km: {report['least_in_cell']:,} to "
            f"{report['most_in_cell']:,} points in each; {report['cells_short']:,} had no room for their "
            f"{report['quota']:.1f}, {report['cells_empty']:,} stay empty"
        )
    if "largest_gap_km" in report:
        gaps = f"{report['largest_gap_km']:.3g} km, the last {report['last_gap_km']:.3g} km"
        lines.append(f"the first point is in the largest gap, {gaps} from the nearest place")
    if report["short"]:
        why = "the spacing and the layer leave" if report["near"] else "the spacing leaves"
        lines.append(f"{format_count(report['short'], 'point')} fewer than asked: {why} no more room")
    return lines
