"""Soundness: what follows from findings: which views are used, which places are left out.

One rule for all kinds that concern one image: what is skipped is left out as a view where
`data.missing_views` is mask, else with its whole place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import BoolArray, StringArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.inspection import OK, PLACEHOLDER, ImageStats
from geoguesser.data.place_files import HEADINGS
from geoguesser.data.splits import Split, SplitConstraints
from geoguesser.errors import DataError, check_choice
from geoguesser.geo.region import Region


def check_missing_views(value: object) -> bool:
    """Whether places with fewer than four views are kept.

    Raises:
        ConfigError: `data.missing_views` is neither drop nor mask.
    """
    return check_choice("data.missing_views", value, ("drop", "mask")) == "mask"


def record_image_findings(
    table: pd.DataFrame,
    facts: ImageStats,
    found: list[tuple[int, int, Finding]],
    findings: Findings,
    *,
    mask: bool,
    largest: int,
) -> tuple[BoolArray, BoolArray]:
    """Settles what examining the images found.

    Args:
        table: N places, with `row`.
        facts: Of their images.
        found: Row, number of the heading, and finding.
        findings: What to do about each kind; all are recorded there.
        mask: Leave out single views, and a place only when none is left.
        largest: The largest size asked for; an image of less than half of it is a finding.

    Returns:
        (N, 4) which views are used, and (N,) which places are left out.

    Raises:
        DataError: A kind that was found is an error.
    """
    found = found + _small(table, facts, largest)
    findings.settle(finding for _, _, finding in found)
    out = np.zeros((len(facts), 4), dtype=bool)
    for row, heading, finding in found:
        out[row, heading] |= not findings.keeps(finding.kind)
    state = facts.views["state"]
    used = ((state == OK) | (state == PLACEHOLDER)) & ~out
    if not mask:
        return used, ~used.all(axis=1)
    dropped = ~used.any(axis=1)
    where = table["row"].to_numpy()
    findings.settle(
        Finding("no_view", str(where[row]), "has no view that can be used") for row in np.flatnonzero(dropped)
    )
    return used, dropped


def _small(table: pd.DataFrame, facts: ImageStats, largest: int) -> list[tuple[int, int, Finding]]:
    """Images that are enlarged more than twice; told from their facts, whatever size they were packed for."""
    views = facts.views
    short = np.minimum(views["width"], views["height"])
    found = []
    for row, heading in zip(*np.nonzero((views["state"] == OK) & (2 * short < largest)), strict=True):
        size = f"{views['width'][row, heading]} x {views['height'][row, heading]} pixels"
        where = f"{table['row'].iloc[row]}, heading {HEADINGS[heading]}"
        found.append((int(row), int(heading), Finding("small_image", where, f"is {size}, for views of {largest}")))
    return found


def split_places(
    split: Split, table: pd.DataFrame, region: Region, ties: SplitConstraints | None, findings: Findings
) -> StringArray:
    """Splits, and settles the places that are the same as places on both sides.

    Where `data.on_bad.split_bridge` is skip these are not used; a split that keeps them apart by itself
    (`split=blocks`, a recorded side) has done that already.

    Raises:
        ConfigError: A value breaks its rule.
        DataError: A split would be empty; the message says what was left out before.
    """
    try:
        splits, bridges = split.assign_tied(table, region, ties, drop=not findings.keeps("split_bridge"))
    except DataError as error:
        left = findings.left_out()
        raise DataError(f"{error} Left out before: {left}." if left else str(error)) from error
    names, where = table["uuid"].to_numpy(), table["row"].to_numpy()
    findings.settle(
        Finding("split_bridge", str(where[one.row]), f"({names[one.row]}) {one.reason}") for one in bridges
    )
    return splits


def compute_pixel_stats(
    facts: ImageStats, used: BoolArray, rows: npt.NDArray[np.int64], size: int
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the pixels of some places' used views, by channel, of values from 0 to 1.

    The sums are exact integers, so the order of places does not matter.

    Args:
        facts: Of N places.
        used: (N, 4) which views count.
        rows: Which places.
        size: Height and width of a view.

    Returns:
        Three means and three deviations, in float64.
    """
    sums = (facts.sums[rows] * used[rows][..., None, None]).sum(axis=(0, 1))
    return compute_stats(sums, int(used[rows].sum()) * size**2)


def compute_stats(sums: npt.NDArray[np.int64], pixels: int) -> tuple[list[float], list[float]]:
    """(2, 3) sums of values and squares over so many pixels -> three means and three deviations, from 0 to 1."""
    mean = sums[0] / pixels / 255.0
    variance = np.maximum(sums[1] / pixels / 255.0**2 - mean**2, 0.0)
    return mean.tolist(), np.sqrt(variance).tolist()
