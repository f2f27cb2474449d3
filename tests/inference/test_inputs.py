"""Places to predict in each form of input, and messages about wrong input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoguesser.data.images import ImageSpec
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.inference.inputs import InputPlace, compute_signature, find_places, load_in_order, load_place

SPEC = ImageSpec(size=16)


def save_photo(path: Path, level: int = 100) -> Path:
    """Saves an image of one colour, so that JPEG keeps its level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (level, level, level)).save(path)
    return path


def list_views(places: list[InputPlace]) -> dict[str, list[str | None]]:
    return {place.uuid: list(place.files.names) for place in places}


def test_a_folder_of_places_with_one_to_four_views(tmp_path: Path):
    for heading in (0, 90, 180, 270):
        save_photo(tmp_path / "b" / f"{heading}.jpg")
    save_photo(tmp_path / "a" / "180.PNG")
    save_photo(tmp_path / "a" / "notes.txt.jpg")
    (tmp_path / "a" / "0.bmp").write_bytes(b"BM")
    save_photo(tmp_path / ".hidden" / "0.jpg")
    (tmp_path / "empty").mkdir()
    for name in ("0.jpg", "0.png", "90.jpg"):
        save_photo(tmp_path / "twice" / name)
    places = find_places(str(tmp_path))
    assert list_views(places) == {
        "a": [None, None, "180.PNG", None],
        "b": ["0.jpg", "90.jpg", "180.jpg", "270.jpg"],
        "empty": [None] * 4,
        "twice": [None, "90.jpg", None, None],
    }
    assert [place.views for place in places] == [1, 4, 0, 1]
    notes = [
        ("not used: 0.bmp, notes.txt.jpg",),
        (),
        ("holds no view",),
        ("two files for one heading: 0.jpg, 0.png",),
    ]
    assert [place.notes for place in places] == notes
    assert load_place(places[3], [SPEC]).problems == list(notes[3])


def test_photos_of_other_formats_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "b.gif").write_bytes(b"GIF")
    (tmp_path / "c.TIF").write_bytes(b"II")
    assert list(list_views(find_places(str(tmp_path)))) == ["a"]
    assert "2 images are no JPEG, PNG or WebP and left out: b.gif, c.TIF" in caplog.text


def test_numbered_photos_are_not_one_place(tmp_path: Path):
    for number in range(0, 100, 10):
        save_photo(tmp_path / f"{number}.jpg")
    with pytest.raises(DataError, match=r"one place or a folder of photos, and holds 0\.jpg beside 10\.jpg.*\*'"):
        find_places(str(tmp_path))
    assert len(find_places(str(tmp_path / "*.jpg"))) == 10


def test_place_folders_may_be_links(tmp_path: Path):
    save_photo(tmp_path / "elsewhere" / "p" / "0.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "q").symlink_to(tmp_path / "elsewhere" / "p")
    (place,) = find_places(str(tmp_path / "set"))
    assert (place.uuid, place.views) == ("q", 1)
    assert load_place(place, [SPEC]).present.tolist() == [True, False, False, False]


def test_a_place_folder_and_a_dataset(tmp_path: Path):
    save_photo(tmp_path / "images" / "p" / "90.jpg")
    assert list_views(find_places(str(tmp_path / "images" / "p"))) == {"p": [None, "90.jpg", None, None]}
    (tmp_path / "data.csv").write_text("uuid,latitude,longitude\np,45,16\n")
    save_photo(tmp_path / "loose.jpg")
    assert list_views(find_places(str(tmp_path))) == {"p": [None, "90.jpg", None, None]}


def test_photos_are_places_named_by_their_stems(tmp_path: Path):
    first, second = save_photo(tmp_path / "x.jpg"), save_photo(tmp_path / "y.webp")
    save_photo(tmp_path / "sub" / "270.jpg")
    assert list_views(find_places(str(first))) == {"x": ["x.jpg", None, None, None]}
    assert list(list_views(find_places([str(second), first]))) == ["y", "x"]
    assert list(list_views(find_places(str(tmp_path)))) == ["sub", "x", "y"]
    assert list(list_views(find_places(str(tmp_path / "*.jpg")))) == ["x"]
    save_photo(tmp_path / "x.png")
    assert list(list_views(find_places(str(tmp_path)))) == ["sub", "x.jpg", "x.png", "y"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path):
    secret = save_photo(tmp_path / "secret.jpg")
    (tmp_path / "set" / "p").mkdir(parents=True)
    (tmp_path / "set" / "p" / "0.jpg").symlink_to(secret)
    (place,) = find_places(str(tmp_path / "set"))
    assert place.views == 0
    assert "must not lead out" in place.notes[0]


def test_a_wide_csv(tmp_path: Path):
    for name in ("a/n.jpg", "a/e.jpg", "b.jpg"):
        save_photo(tmp_path / name)
    file = tmp_path / "places.csv"
    file.write_text("uuid,0,90,180,270\nfirst,a/n.jpg,a/e.jpg,,\nsecond,,, b.jpg ,\nthird,,,,\n")
    places = find_places(str(file))
    assert list_views(places) == {
        "first": ["a/n.jpg", "a/e.jpg", None, None],
        "second": [None, None, "b.jpg", None],
        "third": [None] * 4,
    }
    assert places[2].notes == ("no view is named",)
    assert load_place(places[0], [SPEC]).present.tolist() == [True, True, False, False]
    file.write_text("id,North,south\nx,a/n.jpg,b.jpg\n")
    assert list_views(find_places(str(file))) == {"x": ["a/n.jpg", None, "b.jpg", None]}


def test_a_long_csv_with_a_root(tmp_path: Path):
    save_photo(tmp_path / "photos" / "1.jpg")
    save_photo(tmp_path / "photos" / "2.jpg")
    file = tmp_path / "list.csv"
    file.write_text("uuid,path,heading\np,1.jpg,270.0\nq,2.jpg,\np,2.jpg,0\n")
    places = find_places(str(file), str(tmp_path / "photos"))
    assert list_views(places) == {"p": ["2.jpg", None, None, "1.jpg"], "q": ["2.jpg", None, None, None]}
    assert load_place(places[0], [SPEC]).present.tolist() == [True, False, False, True]
    file.write_text(f"file\n{tmp_path / 'photos' / '1.jpg'}\nphotos/2.jpg\n")
    assert list(list_views(find_places(str(file)))) == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid,0\np,../x.jpg\n", r"row 2 names a file outside of .*'\.\./x\.jpg'.*root=FOLDER"),
        ("uuid,0\np,/etc/passwd\n", "row 2 names a file outside of"),
        ("uuid,0,north\np,a,b\n", "must name each heading once"),
        ("uuid,0\n,a.jpg\n", "row 2: uuid must not be empty"),
        ("uuid,path,heading\np,a.jpg,45\n", "row 2: heading must be 0, 90, 180 or 270, got '45'"),
        ("uuid,path\np,a.jpg\np,b.jpg\n", "row 3 names a second photo for heading 0 of p"),
        ("uuid,latitude\np,45\n", "must have a column for each heading"),
        ("uuid,0,45\np,a.jpg,b.jpg\n", "column 45 must be a heading of 0, 90, 180 or 270, got '45'"),
        ("uuid;0;90\np;a.jpg;b.jpg\n", "must be separated by commas, not by semicolons"),
        ("uuid,path\np,a\x00b.jpg\n", "row 2 must name a file"),
        (
            "path\n1/0.jpg\n2/0.jpg\n",
            "row 3 names a second photo .*Without a column uuid the id is the file's name",
        ),
        ("", "must be a CSV file in UTF-8"),
    ],
)
def test_a_csv_that_breaks_a_rule_is_explained(text: str, message: str, tmp_path: Path):
    file = tmp_path / "places.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        find_places(str(file))
    assert str(file) in str(caught.value)


def test_missing_input_is_refused(tmp_path: Path):
    for images in (None, [], [3], ""):
        with pytest.raises(ConfigError, match=r"^images must name a folder of place folders"):
            find_places(images)
    with pytest.raises(MissingFileError, match="must be there"):
        find_places(str(tmp_path / "nowhere" / "*.jpg"))
    with pytest.raises(DataError, match="must hold a place"):
        find_places(str(tmp_path))
    (tmp_path / "x.tiff").write_bytes(b"")
    with pytest.raises(DataError, match=r"got 'x\.tiff'"):
        find_places(str(tmp_path / "x.tiff"))
    (tmp_path / "a.csv").write_text("path\nx.jpg\n")
    with pytest.raises(MissingFileError, match=r"root must be the folder that a CSV file's paths start from"):
        find_places(str(tmp_path / "a.csv"), str(tmp_path / "no"))
    first, second = save_photo(tmp_path / "1" / "p" / "0.jpg"), save_photo(tmp_path / "2" / "p" / "0.jpg")
    with pytest.raises(DataError, match=f"p is that of {first.parent} and {second.parent}"):
        find_places([str(first.parents[1]), str(second.parents[1])])


def test_broken_views_are_reported_and_not_used(tmp_path: Path):
    folder = tmp_path / "set" / "p"
    save_photo(folder / "0.jpg", 40)
    (folder / "90.jpg").write_bytes(save_photo(tmp_path / "whole.jpg").read_bytes()[:200])
    (folder / "180.jpg").write_bytes(b"")
    save_photo(folder / "270.jpg", 200)
    (place,) = find_places(str(tmp_path / "set"))
    # After it was listed.
    (folder / "270.jpg").unlink()
    loaded = load_place(place, [SPEC, ImageSpec(size=32)])
    assert loaded.present.tolist() == [True, False, False, False]
    assert [image.shape for image in loaded.images] == [(4, 3, 16, 16), (4, 3, 32, 32)]
    assert [line.split()[0] for line in loaded.problems] == ["90.jpg", "180.jpg", "270.jpg"]
    assert "the file is empty" in loaded.problems[1]
    assert str(tmp_path) not in " ".join(loaded.problems)
    assert abs(int(loaded.images[0][0].mean()) - 40) <= 1
    assert not loaded.images[0][1:].any()


def test_places_are_loaded_in_order(tmp_path: Path):
    for number in range(30):
        save_photo(tmp_path / f"{number:02d}.png", 5 * number)
    places = find_places(str(tmp_path))
    levels = [int(loaded.images[0][0].mean()) for loaded in load_in_order(places, [SPEC])]
    assert levels == [5 * number for number in range(30)]
    expected = SPEC.read(tmp_path / "07.png")
    np.testing.assert_array_equal(load_place(places[7], [SPEC]).images[0][0], expected)


def test_a_signature_follows_the_files(tmp_path: Path):
    save_photo(tmp_path / "set" / "p" / "0.jpg")
    (place,) = find_places(str(tmp_path / "set"))
    first = compute_signature(place)
    assert compute_signature(place) == first
    save_photo(tmp_path / "set" / "p" / "0.jpg", 7)
    (tmp_path / "set" / "p" / "0.jpg").write_bytes(b"longer" * 1000)
    assert compute_signature(place) != first
    (tmp_path / "set" / "p" / "0.jpg").unlink()
    assert compute_signature(place) not in (first, "")
