"""Selection of places by filters: distances against brute force, and the order of points."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyproj
import pytest
from support.collect_config import load_settings

from geoguesser.collecting.database import Database
from geoguesser.collecting.pipeline.filters import Filters, mark_places
from geoguesser.errors import ConfigError, DataError, MissingFileError

NONE = load_settings("collect")["filters"] | {"min_distance_m": 0.0}


def filters(**given: object) -> Filters:
    return Filters.from_config({**NONE, **{key.rstrip("_"): value for key, value in given.items()}})


def fill(database: Database, places: list[dict]) -> None:
    """Inserts places in the given order, as the metadata step does."""
    for place in places:
        row = {"date": "2019-06", "copyright": "© Google", "state": "found", "why": "", **place}
        database.write(
            lambda db, row=row: db.execute(
                "INSERT INTO places (provider, panorama_id, uuid, latitude, longitude, date, copyright, "
                "extra, point, state, why) VALUES "
                "('p', :id, :id, :latitude, :longitude, :date, :copyright, '{}', :point, "
                ":state, :why)", row,
            )
        )  # fmt: skip


def select(database: Database, given: Filters) -> tuple[list[str], dict[str, int]]:
    """Ids of the selected places in the order of points, and the number of places dropped now by reason."""
    database.write(lambda db: mark_places(db, given))
    wanted = [row[0] for row in database.query("SELECT uuid FROM places WHERE state = 'wanted' ORDER BY point")]
    query = "SELECT why, count(*) FROM places WHERE state = 'dropped' AND why NOT LIKE 'view:%' GROUP BY why"
    return wanted, dict(database.query(query))


@pytest.mark.parametrize("latitude", [0.0, 45.0, -79.9, 89.95])
def test_the_least_distance_is_that_of_brute_force(latitude: float, tmp_path: Path):
    rng = np.random.default_rng(3)
    spread_deg = 0.002, 0.002 / np.cos(np.radians(latitude))
    coords = np.array((latitude, 179.999)) + rng.normal(size=(300, 2)) * spread_deg
    coords[:, 1] = (coords[:, 1] + 180) % 360 - 180  # across the date line
    names = ("id", "latitude", "longitude", "point")
    places = [dict(zip(names, (f"p{n}", *coord, n), strict=True)) for n, coord in enumerate(coords)]
    geod, kept = pyproj.Geod(ellps="WGS84"), []
    for number, (lat, lon) in enumerate(coords):
        if all(geod.inv(lon, lat, coords[other][1], coords[other][0])[2] >= 60.0 for other in kept):
            kept.append(number)
    assert 20 < len(kept) < 280
    random.Random(1).shuffle(places)  # answers come in any order
    with Database(tmp_path) as database:
        fill(database, places)
        wanted, dropped = select(database, filters(min_distance_m=60.0))
        assert wanted == [f"p{number}" for number in kept]
        assert dropped == {"too_near": 300 - len(kept)}
        assert select(database, filters(min_distance_m=60.0))[0] == wanted  # again, the same
        assert len(select(database, filters())[0]) == 300  # and other filters take nothing for good


def test_done_places_stay_and_keep_others_away(tmp_path: Path):
    with Database(tmp_path) as database:
        fill(database, [
            {"id": "a", "latitude": 45.0, "longitude": 16.0, "point": 1},
            {"id": "b", "latitude": 45.0, "longitude": 16.0001, "point": 2, "state": "done", "date": "1999-01"},
            {"id": "c", "latitude": 45.0, "longitude": 16.01, "point": 3, "state": "dropped", "why": "view:grey"},
            {"id": "d", "latitude": 45.0, "longitude": 16.02, "point": 4, "state": "failed"},
        ])  # fmt: skip
        assert select(database, filters(min_distance_m=50.0, from_="2010-01")) == (["d"], {"too_near": 1})
        assert database.query("SELECT uuid, state FROM places ORDER BY point") == [
            ("a", "dropped"), ("b", "done"), ("c", "dropped"), ("d", "wanted"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "date", "owner", "why"),
    [
        ({"from_": "2015-01"}, "2015-01", "x", ""),
        ({"from_": "2015-02"}, "2015-01", "x", "too_old"),
        ({"to": "2015-01"}, "2015-01", "x", ""),
        ({"to": "2014-12"}, "2015-01", "x", "too_new"),
        ({"to": "2014-12"}, "", "x", "no_date"),
        ({"from_": "2014-12"}, "2015", "x", "no_date"),
        ({"copyright_allow": ["google"]}, "", "© Google", ""),
        ({"copyright_allow": ["^© Google$"]}, "", "© Google, Inc", "copyright"),
        ({"copyright_deny": ["somebody"]}, "", "© Somebody Else", "copyright"),
        ({"copyright_allow": ["google"], "copyright_deny": ["maps"]}, "", "© Google Maps", "copyright"),
    ],
)
def test_by_date_and_copyright(given: dict, date: str, owner: str, why: str):
    assert filters(**given).find_rejection(date, owner) == why


def test_existing_datasets(tmp_path: Path):
    (tmp_path / "data.csv").write_text("uuid,latitude,longitude,pano_id\nx,45.0,16.0,nan\ny,10,10,known\n")
    with Database(tmp_path / "out") as database:
        fill(database, [
            {"id": "a", "latitude": 45.0001, "longitude": 16.0, "point": 1},
            {"id": "known", "latitude": 46.0, "longitude": 16.0, "point": 2},
            {"id": "nan", "latitude": 47.0, "longitude": 16.0, "point": 3},
        ])  # fmt: skip
        existing = [str(tmp_path)]
        assert select(database, filters(existing=existing)) == (["a", "nan"], {"in_existing": 1})
        wanted = select(database, filters(existing=existing, min_distance_m=20.0))
        assert wanted == (["nan"], {"in_existing": 1, "too_near": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid,latitude,longitude\nx,north,16.0\n", r"data\.csv row 2 must have a latitude within 90 and a long"),
        ("uuid,latitude,longitude\nx,45,16\ny,nan,16.0\n", r"data\.csv row 3 .* got \('nan', '16\.0'\)\. Correct"),
        ("", r"data\.csv must have the columns latitude and longitude, got \[\]"),
    ],
)
def test_a_dataset_that_could_let_a_duplicate_in_is_refused_at_once(text: str, message: str, tmp_path: Path):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        filters(existing=[str(tmp_path)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"from_": "2019-13"}, r"filters\.from must be a month as YYYY-MM, or null, got '2019-13'"),
        ({"from_": "2019-05", "to": "2019-04"}, r"filters\.from must not be later than filters\.to"),
        ({"copyright_allow": ["("]}, r"filters\.copyright_allow must be a regular expression \("),
        ({"copyright_deny": "Google"}, r"filters\.copyright_deny must be a list of words, got 'Google'"),
        ({"min_distance_m": -1}, r"filters\.min_distance_m must be a number from 0"),
    ],
)
def test_bad_filters_are_refused(given: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        filters(**given)


def test_a_missing_dataset_is_refused(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"^filters\.existing\[0\] must hold a file data\.csv"):
        filters(existing=[str(tmp_path)])
