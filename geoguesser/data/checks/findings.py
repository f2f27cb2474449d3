"""Findings: what is wrong or remarkable in the data, and what is done about each kind. Nothing goes in silence.

An `error` stops, with all findings of its stage in the message. A `skip` leaves out what it concerns, a
`keep` only notes it; both are counted and listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from geoguesser.errors import ConfigError, DataError, check_choice

ACTIONS = ("error", "skip", "keep")
SHOWN = 8


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding.

    Attributes:
        default: What is done where `data.on_bad` does not say.
        usable: Whether the place could be used as it is, so that `keep` is allowed.
        what: What it means, for reports.
    """

    default: str
    usable: bool
    what: str


KINDS: dict[str, FindingKind] = {
    # Mistakes in a table or a folder: somebody should look, so they stop.
    "bad_row": FindingKind("error", False, "a coordinate is no number or out of range"),
    "duplicate_id": FindingKind("error", False, "the same uuid twice"),
    "missing_images": FindingKind("error", False, "a row without any view"),
    "missing_view": FindingKind("error", False, "a folder without one of the four views"),
    "broken_image": FindingKind("error", False, "a file that is no whole image"),
    "far_outside": FindingKind("error", False, "far from the region's land"),
    "gone": FindingKind("error", False, "in the store, but no longer in the roots"),
    # What collecting brings with it: left out, for a test set with training images in it flatters.
    "placeholder_image": FindingKind("skip", True, "a tiny or featureless image"),
    "no_view": FindingKind("skip", False, "with data.missing_views=mask: no view of it can be used"),
    "duplicate_panorama": FindingKind("skip", True, "the same panorama id twice"),
    "identical_image": FindingKind("skip", True, "the very bytes of another place's image"),
    "near_duplicate": FindingKind("skip", True, "at least three views look like those of a place beside it"),
    # Worth knowing.
    "same_coordinates": FindingKind("keep", True, "the very coordinates of another place"),
    "repeated_view": FindingKind("keep", True, "one image for two headings"),
    "split_bridge": FindingKind("keep", True, "duplicates on both sides of a split"),
    "unusual_mode": FindingKind("keep", True, "grey, CMYK, palette or transparent; turned into RGB"),
    "turned_image": FindingKind("keep", True, "EXIF says that it lies on its side; turned upright"),
    "small_image": FindingKind("keep", True, "less than half of the size asked for; it is enlarged"),
    "odd_aspect": FindingKind("keep", True, "at least twice as long one way as the other"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its kind (of `KINDS`), where, and why."""

    kind: str
    where: str
    reason: str


@dataclass
class Findings:
    """What was found, and what is done about each kind.

    Attributes:
        on_bad: kind -> `error`, `skip` or `keep`; kinds that are not named have their default.
        defer: Do not raise at once: go on as with `skip`, so that one look finds everything.
        fatal: Findings that are errors, where raising was deferred.
        skipped: Findings that left something out.
        kept: Findings that were only noted.
        ids: The ids of all rows that were read, those of rows that were left out too.
    """

    on_bad: dict[str, str] = field(default_factory=dict)
    defer: bool = False
    fatal: list[Finding] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)
    kept: list[Finding] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for kind, action in self.on_bad.items():
            if kind not in KINDS:
                raise ConfigError.at(f"data.on_bad.{kind}", f"must be one of the kinds {', '.join(KINDS)}")
            allowed = ACTIONS if KINDS[kind].usable else ACTIONS[:2]
            check_choice(f"data.on_bad.{kind}", action, allowed)

    def action(self, kind: str) -> str:
        """What is done about a kind."""
        return self.on_bad.get(kind, KINDS[kind].default)

    def keeps(self, kind: str) -> bool:
        """Whether places with a finding of this kind stay in use."""
        return self.action(kind) == "keep"

    def settle(self, found: Iterable[Finding]) -> None:
        """Takes findings in, each by the action of its kind.

        Raises:
            DataError: One of their kinds is an error and raising is not deferred.
        """
        found = list(found)
        lists = {"error": self.fatal, "skip": self.skipped, "keep": self.kept}
        for one in found:
            lists[self.action(one.kind)].append(one)
        if not self.defer:
            self.raise_fatal()

    def note(self, found: Iterable[Finding]) -> None:
        """Takes in findings that leave nothing out, whatever the action of their kind: something else was done."""
        self.kept.extend(found)

    def raise_fatal(self) -> None:
        """Raises DataError where there are errors: up to eight of them, the counts and the way to go on."""
        if not self.fatal:
            return
        counts = Counter(one.kind for one in self.fatal)
        lines = [f"  {one.kind}: {f'{one.where} {one.reason}'.strip()}" for one in self.fatal[:SHOWN]]
        if len(self.fatal) > SHOWN:
            lines.append(f"  and {len(self.fatal) - SHOWN} more")
        totals = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        skips = " ".join(f"data.on_bad.{kind}=skip" for kind in counts)
        some_views = any(one.reason.startswith("lacks ") and one.reason.count(",") < 3 for one in self.fatal)
        masks = "; places with 1 to 3 views may stay: data.missing_views=mask" if some_views else ""
        raise DataError(
            f"The data break rules ({totals}):\n"
            + "\n".join(lines)
            + f"\nMend them, or leave those places out (they are counted and listed): {skips}{masks}"
        )

    def counts(self) -> dict[str, int]:
        """How many findings of each kind left something out."""
        return dict(Counter(one.kind for one in self.skipped))

    def left_out(self) -> str:
        """The counts in words: `3 missing_image, 1 out_of_region`; empty where nothing was left out."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.counts().items())

    def table(self) -> pd.DataFrame:
        """One row per finding: action, kind, where, reason."""
        lists = {"error": self.fatal, "skip": self.skipped, "keep": self.kept}
        rows = [(action, one.kind, one.where, one.reason) for action, those in lists.items() for one in those]
        return pd.DataFrame(rows, columns=["action", "kind", "where", "reason"])
