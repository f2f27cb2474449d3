"""The synthetic country: reproducible, on land, in the format of real data, and different by heading."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg

from geoguesser.data.demo import dataset as demo
from geoguesser.data.demo import workers as demo_draw
from geoguesser.data.demo.land import SyntheticLand, get_synthetic_land
from geoguesser.data.demo.renderer import HEADINGS, compute_bearings
from geoguesser.errors import ConfigError

PLACES, PX = 24, 96
VIEW_NAMES = ["0.jpg", "180.jpg", "270.jpg", "90.jpg"]


@pytest.fixture(scope="module")
def land() -> SyntheticLand:
    return get_synthetic_land()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "root", places=PLACES, px=PX)


def table(root: Path) -> list[dict[str, str]]:
    return pd.read_csv(root / "data.csv", dtype=str).to_dict("records")


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def decode(root: Path, name: str, heading: int) -> np.ndarray:
    return simplejpeg.decode_jpeg((root / "images" / name / f"{heading}.jpg").read_bytes())


def test_format_is_that_of_real_data(root: Path) -> None:
    rows = table(root)
    assert (root / "data.csv").read_text(encoding="utf-8").startswith("uuid,latitude,longitude\n")
    assert len({row["uuid"] for row in rows}) == PLACES
    assert sorted(path.name for path in (root / "images").iterdir()) == sorted(row["uuid"] for row in rows)
    for row in rows:
        assert str(uuid.UUID(row["uuid"])) == row["uuid"]
        assert sorted(path.name for path in (root / "images" / row["uuid"]).iterdir()) == VIEW_NAMES
        for heading in HEADINGS:
            view = decode(root, row["uuid"], heading)
            assert view.shape == (PX, PX, 3)
            assert view.std() > 10


def test_same_seed_same_bytes_and_fewer_places_are_the_first(root: Path, tmp_path: Path) -> None:
    fewer = demo.make_demo(tmp_path / "fewer", places=7, px=PX)
    assert table(fewer) == table(root)[:7]
    all_files, some_files = contents(root), contents(fewer)
    del some_files["data.csv"]
    assert some_files.items() <= all_files.items()
    assert len(some_files) == 7 * 4


def test_child_processes_draw_the_same(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MIN_PLACES_FOR_PROCESSES", 1)
    monkeypatch.setattr(demo, "count_cores", lambda: 2)
    monkeypatch.setattr(demo_draw, "MAX_JOBS_AHEAD", 2)
    seen: list[int] = []
    again = demo.make_demo(tmp_path / "again", places=PLACES, px=PX, progress=lambda done, _: seen.append(done))
    assert contents(again) == contents(root)
    assert seen == list(range(1, PLACES + 1))


def test_a_failing_child_process_is_told(tmp_path: Path, land: SyntheticLand) -> None:
    xy_m = land.region.to_metres(np.array([[45.8, 16.0]]))[0]
    horizons = tuple(land.compute_horizon(xy_m, compute_bearings(heading)) for heading in HEADINGS)
    nowhere = str(tmp_path / "missing" / "place")
    job = demo_draw.Job(nowhere, 0, 0, 32, land.compute_surroundings(xy_m), horizons)
    with pytest.raises(RuntimeError, match="exit code 1"):
        list(demo_draw.draw_all(iter([job]), 2))


def test_opencv_keeps_its_threads(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    demo.make_demo(tmp_path / "one", places=1, px=32)
    assert cv2.getNumThreads() == before


def test_seeds_differ(root: Path, tmp_path: Path) -> None:
    other = demo.make_demo(tmp_path / "other", places=3, seed=1, px=PX)
    assert not {row["uuid"] for row in table(other)} & {row["uuid"] for row in table(root)}
    assert not {row["latitude"] for row in table(other)} & {row["latitude"] for row in table(root)}


def test_positions_lie_on_land_all_over_the_country(root: Path, land: SyntheticLand) -> None:
    written = np.array([(float(row["latitude"]), float(row["longitude"])) for row in table(root)])
    coords = land.draw_positions(0, 400)
    assert np.array_equal(coords[:PLACES], written)
    assert land.region.contains(coords).all()
    assert len(np.unique(coords, axis=0)) == 400
    spread = coords.max(axis=0) - coords.min(axis=0)
    assert (spread > (3.0, 5.0)).all()  # of 4.1 and 5.9 degrees


def test_known_coasts(land: SyntheticLand) -> None:
    """Sibenik, Porec on the west coast of Istria, and Dubrovnik."""
    coords = np.array([(43.735, 15.885), (45.08, 13.64), (42.645, 18.085)])
    for xy_m, seaward in zip(land.region.to_metres(coords), (225.0, 270.0, 225.0), strict=True):
        there, back = land.compute_horizon(xy_m, np.array([seaward, seaward - 180.0])).sea_km
        assert there < 8.0
        assert back > there


def test_no_sea_is_seen_from_inland(land: SyntheticLand) -> None:
    for xy_m in land.region.to_metres(np.array([[45.55, 18.69], [45.8, 16.0]])):
        assert (land.compute_horizon(xy_m, np.arange(0.0, 360.0, 15.0)).sea_km == np.inf).all()


def test_relief_depends_on_the_heading(land: SyntheticLand) -> None:
    """Below Velebit the mountain stands to the north-east and nothing does to the south-west."""
    xy_m = land.region.to_metres(np.array([[44.53, 15.08]]))[0]
    inland, seaward = land.compute_horizon(xy_m, np.array([60.0, 240.0])).relief_rad.max(axis=0)
    assert inland > 0.05
    assert inland > 2 * seaward


def test_what_surrounds_a_place(land: SyntheticLand) -> None:
    coords = np.array([(43.52, 16.45), (45.55, 18.69), (45.4, 14.8), (45.24, 13.94)])
    split, osijek, delnice, pazin = map(land.compute_surroundings, land.region.to_metres(coords))
    assert split.mediterranean > 0.8 > osijek.mediterranean + 0.7
    assert osijek.east > 0.9 > delnice.east + 0.8
    assert delnice.mountain > 0.5 > osijek.mountain + 0.4
    assert pazin.istria > 0.8 > split.istria + 0.7


def test_southern_views_are_brighter(root: Path) -> None:
    """The sun stands in the south, so the sky there is brighter."""
    ids = [row["uuid"] for row in table(root)]
    sky = {heading: np.mean([decode(root, one, heading)[: PX // 3] for one in ids]) for heading in HEADINGS}
    assert sky[180] > sky[0] + 10
    assert sky[0] < min(sky[90], sky[270])


def test_cached_once(tmp_path: Path) -> None:
    calls: list[int] = []
    options = {"places": 3, "px": 32, "cache": tmp_path}
    first = demo.ensure_demo(**options, progress=lambda done, places: calls.append(done))
    assert first == tmp_path / f"demo-v{demo.VERSION}-3-0-32"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert demo.ensure_demo(**options, progress=lambda done, places: calls.append(done)) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert calls == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@pytest.mark.parametrize("missing", ["data.csv", "view"])
def test_a_half_made_folder_is_replaced(tmp_path: Path, missing: str) -> None:
    options = {"places": 2, "px": 32, "cache": tmp_path}
    root = demo.ensure_demo(**options)
    whole = contents(root)
    (root / "stray.txt").write_text("not ours")
    (root / "data.csv" if missing == "data.csv" else next(root.rglob("90.jpg"))).unlink()
    assert contents(demo.ensure_demo(**options)) == whole
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_the_loser_of_a_race_uses_the_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"places": 2, "px": 32, "cache": tmp_path}
    draw = demo.make_demo

    def meanwhile_another(folder: Path, **arguments: object) -> Path:
        monkeypatch.setattr(demo, "make_demo", draw)
        winner = demo.ensure_demo(**options)
        (winner / "winner").touch()
        return draw(folder, **arguments)

    monkeypatch.setattr(demo, "make_demo", meanwhile_another)
    assert (demo.ensure_demo(**options) / "winner").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, places: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.ensure_demo(places=2, px=32, cache=tmp_path, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"places": 0}, "data.places must be an integer from 1 to 1000000, got 0"),
        ({"seed": -1}, "data.demo_seed must be an integer from 0 up, got -1"),
        ({"px": 8}, "data.px must be an integer from 16 to 2048, got 8"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        demo.ensure_demo(**arguments, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
