"""Identity: which places are the same, or nearly so, by panorama, bytes, look and position.

A place is compared with those that were kept before it, never with one that is itself a duplicate: so a
chain of look-alikes (A like B, B like C, A unlike C) does not become one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.inspection import OK, ImageStats, compute_hash_distance
from geoguesser.data.place_files import NO_PANORAMA, PANORAMA_COLUMNS
from geoguesser.geo.distance import EARTH_RADIUS_KM, haversine_km, to_unit

HASH_BITS = 10  # of 112 that may differ; see examine.picture_hash for what was measured
ALIKE_VIEWS = 3
NEAR_M = 100.0  # look-alikes farther apart are two places of one look
NEIGHBOURS = 64  # of a place that are compared at most
CHUNK = 2**16  # places compared at once


@dataclass(frozen=True)
class Match:
    """A place that is the same as an earlier one."""

    kind: str
    row: int
    earlier: int
    reason: str


@dataclass(frozen=True)
class DuplicateKeys:
    """What was found.

    Attributes:
        matches: All pairs.
        dropped: (N,) places to be left out.
        groups: (N,) a number per place; places that are the same, and all stay, share one.
    """

    matches: list[Match]
    dropped: BoolArray
    groups: IntArray


def find_duplicates(
    table: pd.DataFrame,
    coords_deg: FloatArray,
    facts: ImageStats | None,
    findings: Findings,
    *,
    first: BoolArray | None = None,
) -> DuplicateKeys:
    """Finds places that are the same, and settles them.

    Args:
        table: N places, with `row` (where each came from) and perhaps a column of panorama ids.
        coords_deg: (N, 2).
        facts: Of their images; None compares panoramas and coordinates alone.
        findings: What to do about each kind; all pairs are recorded there.
        first: (N,) places that count as earlier than all others: those that a store recorded.

    Raises:
        DataError: A kind that was found is an error.
    """
    order = np.arange(len(table)) if first is None else np.argsort(~first, kind="stable")
    kept = np.ones(len(table), dtype=bool)
    matches: list[Match] = []
    ways: list[tuple[str, Iterator[Match]]] = [("duplicate_panorama", _same_panorama(table, order, kept))]
    if facts is not None:
        ways.append(("identical_image", _same_bytes(facts, order, kept)))
        ways.append(("near_duplicate", _alike(coords_deg, facts, order, kept)))
    ways.append(("same_coordinates", _same_coordinates(coords_deg, order, kept)))
    if facts is not None:
        findings.settle(_repeated(table, facts))
    for kind, way in ways:
        own = []
        for match in way:
            own.append(match)
            if not findings.keeps(kind):
                kept[match.row] = False
        names = table["uuid"].to_numpy()
        where = table["row"].to_numpy()
        findings.settle(
            Finding(kind, str(where[one.row]), f"({names[one.row]}) {one.reason} {names[one.earlier]}")
            for one in own
        )
        matches += own
    links = [(one.row, one.earlier) for one in matches if kept[one.row] and kept[one.earlier]]
    return DuplicateKeys(matches, ~kept, _groups(len(table), links))


def _groups(count: int, links: list[tuple[int, int]]) -> IntArray:
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _same_panorama(table: pd.DataFrame, order: IntArray, kept: BoolArray) -> Iterator[Match]:
    """By the first of the columns for it that says something in a row: roots may name it differently."""
    values: Any = np.full(len(table), "", dtype=object)
    for column in table.columns:
        if str(column).strip().lower() in PANORAMA_COLUMNS:
            words = table[column].fillna("").astype(str).str.strip()
            said = words.mask(words.str.lower().isin(NO_PANORAMA), "").to_numpy()
            values = np.where(values == "", said, values)
    yield from _by_key(values, order[values[order] != ""], kept, "duplicate_panorama", "has the panorama id of")


def _same_coordinates(coords_deg: FloatArray, order: IntArray, kept: BoolArray) -> Iterator[Match]:
    latitude, longitude = np.round(coords_deg, 7).T
    values = _pair_codes(latitude, longitude)
    yield from _by_key(values, order, kept, "same_coordinates", "has the coordinates of")


def _by_key(
    values: npt.NDArray[np.generic], order: IntArray, kept: BoolArray, kind: str, reason: str
) -> Iterator[Match]:
    """Pairs each place with the first kept one that has its value; only values that come twice are looked at."""
    codes = pd.factorize(values[order])[0]
    twice = np.flatnonzero(np.bincount(codes, minlength=1)[codes] > 1)
    holders: dict[int, int] = {}
    for position in twice:
        row = int(order[position])
        if not kept[row]:
            continue
        earlier = holders.get(codes[position])
        if earlier is None:
            holders[codes[position]] = row
        else:
            yield Match(kind, row, earlier, reason)


def _pair_codes(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> IntArray:
    """A number for each pair of values, the same for the same pair."""
    second, uniques = pd.factorize(b)
    return (pd.factorize(a)[0] * (len(uniques) + 1) + second).astype(np.int64)


def _same_bytes(facts: ImageStats, order: IntArray, kept: BoolArray) -> Iterator[Match]:
    """Places that share the very bytes of a usable view; one look-up per view that is there twice."""
    digests = facts.views["digest"]
    pairs = _pair_codes(digests[..., 0].ravel(), digests[..., 1].ravel())
    codes = pd.factorize(pairs)[0].reshape(digests.shape[:2])
    usable = facts.views["state"] == OK
    counts = np.bincount(codes[usable], minlength=codes.max(initial=0) + 1)
    shared = usable & (counts[codes] > 1)
    holders: dict[int, int] = {}
    for row in order[shared.any(axis=1)[order] & kept[order]]:
        own = codes[row][shared[row]].tolist()
        earlier = [holders[code] for code in own if holders.get(code, row) != row]
        if earlier:
            count = len(earlier)
            reason = f"shares {count} image{'' if count == 1 else 's'}, byte for byte, with"
            yield Match("identical_image", int(row), min(earlier), reason)
        if kept[row]:  # whoever takes the match may have dropped it
            for code in own:
                holders.setdefault(code, int(row))


def _alike(coords_deg: FloatArray, facts: ImageStats, order: IntArray, kept: BoolArray) -> Iterator[Match]:
    """Near places of which at least three usable views look the same."""
    rows = order[kept[order]]
    if len(rows) < 2:
        return
    vectors = to_unit(coords_deg[rows])
    reach = 2.0 * np.sin(NEAR_M / 1000.0 / EARTH_RADIUS_KM / 2.0)  # a chord
    tree, count = cKDTree(vectors), min(NEIGHBOURS, len(rows))
    state, hashes = facts.views["state"], facts.views["hash"]
    for start in range(0, len(rows), CHUNK):
        some = vectors[start : start + CHUNK]
        near: Any = tree.query(some, k=count, distance_upper_bound=reach, workers=-1)[1]
        numbers = np.arange(start, start + len(some))
        later, slot = np.nonzero(near < numbers[:, None])  # absent neighbours have number len(rows)
        a, b = rows[numbers[later]], rows[near[later, slot]]
        both = (state[a] == OK) & (state[b] == OK)
        alike = (both & (compute_hash_distance(hashes[a], hashes[b]) <= HASH_BITS)).sum(axis=1)
        for pair in np.flatnonzero(alike >= ALIKE_VIEWS):
            row, other = int(a[pair]), int(b[pair])
            if kept[row] and kept[other]:
                metres = 1000.0 * float(haversine_km(coords_deg[row], coords_deg[other]))
                reason = f"looks in {alike[pair]} views like, and lies {metres:.0f} m from,"
                yield Match("near_duplicate", row, other, reason)


def _repeated(table: pd.DataFrame, facts: ImageStats) -> list[Finding]:
    """Places with one image for two headings."""
    digests, usable = facts.views["digest"], facts.views["state"] == OK
    found = np.zeros(len(facts), dtype=bool)
    for one in range(4):
        for other in range(one):
            same = (digests[:, one] == digests[:, other]).all(axis=1)
            found |= same & usable[:, one] & usable[:, other]
    where, names = table["row"].to_numpy(), table["uuid"].to_numpy()
    reason = "has the same image for two headings"
    return [Finding("repeated_view", str(where[row]), f"({names[row]}) {reason}") for row in np.flatnonzero(found)]
