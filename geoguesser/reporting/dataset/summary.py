"""Summary of a prepared dataset in numbers and sentences, shared by the terminal and the page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoguesser.data.checks.findings import FINDING_KINDS, Finding, Findings
from geoguesser.data.checks.leakage import LEAKAGE_RADII_M
from geoguesser.data.splits import SPLIT_NAMES, UNUSED
from geoguesser.system.text import format_bytes, format_count

# They import Lightning, which takes seconds.
if TYPE_CHECKING:
    from geoguesser.data.sources.places import PlacesDataModule
    from geoguesser.data.store.writer import PreparedDataset

# Kinds of findings of rows and folders, made before any image is read.
TABLE_KINDS = ("bad_row", "duplicate_id", "missing_images", "missing_view", "far_outside")


@dataclass(frozen=True)
class SplitRow:
    """Summary of one split, with its median distance to the nearest (other) training place.

    `within` counts the places within 50, 500 and 5,000 m of a training place; None if there is none.
    """

    name: str
    places: int
    median_km: float | None
    within: list[int] | None


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind with the same action: `error`, `skip` or `keep`."""

    kind: str
    action: str
    findings: list[Finding]

    @property
    def description(self) -> str:
        return FINDING_KINDS[self.kind].meaning


def make_split_rows(prepared: PreparedDataset) -> list[SplitRow]:
    """Returns the splits that hold places, with their distances to training places."""
    splits = np.asarray(prepared.table["split"])
    rows: list[SplitRow] = []

    for name in (*SPLIT_NAMES, UNUSED):
        places = int((splits == name).sum())
        if not places:
            continue
        audit = prepared.audit.get(name)
        median = None if audit is None else float(audit["nearest_training_km"]["p50"])
        within = None if audit is None else [int(audit["within_m"][str(metres)]) for metres in LEAKAGE_RADII_M]
        rows.append(SplitRow(name, places, median, within))
    return rows


def group_findings(findings: Findings) -> list[FindingGroup]:
    """Groups findings by action (errors, skipped, kept) and kind, most frequent kinds first."""
    groups: list[FindingGroup] = []
    by_action = {"error": findings.fatal, "skip": findings.skipped, "keep": findings.kept}

    for action, recorded in by_action.items():
        counts = Counter(finding.kind for finding in recorded)
        for kind, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            groups.append(FindingGroup(kind, action, [item for item in recorded if item.kind == kind]))
    return groups


def make_dataset_title(prepared: PreparedDataset, data: PlacesDataModule) -> str:
    """Returns the title: number of places, region, and the label of synthetic data."""
    label = f" ({data.label})" if data.label else ""
    return f"Data report: {format_count(len(prepared.table), 'place')} in {data.region.name}{label}"


def list_facts(prepared: PreparedDataset, data: PlacesDataModule, out: Path | None) -> list[tuple[str, str]]:
    """Lists facts besides splits and findings, each with a name and a text."""
    return [
        ("Roots", ", ".join(map(str, data.roots))),
        ("Places", _describe_places(prepared, data.findings)),
        ("Views", _describe_views(prepared)),
        ("Split", _describe_split(prepared, data, out)),
        ("Packed" if out is not None else "Not packed", _describe_packing(prepared, out)),
        *_describe_pixels(prepared),
    ]


def _describe_places(prepared: PreparedDataset, findings: Findings) -> str:
    read, used = len(prepared.input_table), len(prepared.table)
    places = "all used" if read == used else f"{used:,} used, {read - used:,} left out"
    text = f"{read:,} read, {places}."

    before = Counter(finding.kind for finding in findings.skipped if finding.kind in TABLE_KINDS)
    if before:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(before.items()))
        noun = "row or folder was" if before.total() == 1 else "rows or folders were"
        text += f" Before that, {before.total():,} {noun} left out ({kinds})."
    return text


def _describe_views(prepared: PreparedDataset) -> str:
    masked = ~prepared.mask
    if not masked.any():
        return f"{prepared.mask.size:,}, four of each place."
    places = format_count(int(masked.any(axis=1).sum()), "place")
    return f"{int(prepared.mask.sum()):,} used, {int(masked.sum()):,} masked, at {places}."


def _describe_split(prepared: PreparedDataset, data: PlacesDataModule, out: Path | None) -> str:
    if out is None:
        return str(data.split)
    if not prepared.num_recorded:
        return f"{data.split}; the store recorded no split before."
    return f"{data.split}; {prepared.num_recorded:,} of {len(prepared.table):,} places keep their recorded split."


def _describe_packing(prepared: PreparedDataset, out: Path | None) -> str:
    places = len(prepared.input_table)
    # Four views of three bytes per pixel.
    sizes = ", ".join(f"{spec.name} ({format_bytes(places * 12 * spec.size**2)})" for spec in prepared.specs)
    if out is None:
        return f"checked only; {sizes} would be packed."

    text = f"{sizes}, in {out}. "
    if prepared.num_reused == places:
        text += "All places were packed before"
    elif prepared.num_reused:
        text += f"{prepared.num_reused:,} of {places:,} places were packed before"
    else:
        text += "No place was packed before"
    return text + ("." if prepared.changed else "; the store is up to date, nothing was written.")


def _describe_pixels(prepared: PreparedDataset) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name, stats in prepared.pixel_stats.items():
        mean, std = (" ".join(f"{value:.3f}" for value in stats[key]) for key in ("mean", "std"))
        facts.append((f"Pixels of {name}", f"mean {mean}, std {std} (red, green, blue of training views)"))
    return facts


def make_size_rows(prepared: PreparedDataset, max_rows: int = 6) -> list[tuple[str, int]]:
    """Returns the most frequent sizes of used views in their files, with counts; the other sizes in one row."""
    views = prepared.image_stats.views[prepared.mask]
    if not len(views):
        return []
    sizes, counts = np.unique(np.stack((views["width"], views["height"]), axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")

    # A row for one other size would save nothing.
    listed = order if len(order) <= max_rows + 1 else order[:max_rows]
    rows = [(f"{sizes[at, 0]} × {sizes[at, 1]}", int(counts[at])) for at in listed]
    others = order[len(listed) :]
    if len(others):
        (min_width, min_height), (max_width, max_height) = sizes[others].min(axis=0), sizes[others].max(axis=0)
        name = f"{len(others):,} others, {min_width} to {max_width} wide, {min_height} to {max_height} high"
        rows.append((name, int(counts[others].sum())))
    return rows
