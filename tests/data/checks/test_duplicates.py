"""Identity: what is the same by panorama, bytes, look and position, and what only seems so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest

from geoguesser.data.checks import duplicates as module
from geoguesser.data.checks.duplicates import find_duplicates
from geoguesser.data.checks.findings import Findings
from geoguesser.data.checks.image_stats import MISSING, PLACEHOLDER, ImageStats
from geoguesser.errors import DataError

GEOD = pyproj.Geod(ellps="WGS84")
BASE = (45.0, 16.0)


def make_stats(count: int, seed: int = 0) -> ImageStats:
    """Images that are all different."""
    stats = ImageStats.empty(count)
    random = np.random.default_rng(seed)
    stats.views["digest"] = random.integers(1, 2**63, (count, 4, 2), dtype=np.uint64)
    stats.views["hash"] = random.integers(0, 2**56, (count, 4, 2), dtype=np.uint64)
    return stats


def make_table(count: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"uuid": [f"p{at}" for at in range(count)], "row": [f"data.csv row {at + 2}" for at in range(count)]}
    ).assign(**columns)


def moved(metres: float) -> tuple[float, float]:
    lon, lat, _ = GEOD.fwd(BASE[1], BASE[0], 45.0, metres)
    return lat, lon


def far(count: int) -> np.ndarray:
    """Places a kilometre apart."""
    return np.array([moved(1000.0 * at) for at in range(count)])


def found(findings: Findings) -> list[tuple[str, str, str]]:
    return [(one.kind, one.where, one.reason) for one in (*findings.skipped, *findings.kept)]


def test_different_places_are_left_alone() -> None:
    findings = Findings()
    table = make_table(50, panorama_id=[f"x{at}" for at in range(50)])
    result = find_duplicates(table, far(50), make_stats(50), findings)
    assert (result.matches, found(findings)) == ([], [])
    assert len(set(result.groups)) == 50


@pytest.mark.parametrize("column", ["panorama_id", "pano_id", "panoId"])
def test_the_same_panorama(column: str) -> None:
    ids = ["a", "b", "", " a ", "nan", None, "", "NaN", "null"]
    others = ["", "", "", "", "None", "null", "b", "", ""]
    table = make_table(9, **{column: ids, "pano_id" if column != "pano_id" else "panoId": others})
    findings, coords = Findings(), far(9)
    coords[3] = coords[0]  # of a place that is dropped already
    result = find_duplicates(table, coords, make_stats(9), findings)
    assert np.flatnonzero(result.dropped).tolist() == [3, 6]
    assert found(findings) == [
        ("duplicate_panorama", "data.csv row 5", "(p3) has the panorama id of p0"),
        ("duplicate_panorama", "data.csv row 8", "(p6) has the panorama id of p1"),
    ]


def test_the_very_bytes_of_one_view_are_enough() -> None:
    stats, findings = make_stats(6), Findings()
    stats.views["digest"][3, 1] = stats.views["digest"][1, 2]
    stats.views["digest"][5] = stats.views["digest"][2]
    result = find_duplicates(make_table(6), far(6), stats, findings)
    assert np.flatnonzero(result.dropped).tolist() == [3, 5]
    assert found(findings) == [
        ("identical_image", "data.csv row 5", "(p3) shares 1 image, byte for byte, with p1"),
        ("identical_image", "data.csv row 7", "(p5) shares 4 images, byte for byte, with p2"),
    ]


@pytest.mark.parametrize("state", [MISSING, PLACEHOLDER])
def test_what_is_no_picture_makes_nobody_the_same(state: int) -> None:
    """All 'no imagery' pictures are the same bytes."""
    stats, findings = make_stats(4), Findings()
    stats.views["digest"][:, 0] = 7
    stats.views["hash"][:] = 0
    stats.views["state"][:, 0] = state
    stats.views["state"][:, 1] = state
    result = find_duplicates(make_table(4), np.array([moved(at) for at in range(4)]), stats, findings)
    assert not result.dropped.any()


@pytest.mark.parametrize("half", [0, 1])
def test_digests_that_agree_in_half_are_different(half: int) -> None:
    stats, findings = make_stats(3), Findings()
    stats.views["digest"][:, :, half] = 5
    assert not find_duplicates(make_table(3), far(3), stats, findings).dropped.any()


@pytest.mark.parametrize(("metres", "same"), [(0.5, True), (99.0, True), (101.0, False), (5000.0, False)])
def test_look_alikes_are_the_same_only_where_they_are_near(metres: float, same: bool) -> None:
    stats, findings = make_stats(2), Findings()
    stats.views["hash"][1] = stats.views["hash"][0]
    result = find_duplicates(make_table(2), np.array([BASE, moved(metres)]), stats, findings)
    assert result.dropped.tolist() == [False, same]
    if same:
        [(kind, _, reason)] = found(findings)
        assert kind == "near_duplicate"
        words = reason.split()
        assert (words[1:4], words[-1]) == (["has", "4", "views"], "p0")
        assert float(words[words.index("m") - 1]) == pytest.approx(metres, abs=1)


@pytest.mark.parametrize(("bits", "views", "same"), [(10, 3, True), (11, 4, False), (0, 2, False), (5, 4, True)])
def test_three_views_must_look_alike(bits: int, views: int, same: bool) -> None:
    stats, findings = make_stats(2), Findings()
    stats.views["hash"][1, :views] = stats.views["hash"][0, :views]
    flips = np.uint64(sum(1 << (5 * at) for at in range(bits)))
    stats.views["hash"][1, :views, 0] ^= flips
    assert find_duplicates(make_table(2), np.array([BASE, moved(10)]), stats, findings).dropped[1] == same


def test_a_chain_of_duplicates_does_not_become_one_place() -> None:
    """Each is like its neighbours, and unlike all others: every second one stays."""
    looks, images = make_stats(6), make_stats(6)
    for at in range(1, 6):
        looks.views["hash"][at] = looks.views["hash"][at - 1]
        looks.views["hash"][at, :, 0] ^= np.uint64(0xFF << (8 * at))
        images.views["digest"][at, 0] = images.views["digest"][at - 1, 3]
    coords = np.array([moved(5.0 * at) for at in range(6)])
    for stats in (looks, images):
        result = find_duplicates(make_table(6), coords, stats, Findings())
        assert result.dropped.tolist() == [False, True, False, True, False, True]
        assert [(one.row, one.earlier) for one in result.matches] == [(1, 0), (3, 2), (5, 4)]


def test_the_same_coordinates_are_noted_and_stay_together() -> None:
    findings = Findings()
    coords = far(5)
    coords[[3, 4]] = coords[1]
    result = find_duplicates(make_table(5), coords, make_stats(5), findings)
    assert not result.dropped.any()
    assert found(findings) == [
        ("same_coordinates", f"data.csv row {row}", f"({name}) has the coordinates of p1")
        for row, name in ((5, "p3"), (6, "p4"))
    ]
    assert result.groups[1] == result.groups[3] == result.groups[4]
    assert len(set(result.groups)) == 3


def test_kinds_do_as_they_are_told() -> None:
    stats, coords = make_stats(3), far(3)
    stats.views["digest"][2] = stats.views["digest"][0]
    coords[1] = coords[0]
    kept = find_duplicates(make_table(3), coords, stats, Findings({"identical_image": "keep"}))
    assert not kept.dropped.any()
    assert len(set(kept.groups)) == 1
    skipped = find_duplicates(make_table(3), coords, stats, Findings({"same_coordinates": "skip"}))
    assert skipped.dropped.tolist() == [False, True, True]
    with pytest.raises(DataError, match=r"1 identical_image\):\n.*data\.csv row 4 \(p2\) shares 4 images"):
        find_duplicates(make_table(3), coords, stats, Findings({"identical_image": "error"}))


def test_recorded_places_come_first() -> None:
    stats = make_stats(3)
    stats.views["digest"][2] = stats.views["digest"][0]
    result = find_duplicates(make_table(3), far(3), stats, Findings(), in_store=np.array([False, False, True]))
    assert result.dropped.tolist() == [True, False, False]
    assert [(one.row, one.earlier) for one in result.matches] == [(0, 2)]


def test_one_image_for_two_headings_is_noted() -> None:
    stats, findings = make_stats(3), Findings()
    stats.views["digest"][1, 3] = stats.views["digest"][1, 0]
    stats.views["digest"][2, 3] = stats.views["digest"][2, 0]
    stats.views["state"][2, 3] = MISSING
    result = find_duplicates(make_table(3), far(3), stats, findings)
    assert found(findings) == [("repeated_view", "data.csv row 3", "(p1) has the same image for two headings")]
    assert not result.dropped.any()


def test_an_empty_table_has_no_duplicates() -> None:
    empty = find_duplicates(make_table(0), np.zeros((0, 2)), ImageStats.empty(0), Findings())
    assert len(empty.groups) == 0


def drop_by_hand(coords: np.ndarray, stats: ImageStats) -> list[bool]:
    """Compares each place with all that were kept before it, first by bytes and then by look."""
    digests = [{tuple(digest) for digest in own} for own in stats.views["digest"].tolist()]
    hashes = stats.views["hash"].tolist()

    def look_alike(row: int, other: int) -> bool:
        metres = GEOD.inv(*coords[row][::-1], *coords[other][::-1])[2]
        pairs = zip(hashes[row], hashes[other], strict=True)
        bits = [sum((a ^ b).bit_count() for a, b in zip(*pair, strict=True)) for pair in pairs]
        return metres < 100 and sum(count <= 10 for count in bits) >= 3

    kept: list[int] = []
    for row in range(len(coords)):
        if not any(digests[row] & digests[other] for other in kept):
            kept.append(row)
    different: list[int] = []
    for row in kept:
        if not any(look_alike(row, other) for other in different):
            different.append(row)
    return [row not in different for row in range(len(coords))]


@pytest.mark.parametrize("chunk", [2, 3, 1000])
def test_the_same_as_one_by_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_PLACES", chunk)
    random = np.random.default_rng(chunk)
    for seed in range(30):
        stats = make_stats(12, seed)
        # Multiples of 7 m: none is so near 100 m that the ellipsoid and the sphere would differ over it.
        coords = np.array([moved(7.0 * at) for at in random.integers(0, 20, 12).cumsum()])
        for row in range(1, 12):
            how, other = random.choice(["new", "bytes", "look"]), random.integers(row)
            if how == "bytes":
                stats.views["digest"][row, 0] = stats.views["digest"][other, random.integers(4)]
            elif how == "look":
                stats.views["hash"][row] = stats.views["hash"][other]
                flips = random.permutation(56)[: random.integers(9)].tolist()
                stats.views["hash"][row, :, 1] ^= np.uint64(sum(1 << bit for bit in flips))

        result = find_duplicates(make_table(12), coords, stats, Findings())
        assert result.dropped.tolist() == drop_by_hand(coords, stats)
