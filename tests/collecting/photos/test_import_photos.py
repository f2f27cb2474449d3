"""Import of photos as places: grouping, choice of views, skipped files, and reading by training."""

from __future__ import annotations

import shutil
import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.photo_files import make_gpano, make_panorama, read_pixels, save_photo
from support.pictures import make_picture

from geoguesser.collecting.photos.grouping import group_photos
from geoguesser.collecting.photos.import_photos import import_photos
from geoguesser.collecting.photos.writer import format_summary
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import read_places
from geoguesser.errors import ConfigError, MissingFileError, StoreError
from geoguesser.geo.distance import haversine_km

SPOT = (45.5, 16.1)


def rows(path: Path) -> list[dict[str, str]]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def shoot(folder: Path, name: str, seed: int, direction: float, **tags: object) -> Path:
    more = {"position": SPOT, "direction": direction, **tags}
    return save_photo(folder / name, make_picture(seed, 60, 80), **more)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_four_photos_of_one_spot_are_a_place(tmp_path: Path, croatia) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number, direction in enumerate((352.0, 88.0, 183.0, 270.0)):
        shoot(photos, f"{number}.jpg", number, direction, taken=f"2024:05:06 07:08:0{number}")
    before = bytes_below(photos)
    report = import_photos(photos, out, size=30)
    expected = {"files": 4, "places": 1, "complete": 1, "views": 4, "written": 1, "skipped": 0, "panoramas": 0}
    assert {name: report[name] for name in expected} == expected
    assert bytes_below(photos) == before
    table = read_places([str(out)], croatia, Findings())
    assert table[["latitude", "longitude"]].iloc[0].tolist() == pytest.approx(SPOT, abs=1e-6)
    assert rows(out / "data.csv")[0]["date"] == "2024-05-06"
    for number, heading in enumerate((0, 90, 180, 270)):
        view = read_pixels(out / "images" / table["uuid"][0] / f"{heading}.jpg")
        assert view.shape == (30, 40, 3)
        small = np.asarray(make_picture(number, 60, 80).resize((40, 30), Image.Resampling.BOX), dtype=float)
        assert np.abs(view - small).mean() < 8
    sources = {row["heading"]: row["file"] for row in rows(out / "sources.csv")}
    assert sources == {"0": "0.jpg", "90": "1.jpg", "180": "2.jpg", "270": "3.jpg"}


def test_views_tell_nothing_of_the_camera(tmp_path: Path) -> None:
    shoot(tmp_path / "photos", "a.jpg", 0, 0.0)
    assert b"Secret Camera" in (tmp_path / "photos" / "a.jpg").read_bytes()
    import_photos(tmp_path / "photos", tmp_path / "out")
    (view,) = (tmp_path / "out").rglob("0.jpg")
    data = view.read_bytes()
    assert b"Secret Camera" not in data
    assert b"Exif" not in data


def test_a_photo_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    upright = make_picture(3, 60, 80)
    turned = upright.rotate(90, expand=True)
    save_photo(tmp_path / "p" / "a.jpg", turned, position=SPOT, direction=0.0, orientation=6)
    import_photos(tmp_path / "p", tmp_path / "out")
    (view,) = (tmp_path / "out").rglob("0.jpg")
    assert np.abs(read_pixels(view) - np.asarray(upright, dtype=float)).mean() < 8


def test_the_photo_that_looks_nearest_to_a_heading_is_its_view(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shoot(photos, "far.jpg", 0, 100.0)
    shoot(photos, "near.jpg", 1, 93.0)
    shoot(photos, "between.jpg", 2, 40.0)
    report = import_photos(photos, tmp_path / "out", tolerance_deg=30.0)
    assert (report["places"], report["views"], report["complete"]) == (1, 1, 0)
    assert [row["file"] for row in rows(tmp_path / "out" / "sources.csv")] == ["near.jpg"]
    assert {row["file"]: (row["kind"], row["reason"]) for row in rows(tmp_path / "out" / "skipped.csv")} == {
        "far.jpg": ("heading_taken", "near.jpg faces closer to the heading 90"),
        "between.jpg": ("between_headings", "faces 40.0 degrees, 40.0 from the heading 0"),
    }


def test_what_is_no_view_is_counted_by_kind_and_listed(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    save_photo(photos / "sub" / "nowhere.jpg", make_picture(0), direction=0.0)
    save_photo(photos / "nodirection.jpg", make_picture(1), position=SPOT)
    shoot(photos, "good.jpg", 2, 0.0, reference="M")
    shutil.copy(photos / "good.jpg", photos / "same.jpg")
    (photos / "broken.jpg").write_bytes(b"no image")
    (photos / "phone.heic").write_bytes(b"ftypheic")
    (photos / "notes.txt").write_text("no photo at all")
    cut = shoot(photos, "cut.jpg", 3, 180.0).read_bytes()
    (photos / "cut.jpg").write_bytes(cut[:-400])
    report = import_photos(photos, tmp_path / "out")
    kinds = {name: count for name, count in report.items() if name.startswith("skipped_")}
    expected = {"no_direction": 1, "no_position": 1, "not_read": 3, "same_file": 1}
    assert kinds == {f"skipped_{kind}": count for kind, count in expected.items()}
    assert (report["files"], report["views"], report["skipped"]) == (7, 1, 6)
    listed = {row["file"]: row for row in rows(tmp_path / "out" / "skipped.csv")}
    assert len(listed) == 6
    assert listed["sub/nowhere.jpg"]["kind"] == "no_position"
    assert "must be a JPEG, PNG or WebP, got '.heic'" in listed["phone.heic"]["reason"]
    assert "Premature end" in listed["cut.jpg"]["reason"]
    assert [row["file"] for row in rows(tmp_path / "out" / "sources.csv")] in (["good.jpg"], ["same.jpg"])
    assert f"{'skipped not_read':<{max(map(len, report))}}  3" in format_summary(report)


def test_a_panorama_that_cannot_be_cut_is_skipped_and_the_others_are_used(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    area = {"CroppedAreaImageWidthPixels": 512, "FullPanoWidthPixels": 512, "FullPanoHeightPixels": 256}
    xmp = make_gpano(PoseHeadingDegrees=0, CroppedAreaTopPixels=100, **area)
    save_photo(photos / "part.jpg", make_panorama(256).crop((0, 100, 512, 150)), position=SPOT, xmp=xmp)
    shoot(photos, "good.jpg", 2, 0.0)
    report = import_photos(photos, tmp_path / "out")
    assert (report["places"], report["views"], report["skipped_not_read"]) == (1, 1, 1)
    (row,) = rows(tmp_path / "out" / "skipped.csv")
    assert (row["file"], row["kind"]) == ("part.jpg", "not_read")
    assert "shows latitudes -15 to 20 degrees" in row["reason"]


def test_a_folder_that_cannot_be_written_and_one_without_photos(tmp_path: Path) -> None:
    shoot(tmp_path / "photos", "good.jpg", 2, 0.0)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(StoreError, match=r"cannot be written \(.+\)\. .*out=FOLDER"):
            import_photos(tmp_path / "photos", out)
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingFileError, match=r"^photos\.folder must contain JPEG, PNG or WebP files, got"):
        import_photos(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_few_views_are_left_out_and_directions_without_true_north_are_counted(tmp_path: Path) -> None:
    for number, reference in enumerate(("M", "T", None)):
        shoot(tmp_path / "p", f"{number}.jpg", number, 90.0 * number, reference=reference)
    shoot(tmp_path / "p", "far.jpg", 3, 0.0, position=(46.0, 16.0))
    report = import_photos(tmp_path / "p", tmp_path / "out", min_views=2)
    assert (report["magnetic"], report["unstated"], report["views"]) == (1, 1, 3)
    assert (report["places"], report["skipped_few_views"]) == (1, 1)


def test_a_panorama_gives_all_four_views(tmp_path: Path) -> None:
    """The middle column looks to 30 degrees, so north is 30 degrees left of it, as the colours show."""
    photos, xmp = tmp_path / "p", make_gpano(PoseHeadingDegrees=30, PoseRollDegrees=9)
    save_photo(photos / "pano.jpg", make_panorama(), position=SPOT, xmp=xmp)
    shoot(photos, "plain.jpg", 0, 0.0)
    report = import_photos(photos, tmp_path / "out", size=65)
    expected = {"places": 1, "views": 4, "panoramas": 1, "tilted": 1, "skipped_heading_taken": 1}
    assert {name: report[name] for name in expected} == expected
    for heading in (0, 90, 180, 270):
        (view,) = (tmp_path / "out").rglob(f"{heading}.jpg")
        middle = read_pixels(view)[32, 32] / 127.5 - 1
        turn = np.radians(heading - 30)
        np.testing.assert_allclose(middle, (np.sin(turn), np.cos(turn), 0.0), atol=0.04)


def test_a_panorama_that_does_not_say_so_is_known_by_its_seam(tmp_path: Path) -> None:
    photos = tmp_path / "p"
    save_photo(photos / "pano.jpg", make_panorama(), position=SPOT, direction=0.0)
    save_photo(photos / "wide.jpg", make_picture(5, 512, 1024), position=(46.0, 16.0), direction=0.0)
    report = import_photos(photos, tmp_path / "out")
    assert (report["places"], report["panoramas"], report["views"]) == (2, 1, 5)


def test_a_rerun_gives_the_same_and_goes_on(tmp_path: Path) -> None:
    photos, out = tmp_path / "p", tmp_path / "out"
    for number in range(3):
        shoot(photos, f"{number}.jpg", number, 0.0, position=(45.0 + number, 16.0))
    import_photos(photos, out)
    first = bytes_below(out)
    images = sorted((out / "images").iterdir())
    shutil.rmtree(images[0])
    (images[1] / "0.jpg").unlink()
    (out / "images" / f".{images[0].name}.part").mkdir()
    (out / "images" / f".{images[0].name}.part" / "0.jpg").write_bytes(b"half")
    report = import_photos(photos, out)
    assert (report["written"], report["there"], report["left_over"]) == (2, 1, 0)
    assert bytes_below(out) == first
    (photos / "0.jpg").unlink()
    report = import_photos(photos, out)
    assert (report["places"], report["left_over"]) == (2, 1)
    other = tmp_path / "elsewhere" / "b"
    other.mkdir(parents=True)
    for number in (2, 1):
        shutil.copy(photos / f"{number}.jpg", other / f"renamed{number}.jpg")
    import_photos(other.parent, tmp_path / "out2")
    ids, other_ids = ({row["uuid"] for row in rows(folder / "data.csv")} for folder in (out, tmp_path / "out2"))
    assert ids == other_ids


def test_other_settings_in_one_folder_are_refused(tmp_path: Path) -> None:
    shoot(tmp_path / "p", "a.jpg", 0, 0.0)
    import_photos(tmp_path / "p", tmp_path / "out", size=64)
    with pytest.raises(ConfigError, match=r"out=.* contains views made with other settings: size 64, now 32"):
        import_photos(tmp_path / "p", tmp_path / "out", size=32)


def test_places_under_the_photos_are_no_photos(tmp_path: Path) -> None:
    shoot(tmp_path / "p", "a.jpg", 0, 0.0)
    for _ in range(2):
        assert import_photos(tmp_path / "p", tmp_path / "p" / "out")["files"] == 1
    with pytest.raises(ConfigError, match=r"^out must not be the folder of the photos itself"):
        import_photos(tmp_path / "p", tmp_path / "p")
    with pytest.raises(MissingFileError, match=r"^photos\.folder must be a folder, got '.*none'"):
        import_photos(tmp_path / "none", tmp_path / "out")


def test_numbers_out_of_range_are_named(tmp_path: Path) -> None:
    bad = {"group_m": -1.0, "group_s": -1.0, "tolerance_deg": 46.0, "min_views": 5, "fov_deg": 0.0, "quality": 0}
    for key, value in bad.items():
        with pytest.raises(ConfigError, match=rf"^photos\.{key} must be"):
            import_photos(tmp_path, tmp_path / "out", **{key: value})
    assert not (tmp_path / "out").exists()


def test_leaders_are_those_of_one_by_one() -> None:
    """Compares with a loop over pairs, also across the date line and at a pole."""
    rng = np.random.default_rng(4)
    for middle in ((45.5, 16.0), (0.0, 180.0), (89.9999, 10.0)):
        coords = np.array(middle) + rng.normal(0.0, 1.5e-4, (300, 2))
        coords[:, 1] = (coords[:, 1] + 180.0) % 360.0 - 180.0
        days = [None if day > 3 else datetime(2024, 5, 1 + day) for day in rng.integers(0, 6, 300)]
        leaders: list[int] = []
        for number in range(300):
            distances_m = haversine_km(coords[number], coords[:number]) * 1000.0
            fits = [
                (distances_m[leader], leader) for leader in range(number)
                if leaders[leader] == leader and distances_m[leader] <= 10.0
                and (days[leader] is None or days[number] is None or days[leader] == days[number])
            ]  # fmt: skip
            leaders.append(min(fits)[1] if fits else number)
        assert group_photos(coords, days, group_m=10.0, group_s=600.0).tolist() == leaders
    assert set(group_photos(np.array([SPOT] * 300), days, group_m=5, group_s=None)) == {0}


def test_thousands_of_photos_of_one_spot_take_no_memory_for_their_pairs() -> None:
    coords = np.random.default_rng(0).normal((45.5, 16.0), 1e-6, (4000, 2))
    tracemalloc.start()
    assert set(group_photos(coords, [None] * 4000, group_m=10.0, group_s=600.0)) == {0}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20  # eight million pairs are 128 MiB
