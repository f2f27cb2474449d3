"""Inputs: what is handed in for prediction, in each of its forms, and what is said of what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoguesser.data.images import ImageSpec
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.inference.inputs import InputPlace, compute_signature, find_places, load_in_order, load_place

SPEC = ImageSpec(size=16)


def photo(path: Path, level: int = 100) -> Path:
    """A picture of one colour, so that JPEG keeps its level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (level, level, level)).save(path)
    return path


def names_of(asked: list[InputPlace]) -> dict[str, list[str | None]]:
    return {one.uuid: list(one.files.names) for one in asked}


def test_a_folder_of_places_with_one_to_four_views(tmp_path: Path):
    for heading in (0, 90, 180, 270):
        photo(tmp_path / "b" / f"{heading}.jpg")
    photo(tmp_path / "a" / "180.PNG")
    photo(tmp_path / "a" / "notes.txt.jpg")
    photo(tmp_path / ".hidden" / "0.jpg")
    (tmp_path / "empty").mkdir()
    found = find_places(str(tmp_path))
    assert names_of(found) == {
        "a": [None, None, "180.PNG", None],
        "b": ["0.jpg", "90.jpg", "180.jpg", "270.jpg"],
        "empty": [None] * 4,
    }
    assert [one.views for one in found] == [1, 4, 0]
    assert found[0].notes == ("not used: notes.txt.jpg",)
    assert found[1].notes == ()
    assert found[2].notes == ("holds no view",)


def test_what_is_no_view_and_no_photo_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    photo(tmp_path / "set" / "p" / "90.jpg")
    (tmp_path / "set" / "p" / "0.bmp").write_bytes(b"BM")
    (found,) = find_places(str(tmp_path / "set"))
    assert found.notes == ("not used: 0.bmp",)
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "b.gif").write_bytes(b"GIF")
    (tmp_path / "photos" / "c.TIF").write_bytes(b"II")
    assert list(names_of(find_places(str(tmp_path / "photos")))) == ["a"]
    assert "2 images are no JPEG, PNG or WebP and left out: b.gif, c.TIF" in caplog.text


def test_photos_that_are_numbered_are_no_place(tmp_path: Path):
    for number in range(0, 100, 10):
        photo(tmp_path / f"{number}.jpg")
    with pytest.raises(DataError, match=r"one place or a folder of photos, and holds 0\.jpg beside 10\.jpg.*\*'"):
        find_places(str(tmp_path))
    assert len(find_places(str(tmp_path / "*.jpg"))) == 10


def test_place_folders_may_be_links(tmp_path: Path):
    photo(tmp_path / "elsewhere" / "p" / "0.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "q").symlink_to(tmp_path / "elsewhere" / "p")
    (found,) = find_places(str(tmp_path / "set"))
    assert (found.uuid, found.views) == ("q", 1)
    assert load_place(found, [SPEC]).present.tolist() == [True, False, False, False]


def test_a_place_by_itself_and_a_dataset(tmp_path: Path):
    photo(tmp_path / "images" / "p" / "90.jpg")
    assert names_of(find_places(str(tmp_path / "images" / "p"))) == {"p": [None, "90.jpg", None, None]}
    (tmp_path / "data.csv").write_text("uuid,latitude,longitude\np,45,16\n")
    photo(tmp_path / "loose.jpg")
    assert names_of(find_places(str(tmp_path))) == {"p": [None, "90.jpg", None, None]}


def test_photos_are_places_named_by_their_stems(tmp_path: Path):
    one, two = photo(tmp_path / "x.jpg"), photo(tmp_path / "y.webp")
    photo(tmp_path / "sub" / "270.jpg")
    assert names_of(find_places(str(one))) == {"x": ["x.jpg", None, None, None]}
    assert list(names_of(find_places([str(two), one]))) == ["y", "x"]
    assert list(names_of(find_places(str(tmp_path)))) == ["sub", "x", "y"]
    assert list(names_of(find_places(str(tmp_path / "*.jpg")))) == ["x"]
    photo(tmp_path / "x.png")
    assert list(names_of(find_places(str(tmp_path)))) == ["sub", "x.jpg", "x.png", "y"]


def test_two_files_for_one_heading_are_no_view(tmp_path: Path):
    for name in ("0.jpg", "0.png", "90.jpg"):
        photo(tmp_path / "set" / "p" / name)
    (found,) = find_places(str(tmp_path / "set"))
    assert list(found.files.names) == [None, "90.jpg", None, None]
    assert found.notes == ("two files for one heading: 0.jpg, 0.png",)
    assert load_place(found, [SPEC]).problems == ["two files for one heading: 0.jpg, 0.png"]


def test_a_link_that_leads_out_is_named_and_not_followed(tmp_path: Path):
    secret = photo(tmp_path / "secret.jpg")
    (tmp_path / "set" / "p").mkdir(parents=True)
    (tmp_path / "set" / "p" / "0.jpg").symlink_to(secret)
    (found,) = find_places(str(tmp_path / "set"))
    assert found.views == 0
    assert "must not lead out" in found.notes[0]


def test_a_wide_csv(tmp_path: Path):
    for name in ("a/n.jpg", "a/e.jpg", "b.jpg"):
        photo(tmp_path / name)
    file = tmp_path / "places.csv"
    file.write_text("uuid,0,90,180,270\nfirst,a/n.jpg,a/e.jpg,,\nsecond,,, b.jpg ,\nthird,,,,\n")
    found = find_places(str(file))
    assert names_of(found) == {
        "first": ["a/n.jpg", "a/e.jpg", None, None],
        "second": [None, None, "b.jpg", None],
        "third": [None] * 4,
    }
    assert found[2].notes == ("no view is named",)
    assert load_place(found[0], [SPEC]).present.tolist() == [True, True, False, False]
    file.write_text("id,North,south\nx,a/n.jpg,b.jpg\n")
    assert names_of(find_places(str(file))) == {"x": ["a/n.jpg", None, "b.jpg", None]}


def test_a_long_csv_with_a_root(tmp_path: Path):
    photo(tmp_path / "photos" / "1.jpg")
    photo(tmp_path / "photos" / "2.jpg")
    file = tmp_path / "list.csv"
    file.write_text("uuid,path,heading\np,1.jpg,270.0\nq,2.jpg,\np,2.jpg,0\n")
    found = find_places(str(file), str(tmp_path / "photos"))
    assert names_of(found) == {"p": ["2.jpg", None, None, "1.jpg"], "q": ["2.jpg", None, None, None]}
    assert load_place(found[0], [SPEC]).present.tolist() == [True, False, False, True]
    file.write_text(f"file\n{tmp_path / 'photos' / '1.jpg'}\nphotos/2.jpg\n")
    assert list(names_of(find_places(str(file)))) == ["1", "2"]


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
        ("uuid,uuid\np,q\n", "must name each column once|must have a column for each"),
        ("", "must be a CSV file in UTF-8"),
    ],
)
def test_a_csv_that_breaks_a_rule_is_explained(text: str, message: str, tmp_path: Path):
    file = tmp_path / "places.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        find_places(str(file))
    assert str(file) in str(caught.value)


def test_what_is_not_there_is_refused(tmp_path: Path):
    for given in (None, [], [3], ""):
        with pytest.raises(ConfigError, match=r"^images must name a folder of place folders"):
            find_places(given)
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
    one, two = photo(tmp_path / "1" / "p" / "0.jpg"), photo(tmp_path / "2" / "p" / "0.jpg")
    with pytest.raises(DataError, match=f"p is that of {one.parent} and {two.parent}"):
        find_places([str(one.parents[1]), str(two.parents[1])])


def test_reading_names_what_is_broken_and_goes_on(tmp_path: Path):
    folder = tmp_path / "set" / "p"
    photo(folder / "0.jpg", 40)
    (folder / "90.jpg").write_bytes(photo(tmp_path / "whole.jpg").read_bytes()[:200])
    (folder / "180.jpg").write_bytes(b"")
    photo(folder / "270.jpg", 200)
    (found,) = find_places(str(tmp_path / "set"))
    (folder / "270.jpg").unlink()  # after it was listed
    seen = load_place(found, [SPEC, ImageSpec(size=32)])
    assert seen.present.tolist() == [True, False, False, False]
    assert [one.shape for one in seen.images] == [(4, 3, 16, 16), (4, 3, 32, 32)]
    assert [line.split()[0] for line in seen.problems] == ["90.jpg", "180.jpg", "270.jpg"]
    assert "the file is empty" in seen.problems[1]
    assert str(tmp_path) not in " ".join(seen.problems)
    assert abs(int(seen.images[0][0].mean()) - 40) <= 1
    assert not seen.images[0][1:].any()


def test_reading_keeps_the_order_and_agrees_with_the_spec(tmp_path: Path):
    for number in range(30):
        photo(tmp_path / f"{number:02d}.png", 5 * number)
    found = find_places(str(tmp_path))
    levels = [int(seen.images[0][0].mean()) for seen in load_in_order(found, [SPEC])]
    assert levels == [5 * number for number in range(30)]
    again = SPEC.read(tmp_path / "07.png")
    np.testing.assert_array_equal(load_place(found[7], [SPEC]).images[0][0], again)


def test_a_signature_follows_the_files(tmp_path: Path):
    photo(tmp_path / "set" / "p" / "0.jpg")
    (one,) = find_places(str(tmp_path / "set"))
    first = compute_signature(one)
    assert compute_signature(one) == first
    photo(tmp_path / "set" / "p" / "0.jpg", 7)
    (tmp_path / "set" / "p" / "0.jpg").write_bytes(b"longer" * 1000)
    assert compute_signature(one) != first
    (tmp_path / "set" / "p" / "0.jpg").unlink()
    assert compute_signature(one) not in (first, "")
