"""Findings: defects and peculiarities of the data, and the action for each kind.

`error` stops with all findings of the stage, `skip` leaves out the place or view, and `keep` only lists it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from geoguesser.errors import ConfigError, DataError, check_choice

ACTIONS = ("error", "skip", "keep")

# Findings that an error message lists; findings.csv has all of them.
MAX_LISTED = 8


class FindingKind(NamedTuple):
    """Kind of a finding, with its default action; `can_keep` is true if the place can be used as it is."""

    default: str
    can_keep: bool
    meaning: str


FINDING_KINDS: dict[str, FindingKind] = {
    # Mistakes in a table or a folder stop, because somebody should look at them.
    "bad_row": FindingKind("error", False, "a coordinate is not a number or out of range"),
    "duplicate_id": FindingKind("error", False, "the same uuid twice"),
    "missing_images": FindingKind("error", False, "a row without any view"),
    "missing_view": FindingKind("error", False, "a folder without one of the four views"),
    "broken_image": FindingKind("error", False, "a file that is not a complete image"),
    "far_outside": FindingKind("error", False, "far from the region's land"),
    "gone": FindingKind("error", False, "in the store, but no longer in the roots"),
    # Collected data contain duplicates and placeholders as a rule. They are left out, because test places with
    # training images would make the test error too small.
    "placeholder_image": FindingKind("skip", True, "a tiny or featureless image"),
    "no_view": FindingKind("skip", False, "with data.missing_views=mask: no view of it can be used"),
    "duplicate_panorama": FindingKind("skip", True, "the same panorama id twice"),
    "identical_image": FindingKind("skip", True, "the same bytes as another place's image"),
    "near_duplicate": FindingKind("skip", True, "at least three views are similar to those of a nearby place"),
    # Peculiarities are only listed.
    "same_coordinates": FindingKind("keep", True, "the same coordinates as another place"),
    "repeated_view": FindingKind("keep", True, "one image for two headings"),
    "split_bridge": FindingKind("keep", True, "duplicates on both sides of a split"),
    "unusual_mode": FindingKind("keep", True, "grey, CMYK, palette or transparent; turned into RGB"),
    "turned_image": FindingKind("keep", True, "rotated or mirrored by its EXIF orientation; turned upright"),
    "small_image": FindingKind("keep", True, "less than half of the requested size; it is enlarged"),
    "odd_aspect": FindingKind("keep", True, "at least twice as long one way as the other"),
}


class Finding(NamedTuple):
    """Defect or peculiarity of the data: a key of `FINDING_KINDS`, and a description as a predicate of `where`."""

    kind: str
    where: str
    reason: str


@dataclass
class Findings:
    """Findings of a data set, by action.

    Attributes:
        on_bad: Kind -> `error`, `skip` or `keep`; other kinds have their default action.
        defer: Collect errors as `skip` does, instead of raising at once, so that one pass reports all findings.
        ids: Ids of all rows that were read, including rows that were left out.
    """

    on_bad: dict[str, str] = field(default_factory=dict)
    defer: bool = False
    fatal: list[Finding] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)
    kept: list[Finding] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for kind, action in self.on_bad.items():
            if kind not in FINDING_KINDS:
                raise ConfigError.at(f"data.on_bad.{kind}", f"must be one of the kinds {', '.join(FINDING_KINDS)}")
            allowed = ACTIONS if FINDING_KINDS[kind].can_keep else ACTIONS[:2]
            check_choice(f"data.on_bad.{kind}", action, allowed)

    def action(self, kind: str) -> str:
        """Returns the action for a kind."""
        return self.on_bad.get(kind, FINDING_KINDS[kind].default)

    def keeps(self, kind: str) -> bool:
        """Returns whether places and views with a finding of this kind stay in use."""
        return self.action(kind) == "keep"

    def record(self, findings: Iterable[Finding]) -> None:
        """Records findings, each by the action of its kind; raises DataError for errors, unless it is deferred."""
        by_action = self._by_action()
        for finding in findings:
            by_action[self.action(finding.kind)].append(finding)
        if not self.defer:
            self.raise_fatal()

    def raise_fatal(self) -> None:
        """Raises DataError if there are errors, with up to eight of them, their counts and a remedy."""
        if not self.fatal:
            return

        counts = Counter(finding.kind for finding in self.fatal)
        lines = [
            f"  {finding.kind}: {finding.where} {finding.reason}".rstrip() for finding in self.fatal[:MAX_LISTED]
        ]
        if len(self.fatal) > MAX_LISTED:
            lines.append(f"  and {len(self.fatal) - MAX_LISTED} more")

        totals = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        skips = " ".join(f"data.on_bad.{kind}=skip" for kind in counts)
        reasons = [finding.reason for finding in self.fatal]
        some_views = any(reason.startswith("lacks ") and reason.count(",") < 3 for reason in reasons)
        masks = "; places with 1 to 3 views may stay: data.missing_views=mask" if some_views else ""
        raise DataError(
            f"The data break rules ({totals}):\n"
            + "\n".join(lines)
            + f"\nCorrect them, or leave those places out (they are counted and listed): {skips}{masks}"
        )

    def count_skipped(self) -> dict[str, int]:
        """Returns the number of findings of each kind that left out a place or view."""
        return dict(Counter(finding.kind for finding in self.skipped))

    def format_skipped(self) -> str:
        """Returns these numbers as text: `3 missing_images, 1 far_outside`; empty if there are none."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.count_skipped().items())

    def to_table(self) -> pd.DataFrame:
        """Returns one row per finding: action, kind, where, reason."""
        rows = [
            (action, finding.kind, finding.where, finding.reason)
            for action, findings in self._by_action().items()
            for finding in findings
        ]
        return pd.DataFrame(rows, columns=["action", "kind", "where", "reason"])

    def _by_action(self) -> dict[str, list[Finding]]:
        return {"error": self.fatal, "skip": self.skipped, "keep": self.kept}
