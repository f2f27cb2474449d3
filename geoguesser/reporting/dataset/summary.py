"""What there is to say of a prepared dataset, in words and numbers; terminal and page say the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoguesser.data.checks.findings import FINDING_KINDS, Finding, Findings
from geoguesser.data.checks.leakage import WITHIN_M
from geoguesser.data.splits import SPLIT_NAMES, UNUSED
from geoguesser.reporting.text import format_bytes
from geoguesser.system.text import format_count

if TYPE_CHECKING:  # they bring Lightning, which a comparison need not wait for
    from geoguesser.data.sources.places import PlacesDataModule
    from geoguesser.data.store.writer import Prepared

OF_TABLES = (
    "bad_row",
    "duplicate_id",
    "missing_images",
    "missing_view",
    "far_outside",
)  # before any image is read


@dataclass(frozen=True)
class SplitRow:
    """One split.

    Attributes:
        name: train, val, test or unused.
        places: How many.
        median_km: Of the distance to the nearest training place, of training places to another one; None where
            there is none.
        within: How many lie within 50, 500 and 5,000 m of one; None with the median.
    """

    name: str
    places: int
    median_km: float | None
    within: list[int] | None


@dataclass(frozen=True)
class PlaceGroup:
    """All findings of one kind with which the same was done.

    Attributes:
        kind: One of `FINDING_KINDS`.
        action: error, skip or keep.
        found: The findings, in the order in which they were found.
    """

    kind: str
    action: str
    found: list[Finding]

    @property
    def what(self) -> str:
        """What the kind means."""
        return FINDING_KINDS[self.kind].meaning


def make_split_rows(prepared: Prepared) -> list[SplitRow]:
    """The splits that hold places, and what the audit says of them."""
    splits = np.asarray(prepared.table["split"])
    rows: list[SplitRow] = []
    for name in (*SPLIT_NAMES, UNUSED):
        places = int((splits == name).sum())
        if not places:
            continue
        said = prepared.audit.get(name)
        median = None if said is None else float(said["nearest_training_km"]["p50"])
        within = None if said is None else [int(said["within_m"][str(metres)]) for metres in WITHIN_M]
        rows.append(SplitRow(name, places, median, within))
    return rows


def group_places(findings: Findings) -> list[PlaceGroup]:
    """Findings by action and kind: what stops first, then what was left out, then what was noted."""
    groups: list[PlaceGroup] = []
    for action, those in (("error", findings.fatal), ("skip", findings.skipped), ("keep", findings.kept)):
        counts = Counter(one.kind for one in those)
        for kind, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            groups.append(PlaceGroup(kind, action, [one for one in those if one.kind == kind]))
    return groups


def make_title(prepared: Prepared, data: PlacesDataModule) -> str:
    """The heading: whose places, how many, and whether they are synthetic."""
    label = f" ({data.label})" if data.label else ""
    return f"Data report: {format_count(len(prepared.table), 'place')} in {data.region.name}{label}"


def list_facts(prepared: Prepared, data: PlacesDataModule, out: Path | None) -> list[tuple[str, str]]:
    """What to know beside the splits and findings: a name and a sentence or two each."""
    return [
        ("Roots", ", ".join(map(str, data.roots))),
        ("Places", _places(prepared, data.findings)),
        ("Views", _views(prepared)),
        ("Split", _split(prepared, data, out)),
        ("Packed" if out is not None else "Not packed", _packed(prepared, out)),
        *_pixels(prepared),
    ]


def _places(prepared: Prepared, findings: Findings) -> str:
    seen, kept = len(prepared.input_table), len(prepared.table)
    text = (
        f"{seen:,} read, all used." if seen == kept else f"{seen:,} read, {kept:,} used, {seen - kept:,} left out."
    )
    before = Counter(one.kind for one in findings.skipped if one.kind in OF_TABLES)
    if before:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(before.items()))
        rest = "row or folder was" if before.total() == 1 else "rows or folders were"
        text += f" Before that, {before.total():,} {rest} left out ({kinds})."
    return text


def _views(prepared: Prepared) -> str:
    masked = ~prepared.mask
    if not masked.any():
        return f"{prepared.mask.size:,}, four of each place."
    places = format_count(int(masked.any(axis=1).sum()), "place")
    return f"{int(prepared.mask.sum()):,} used, {int(masked.sum()):,} masked, at {places}."


def _split(prepared: Prepared, data: PlacesDataModule, out: Path | None) -> str:
    text = str(data.split)
    if out is None:
        return text
    if not prepared.num_recorded:
        return f"{text}; no place had one before."
    before = f"{prepared.num_recorded:,} of {len(prepared.table):,} places"
    return f"{text}; {before} were split before and keep theirs."


def _packed(prepared: Prepared, out: Path | None) -> str:
    seen = len(prepared.input_table)
    sizes = ", ".join(f"{one.name} ({format_bytes(seen * 12 * one.size**2)})" for one in prepared.specs)
    if out is None:
        return f"only looked at; {sizes} would be packed."
    text = f"{sizes}, in {out}. "
    if prepared.num_reused == seen:
        text += "All places were packed before"
    elif prepared.num_reused:
        text += f"{prepared.num_reused:,} of {seen:,} places were packed before"
    else:
        text += "No place was packed before"
    return text + ("." if prepared.changed else "; the store was the same already, nothing was written.")


def _pixels(prepared: Prepared) -> list[tuple[str, str]]:
    """Mean and std of the training views by size; red, green and blue from 0 to 1."""
    return [
        (
            f"Pixels of {name}",
            f"mean {_three(stats['mean'])}, std {_three(stats['std'])} (red, green, blue of training views)",
        )
        for name, stats in prepared.pixel_stats.items()
    ]


def _three(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def make_size_rows(prepared: Prepared, most: int = 6) -> list[tuple[str, int]]:
    """The commonest sizes of used views, as found in their files, with their counts; the rest in one row."""
    views = prepared.image_stats.views[prepared.mask]
    if not len(views):
        return []
    sizes, counts = np.unique(np.stack((views["width"], views["height"]), axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    head = order if len(order) <= most + 1 else order[:most]
    rows = [(f"{sizes[at, 0]} × {sizes[at, 1]}", int(counts[at])) for at in head]
    rest = order[len(head) :]
    if len(rest):
        (low, tall), (high, taller) = sizes[rest].min(axis=0), sizes[rest].max(axis=0)
        name = f"{len(rest):,} others, {low} to {high} wide, {tall} to {taller} high"
        rows.append((name, int(counts[rest].sum())))
    return rows
