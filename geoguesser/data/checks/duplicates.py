"""Finds duplicate places by panorama id, file digest, perceptual hash and position.

A place is compared only with places that were kept before it, never with a duplicate. So a chain of similar places
(A like B, B like C, A unlike C) is not reduced to one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import OK, ImageStats
from geoguesser.data.checks.picture_hash import compute_hash_distance
from geoguesser.data.place_files import NO_PANORAMA, PANORAMA_COLUMNS
from geoguesser.geo.distance import compute_chord, haversine_km, to_unit

# Similar views differ in at most this many of the 112 bits of their hashes; measured in `compute_picture_hash`.
MAX_HASH_DISTANCE = 10

# Near-duplicates have at least this many similar views, of four.
MIN_SIMILAR_VIEWS = 3

# Similar places that are farther apart are two places that look the same.
MAX_DISTANCE_M = 100.0

# Each place is compared with at most this many nearest places.
MAX_NEIGHBOURS = 64

# Places that are compared in one array operation.
CHUNK_PLACES = 2**16


class Match(NamedTuple):
    """Place that is a duplicate of an earlier place, by row; `reason` precedes the id of the earlier place."""

    kind: str
    row: int
    earlier: int
    reason: str


class Duplicates(NamedTuple):
    """Duplicates among N places.

    Attributes:
        dropped: (N,) True for each place to leave out.
        groups: (N,) group of each place. Duplicates that are both kept have the same group, so that they get the
            same split.
    """

    matches: list[Match]
    dropped: BoolArray
    groups: IntArray


def find_duplicates(
    table: pd.DataFrame,
    coords_deg: FloatArray,
    stats: ImageStats,
    findings: Findings,
    *,
    in_store: BoolArray | None = None,
) -> Duplicates:
    """Finds duplicates among N places and records them as findings.

    `coords_deg` is (N, 2) latitude and longitude in degrees; `table` may hold columns of panorama ids. `findings`
    defines the action for each kind. `in_store` is (N,) True for each place of an existing store; these places are
    compared first, so that they are kept.
    """
    names, sources = table["uuid"].to_numpy(), table["row"].to_numpy()
    findings.record(
        Finding("repeated_view", str(sources[row]), f"({names[row]}) has the same image for two headings")
        for row in np.flatnonzero(_has_repeated_view(stats))
    )

    # Each search is a generator that reads `kept` while it runs, so that it never compares with a place dropped by
    # an earlier search or by one of its own matches.
    order = np.arange(len(table)) if in_store is None else np.argsort(~in_store, kind="stable")
    kept = np.ones(len(table), dtype=bool)
    positions = _encode_pairs(*np.round(coords_deg, 7).T)
    searches: dict[str, Iterator[tuple[int, int, str]]] = {
        "duplicate_panorama": _match_panoramas(table, order, kept),
        "identical_image": _match_digests(stats, order, kept),
        "near_duplicate": _match_similar(coords_deg, stats, order, kept),
        "same_coordinates": _match_values(positions, order, kept, "has the coordinates of"),
    }
    matches: list[Match] = []
    for kind, search in searches.items():
        new_matches = []
        for row, earlier, reason in search:
            new_matches.append(Match(kind, row, earlier, reason))

            # Drops the place unless the action of its kind is `keep`.
            kept[row] &= findings.keeps(kind)

        findings.record(
            Finding(kind, str(sources[match.row]), f"({names[match.row]}) {match.reason} {names[match.earlier]}")
            for match in new_matches
        )
        matches += new_matches

    links = [(match.row, match.earlier) for match in matches if kept[match.row] and kept[match.earlier]]
    return Duplicates(matches, ~kept, _label_groups(len(table), links))


def _label_groups(count: int, links: list[tuple[int, int]]) -> IntArray:
    """Returns the connected component of each row, (count,)."""
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _has_repeated_view(stats: ImageStats) -> BoolArray:
    """Returns (N,) True for each place with the same usable image for two headings."""
    digests, usable = stats.views["digest"], stats.views["state"] == OK
    repeated = np.zeros(len(stats), dtype=bool)
    for a, b in combinations(range(4), 2):
        same = (digests[:, a] == digests[:, b]).all(axis=1)
        repeated |= same & usable[:, a] & usable[:, b]
    return repeated


def _match_panoramas(table: pd.DataFrame, order: IntArray, kept: BoolArray) -> Iterator[tuple[int, int, str]]:
    """Matches panorama ids. Datasets name the column differently: the first one with an id in a row is used."""
    ids: Any = np.full(len(table), "", dtype=object)
    for column in table.columns:
        if str(column).strip().lower() in PANORAMA_COLUMNS:
            values = table[column].fillna("").astype(str).str.strip()
            values = values.mask(values.str.lower().isin(NO_PANORAMA), "")
            ids = np.where(ids == "", values, ids)

    return _match_values(ids, order[ids[order] != ""], kept, "has the panorama id of")


def _match_values(
    values: npt.NDArray[np.generic], order: IntArray, kept: BoolArray, reason: str
) -> Iterator[tuple[int, int, str]]:
    """Matches each place with the first kept place of the same value; only repeated values are visited."""
    codes = pd.factorize(values[order])[0]
    repeated = np.flatnonzero(np.bincount(codes, minlength=1)[codes] > 1)
    first_rows: dict[int, int] = {}
    for position in repeated:
        row = int(order[position])
        if not kept[row]:
            continue
        earlier = first_rows.setdefault(codes[position], row)
        if earlier != row:
            yield row, earlier, reason


def _encode_pairs(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> IntArray:
    """Returns an integer for each pair of values; equal pairs have equal integers."""
    second, uniques = pd.factorize(b)

    # The codes of b are -1 (missing) to len(uniques) - 1.
    return (pd.factorize(a)[0] * (len(uniques) + 1) + second).astype(np.int64)


def _match_digests(stats: ImageStats, order: IntArray, kept: BoolArray) -> Iterator[tuple[int, int, str]]:
    """Matches places that share the bytes of a usable view; only repeated files are looked up."""
    digests, usable = stats.views["digest"], stats.views["state"] == OK
    pairs = _encode_pairs(digests[..., 0].ravel(), digests[..., 1].ravel())
    codes = pd.factorize(pairs)[0].reshape(digests.shape[:2])
    counts = np.bincount(codes[usable], minlength=codes.max(initial=0) + 1)
    shared = usable & (counts[codes] > 1)

    first_rows: dict[int, int] = {}
    for row in order[shared.any(axis=1)[order] & kept[order]]:
        row_codes = codes[row][shared[row]].tolist()
        earlier = [first_rows[code] for code in row_codes if code in first_rows]
        if earlier:
            count = len(earlier)
            reason = f"shares {count} image{'' if count == 1 else 's'}, byte for byte, with"
            yield int(row), min(earlier), reason

        # The caller may have dropped the place because of the match.
        if kept[row]:
            for code in row_codes:
                first_rows.setdefault(code, int(row))


def _match_similar(
    coords_deg: FloatArray, stats: ImageStats, order: IntArray, kept: BoolArray
) -> Iterator[tuple[int, int, str]]:
    """Matches near places of which at least three usable views have similar perceptual hashes."""
    rows = order[kept[order]]
    if len(rows) < 2:
        return

    vectors, max_chord = to_unit(coords_deg[rows]), compute_chord(MAX_DISTANCE_M)
    tree, num_neighbours = cKDTree(vectors), min(MAX_NEIGHBOURS, len(rows))
    state, hashes = stats.views["state"], stats.views["hash"]

    for start in range(0, len(rows), CHUNK_PLACES):
        chunk = vectors[start : start + CHUNK_PLACES]
        neighbours: Any = tree.query(chunk, k=num_neighbours, distance_upper_bound=max_chord, workers=-1)[1]

        # Each pair is visited once, from its later place; the index of an absent neighbour is len(rows).
        indices = np.arange(start, start + len(chunk))
        at, slot = np.nonzero(neighbours < indices[:, None])
        later_rows, earlier_rows = rows[indices[at]], rows[neighbours[at, slot]]
        usable = (state[later_rows] == OK) & (state[earlier_rows] == OK)
        distance = compute_hash_distance(hashes[later_rows], hashes[earlier_rows])
        num_similar = (usable & (distance <= MAX_HASH_DISTANCE)).sum(axis=1)

        for pair in np.flatnonzero(num_similar >= MIN_SIMILAR_VIEWS):
            row, earlier = int(later_rows[pair]), int(earlier_rows[pair])
            if kept[row] and kept[earlier]:
                metres = 1000.0 * float(haversine_km(coords_deg[row], coords_deg[earlier]))
                reason = f"has {num_similar[pair]} views similar to, and is {metres:.0f} m from,"
                yield row, earlier, reason
