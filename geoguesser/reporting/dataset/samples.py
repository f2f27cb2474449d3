"""Views of a dataset for its report: a few places as they are in their files, and which ones to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from geoguesser.data.checks.duplicates import Match
from geoguesser.data.checks.image_stats import BROKEN, MISSING, PLACEHOLDER
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.splits import SPLIT_NAMES
from geoguesser.errors import DataError

SHOWN_PX, QUALITY = 160, 82  # about 7 kB a view
WHY_NOT = {MISSING: "missing", BROKEN: "broken", PLACEHOLDER: "placeholder"}


@dataclass(frozen=True)
class SamplePhoto:
    """One view, to be shown.

    Attributes:
        jpeg: Its bytes; None where there is nothing to show.
        why_not: Why there is nothing, in a word or two.
    """

    jpeg: bytes | None
    why_not: str = ""


def load_sample_photos(files: PlaceFiles, fit: str, unused: Sequence[str] = ("", "", "", "")) -> list[SamplePhoto]:
    """Reads the four views of a place from their files.

    Args:
        files: Where they are.
        fit: As in `ImageSpec`.
        unused: Why a view is not used, so that it is not shown; empty for those that are.
    """
    spec = ImageSpec(size=SHOWN_PX, fit=fit)
    photos: list[SamplePhoto] = []
    for heading, reason in enumerate(unused):
        if reason or files.names[heading] is None:
            photos.append(SamplePhoto(None, reason or WHY_NOT[MISSING]))
            continue
        try:
            image = spec.read(files.path(heading)).transpose(1, 2, 0)
        except DataError:  # a finding names the file and says what is wrong with it
            photos.append(SamplePhoto(None, WHY_NOT[BROKEN]))
            continue
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, "RGB", "420")
        photos.append(SamplePhoto(jpeg))
    return photos


def list_reasons(state: npt.NDArray[Any], used: npt.NDArray[np.bool_]) -> list[str]:
    """(4,) states and which views are used -> why a view is not, empty for those that are."""
    pairs = zip(state.tolist(), used.tolist(), strict=True)
    return ["" if own else WHY_NOT.get(one, "left out") for one, own in pairs]


def pick_samples(splits: npt.NDArray[Any], mask: npt.NDArray[np.bool_], most: int = 6) -> list[int]:
    """Rows of places to show: evenly through each split, and one that lacks a view where there is one.

    Args:
        splits: (N,) the split of each place.
        mask: (N, 4) which views are used.
        most: How many places.
    """
    masked = np.flatnonzero(~mask.all(axis=1))[:1].tolist()
    own = {name: np.flatnonzero(splits == name) for name in SPLIT_NAMES}
    each = -(-most // len(SPLIT_NAMES))
    picked = [
        int(rows[at])
        for rows in own.values()
        for at in np.unique(np.linspace(0, len(rows) - 1, each + 2)[1:-1].astype(np.int64))
        if len(rows)
    ]
    if masked and masked[0] not in picked:
        picked = [*picked[: most - 1], *masked]
    return picked[:most]


def pick_pairs(matches: Sequence[Match], most: int = 6) -> list[Match]:
    """Pairs to show, of as many kinds as there are: the first of each, then the second of each, and so on."""
    kinds = list(dict.fromkeys(one.kind for one in matches))
    rank: dict[str, int] = dict.fromkeys(kinds, 0)
    ranked: list[tuple[int, int, int]] = []
    for number, one in enumerate(matches):
        ranked.append((rank[one.kind], kinds.index(one.kind), number))
        rank[one.kind] += 1
    return [matches[number] for _, _, number in sorted(sorted(ranked)[:most], key=lambda three: three[1:])]
