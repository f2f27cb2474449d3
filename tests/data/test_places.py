"""Table of places: layouts of roots, and messages about defects."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from support.place_roots import LAND, make_coords, write_csv, write_root, write_views

from geoguesser.data.checks.findings import FINDING_KINDS, MAX_LISTED, Finding, Findings
from geoguesser.data.places import get_coords, list_files, read_places
from geoguesser.errors import ConfigError, DataError, MissingFileError

SKIP_ALL = dict.fromkeys(FINDING_KINDS, "skip")


def read(roots: Path | list[Path], **on_bad: str) -> tuple[pd.DataFrame, Findings]:
    findings = Findings(on_bad)
    paths = roots if isinstance(roots, list) else [roots]
    return read_places([str(path) for path in paths], LAND, findings), findings


def refusal(roots: Path | list[Path], **on_bad: str) -> str:
    with pytest.raises(DataError) as caught:
        read(roots, **on_bad)
    return str(caught.value)


MASK = "; places with 1 to 3 views may stay: data.missing_views=mask"


def broken_rules(kind: str, *lines: str) -> str:
    """The message for findings of one kind."""
    listed = "\n".join(f"  {kind}: {line}" for line in lines)
    return (
        f"The data break rules ({len(lines)} {kind}):\n{listed}\n"
        f"Correct them, or leave those places out (they are counted and listed): data.on_bad.{kind}=skip"
    )


# What is read


def test_a_root_is_read_as_it_is_written(tmp_path: Path) -> None:
    ids = ["b", "a", "c"]
    root = write_root(tmp_path / "root", ids)
    table, findings = read(root)
    assert table["uuid"].tolist() == ids
    np.testing.assert_array_equal(get_coords(table), make_coords(3))
    assert get_coords(table).dtype == np.float64
    assert table["folder"].tolist() == [str(root / "images" / one) for one in ids]
    assert table["folder_split"].tolist() == ["", "", ""]
    assert table["root"].tolist() == [str(root)] * 3
    assert table.index.tolist() == [0, 1, 2]
    assert findings.skipped == []
    assert findings.count_skipped() == {}


def test_roots_with_different_columns_are_joined(tmp_path: Path) -> None:
    plain = write_root(tmp_path / "plain", ["a", "b"])
    unnamed = write_root(tmp_path / "unnamed", ["c"])
    write_csv(unnamed / "data.csv", [[0, "c", 45, 16]], ["", "uuid", "latitude", "longitude"])
    numbered = write_root(tmp_path / "numbered", ["d"])
    write_csv(
        numbered / "data.csv",
        [[7, 16.5, "d", 45.5, "Zadar"]],
        ["Unnamed: 0", "longitude", "uuid", "latitude", "town"],
    )
    extra = write_root(tmp_path / "extra", ["e"], columns={"split": ["test"], "town": ["Šibenik, Novi Grad"]})
    table, _ = read([plain, unnamed, numbered, extra])
    assert table["uuid"].tolist() == list("abcde")
    assert [Path(folder).name for folder in table["folder"]] == list("abcde")
    assert table["root"].tolist() == [str(one) for one in (plain, plain, unnamed, numbered, extra)]
    np.testing.assert_array_equal(get_coords(table)[2:4], [[45, 16], [45.5, 16.5]])
    assert not [column for column in table.columns if "Unnamed" in column or not column]
    assert table["town"].fillna("-").tolist() == ["-", "-", "-", "Zadar", "Šibenik, Novi Grad"]
    assert table["split"].fillna("-").tolist() == ["-", "-", "-", "-", "test"]
    assert table.index.tolist() == [0, 1, 2, 3, 4]


def test_ids_stay_text(tmp_path: Path) -> None:
    ids = ["007", "7", "1e5", "NA", "nan", "null", "1.0", "True", "Šibenik 2", "-1", ".hidden", "a..b"]
    table, _ = read(write_root(tmp_path / "root", ids))
    assert table["uuid"].tolist() == ids


@pytest.mark.parametrize(
    "text",
    [
        "uuid,latitude,longitude\r\na,45.5,16.25\r\n",
        "\ufeffuuid,latitude,longitude\na,45.5,16.25\n",
        " uuid, latitude, longitude \n a , 45.5, 16.25\n",
        '"uuid","latitude","longitude"\n"a","45.5","16.25"\n',
        "uuid,latitude,longitude,\na,45.5,16.25,\n",
        "longitude,latitude,uuid\n1625e-2,+45.50,a",
    ],
    ids=["windows", "mark of Excel", "blanks", "quotes", "comma at line ends", "other order"],
)
def test_what_programs_write_is_read(text: str, tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "data.csv").write_bytes(text.encode())
    table, _ = read(root)
    assert table["uuid"].tolist() == ["a"]
    np.testing.assert_array_equal(get_coords(table), [[45.5, 16.25]])


def test_a_header_without_rows_gives_an_empty_table(tmp_path: Path) -> None:
    table, findings = read(write_root(tmp_path / "root", []))
    assert len(table) == 0
    assert findings.skipped == []


def test_a_root_of_bad_rows_alone_leaves_the_others(tmp_path: Path) -> None:
    good, bad = write_root(tmp_path / "good", ["a", "b"]), write_root(tmp_path / "bad", ["c"])
    write_csv(bad / "data.csv", [["c", "x", "y"]])
    for roots in ([good, bad], [bad, good]):
        table, findings = read(roots, bad_row="skip")
        assert table["uuid"].tolist() == ["a", "b"]
        np.testing.assert_array_equal(get_coords(table), make_coords(2))
        assert findings.count_skipped() == {"bad_row": 1}


def test_roots_and_images_may_be_links(tmp_path: Path) -> None:
    real = write_root(tmp_path / "real", ["a", "b"])
    (tmp_path / "link").symlink_to(real)
    table, _ = read(tmp_path / "link")
    assert table["uuid"].tolist() == ["a", "b"]
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(real / "data.csv", other)
    (other / "images").symlink_to(real / "images")
    table, _ = read(other)
    assert table["folder"].tolist() == [str(real / "images" / one) for one in "ab"]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_root(tmp_path / "root", ["a"])
    table, _ = read(Path("~/root"))
    assert table["folder"].tolist() == [str(tmp_path / "root/images/a")]


# Layouts

SPLIT_OF = {"a": "train", "b": "train", "c": "val", "d": "test"}
TRAIN_VAL_TEST = {"train": "train", "val": "val", "test": "test"}


@pytest.mark.parametrize("tables", ["one", "per folder"])
@pytest.mark.parametrize("layout", ["images/{split}/{uuid}", "{split}/{uuid}", "{split}/images/{uuid}"])
@pytest.mark.parametrize(
    "words",
    [
        TRAIN_VAL_TEST,
        {"train": "training", "val": "valid", "test": "testing"},
        {**TRAIN_VAL_TEST, "val": "validation"},
    ],
    ids=["train, val, test", "training, valid, testing", "validation"],
)
def test_sorted_layouts_say_the_split(layout: str, tables: str, words: dict[str, str], tmp_path: Path) -> None:
    rows: dict[str, list[tuple[str, float, float]]] = {}
    for at, (uuid, split) in enumerate(SPLIT_OF.items()):
        folder = layout.format(split=words[split], uuid=uuid)
        write_views(tmp_path / folder, uuid)
        own = folder.split(f"{words[split]}/")[0] + words[split]
        rows.setdefault(own if tables == "per folder" else ".", []).append((uuid, 45, 15 + at / 8))
    for folder, some in rows.items():
        write_csv(tmp_path / folder / "data.csv", some)
    assert len(rows) == (3 if tables == "per folder" else 1)
    table, _ = read(tmp_path)
    assert dict(zip(table["uuid"], table["folder_split"], strict=True)) == SPLIT_OF
    for uuid, lat, lon, folder in table[["uuid", "latitude", "longitude", "folder"]].itertuples(index=False):
        assert (lat, lon) == (45, 15 + list(SPLIT_OF).index(uuid) / 8)
        assert folder == str(tmp_path / layout.format(split=words[SPLIT_OF[uuid]], uuid=uuid))


def test_the_table_at_the_top_goes_before_those_of_the_folders(tmp_path: Path) -> None:
    write_views(tmp_path / "train/a", "a")
    write_csv(tmp_path / "train/data.csv", [["a", 44.5, 15]])
    write_csv(tmp_path / "data.csv", [["a", 45, 15]])
    table, _ = read(tmp_path)
    assert table["latitude"].tolist() == [45]


# Ids and links that lead out


@pytest.mark.parametrize("uuid", ["../a", "a/b", "/etc", "..", ".", "", "  ", "a\\b", "..\\a", "a\x00b"])
@pytest.mark.parametrize("on_bad", [{}, SKIP_ALL], ids=["error", "skip"])
def test_an_id_that_is_a_path_is_always_refused(uuid: str, on_bad: dict[str, str], tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    write_csv(root / "data.csv", [["a", 45, 16], [uuid, 45, 16]])
    assert refusal(root, **on_bad) == (
        f"{root}/data.csv row 3: uuid must be the plain name of a folder, without / or \\, which could lead out "
        f"of the data folder, got {uuid.strip()!r}. Correct the row. The check cannot be turned off."
    )


def leads_out(link: Path, base: Path, target: Path) -> str:
    rule = f"{link} must not lead out of its folder {base}, got {str(target)!r}."
    return f"{rule} Replace the link by the files."


@pytest.mark.parametrize("on_bad", [{}, SKIP_ALL], ids=["error", "skip"])
def test_a_place_that_links_out_is_always_refused(on_bad: dict[str, str], tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    images = root / "images"
    outside = tmp_path / "root/images-of-others"  # a name that begins like the images folder's
    shutil.move(images / "b", outside)
    (images / "b").symlink_to(outside)
    assert refusal(root, **on_bad) == leads_out(images / "b", images, outside)


@pytest.mark.parametrize("on_bad", [{}, SKIP_ALL], ids=["error", "skip"])
def test_a_view_that_links_out_is_always_refused(on_bad: dict[str, str], tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    view, outside = root / "images/b/90.jpg", tmp_path / "90.jpg"
    shutil.move(view, outside)
    view.symlink_to(Path("../../../90.jpg"))
    assert refusal(root, **on_bad) == leads_out(view, root / "images", outside)


def test_links_that_stay_inside_are_taken(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    images = root / "images"
    shutil.rmtree(images / "b")
    (images / "b").symlink_to("a")
    (images / "c/0.jpg").unlink()
    (images / "c/0.jpg").symlink_to(images / "a/180.jpg")
    table, _ = read(root)
    assert table["uuid"].tolist() == ["a", "b", "c"]
    assert (Path(table["folder"][2]) / "0.jpg").read_bytes() == (images / "a/180.jpg").read_bytes()


# Roots and tables that are none


def test_a_missing_root_and_a_file_are_named_by_their_number(tmp_path: Path) -> None:
    good = write_root(tmp_path / "root", ["a"])
    for bad in (tmp_path / "absent", good / "data.csv"):
        with pytest.raises(MissingFileError) as caught:
            read([good, bad])
        assert str(caught.value) == f"data.roots[1] must be a folder, got {str(bad)!r}."


def test_a_root_without_a_table(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "data.csv").unlink()
    for _ in range(2):
        with pytest.raises(MissingFileError) as caught:
            read(root)
        assert str(caught.value) == f"data.roots[0] {root} must hold a file data.csv. See docs/data.md."
        (root / "data.csv").mkdir(exist_ok=True)  # the second time a folder of that name is there


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must be a CSV file in UTF-8 (No columns to parse from file)."),
        (
            "uuid,latitude,longitude,town\na,45,16,Čakovec\n".encode("cp1250"),
            "must be a CSV file in UTF-8 ('utf-8' codec can't decode byte 0xc8 in ",
        ),
        (
            b"uuid,latitude,longitude\na,45,16\nb,45,16,17\n",
            "must be a CSV file in UTF-8 (Error tokenizing data. C error: Expected 3 fields in line 3, saw 4).",
        ),
        (
            b"uuid,latitude,longitude\na,45,16,zz\nb,45,16,zz\n",
            "has rows with more fields than its first line. Look for commas at line ends.",
        ),
        (
            b"id,lat,longitude\na,45,16\n",
            "must have the columns uuid, latitude, longitude; missing: uuid, latitude, "
            "got ['id', 'lat', 'longitude']. Rename the columns of the first line.",
        ),
        (
            b"uuid;latitude;longitude\na;45;16\n",
            "must have the columns uuid, latitude, longitude; missing: uuid, latitude, longitude, "
            "got ['uuid;latitude;longitude']. Its fields are separated by ';': save it with commas, and numbers "
            "with "
            "a decimal point.",
        ),
        (
            b"uuid, uuid,latitude,longitude\na,b,45,16\n",
            "must name each column once, got ['uuid', 'uuid', 'latitude', 'longitude'].",
        ),
    ],
    ids=["empty", "not UTF-8", "a long row", "long rows", "columns", "semicolons", "twice"],
)
def test_a_table_that_is_none(content: bytes, rule: str, tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "data.csv").write_bytes(content)
    message = refusal(root, **SKIP_ALL)  # no kind of finding: nothing to skip
    assert message.startswith(f"{root}/data.csv {rule}")


def test_every_table_of_several_must_have_the_columns(tmp_path: Path) -> None:
    good, bad = write_root(tmp_path / "good", ["a"]), write_root(tmp_path / "bad", ["b"])
    write_csv(bad / "data.csv", [["b", 45]], ["uuid", "latitude"])
    assert refusal([good, bad]) == (
        f"{bad}/data.csv must have the columns uuid, latitude, longitude; missing: longitude, "
        "got ['uuid', 'latitude']. Rename the columns of the first line."
    )


def test_a_place_that_lacks_a_view_may_be_kept_with_the_others(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b"])
    (root / "images/a/90.jpg").unlink()
    assert refusal(root).endswith("data.on_bad.missing_view=skip" + MASK)
    for heading in (0, 180, 270):
        (root / f"images/a/{heading}.jpg").unlink()
    assert "data.missing_views=mask" not in refusal(root)  # no view is left to keep


# Coordinates

NUMBERS = "latitude and longitude must be numbers"
WITHIN = "latitude must be within 90 degrees, longitude within 180"


@pytest.mark.parametrize(
    ("lat", "lon", "rule"),
    [
        ("north", "16", NUMBERS),
        ("45", "", NUMBERS),
        ("45,5", "16", NUMBERS),
        ("45°", "16", NUMBERS),
        ("nan", "16", NUMBERS),
        ("45", "NaN", NUMBERS),
        ("inf", "16", NUMBERS),
        ("45", "-inf", NUMBERS),
        ("1e400", "16", NUMBERS),
        ("90.0001", "120", WITHIN),
        ("45", "180.0001", WITHIN),
        ("45", "-181", WITHIN),
        ("116", "45", f"{WITHIN} (they look swapped)"),
        ("-116", "-45", f"{WITHIN} (they look swapped)"),
        ("450", "16", WITHIN),
    ],
)
def test_bad_coordinates(lat: str, lon: str, rule: str, tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    write_csv(root / "data.csv", [["a", 45, 16], ["b", lat, lon], ["c", 45, 17]])
    where, reason = f"{root}/data.csv row 3", f"{rule}, got ({lat!r}, {lon!r})"
    assert refusal(root) == broken_rules("bad_row", f"{where} {reason}")
    table, findings = read(root, bad_row="skip")
    assert table["uuid"].tolist() == ["a", "c"]
    assert get_coords(table).tolist() == [[45, 16], [45, 17]]
    assert table.index.tolist() == [0, 1]
    assert findings.skipped == [Finding("bad_row", where, reason)]


def test_the_poles_and_the_date_line_are_numbers_in_range(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    write_csv(root / "data.csv", [["a", 45, 16], ["b", 90, -180], ["c", -90, 180]])
    _, findings = read(root, far_outside="skip")
    assert findings.count_skipped() == {"far_outside": 2}


def km_to_box(lat: float, lon: float) -> float:
    """By a dense walk along the boundary (on the ellipsoid, so within half a per cent)."""
    ring = shapely.get_coordinates(shapely.segmentize(shapely.box(14, 44, 18, 46).exterior, 0.01))
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(*(np.full(len(ring), value) for value in (lon, lat)), *ring.T)
    return float(np.min(metres)) / 1000


def test_places_far_outside(tmp_path: Path) -> None:
    """Madrid; a swapped place; Tokyo, which cannot be swapped; 200 km off the land, which is allowed."""
    rows = [
        ("in", 45, 16),
        ("madrid", 40.4, -3.7),
        ("swapped", 16, 45),
        ("tokyo", 35.7, 139.7),
        ("near", 42.3, 16),
    ]
    root = write_root(tmp_path / "root", [row[0] for row in rows])
    write_csv(root / "data.csv", rows)
    lines = refusal(root).splitlines()
    assert lines[0] == "The data break rules (3 far_outside):"
    assert lines[-1].endswith(": data.on_bad.far_outside=skip")
    pattern = r"  far_outside: (.*) is (\d+) km from region box \(at most 300 allowed\)(.*)"
    matches = [re.fullmatch(pattern, line) for line in lines[1:-1]]
    result = [match.groups() for match in matches if match]
    assert [where for where, _, _ in result] == [f"{root}/data.csv row {row}" for row in (3, 4, 5)]
    for (_, km, _), (_, lat, lon) in zip(result, rows[1:4], strict=True):
        assert float(km) == pytest.approx(km_to_box(lat, lon), rel=0.006)
    assert [hint for _, _, hint in result] == [
        "",
        "; with latitude and longitude swapped, the place would be in the region",
        "",
    ]
    table, findings = read(root, far_outside="skip")
    assert table["uuid"].tolist() == ["in", "near"]
    assert table.index.tolist() == [0, 1]
    assert findings.count_skipped() == {"far_outside": 3}


def test_all_places_may_be_far_outside(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["tokyo"])
    write_csv(root / "data.csv", [["tokyo", 35.7, 139.7]])
    table, findings = read(root, far_outside="skip")
    assert len(table) == 0
    assert findings.count_skipped() == {"far_outside": 1}


# The same id twice


def test_an_id_twice_in_a_table(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b"])
    write_csv(root / "data.csv", [["a", 45, 16], ["b", 45, 17], ["a", 44.5, 16]])
    file = root / "data.csv"
    assert refusal(root) == broken_rules("duplicate_id", f"{file} row 4 has the same uuid a as {file} row 2")
    table, findings = read(root, duplicate_id="skip")
    assert get_coords(table).tolist() == [[45, 16], [45, 17]]
    assert findings.count_skipped() == {"duplicate_id": 1}


def test_an_id_in_two_roots(tmp_path: Path) -> None:
    one, two = write_root(tmp_path / "one", ["a", "b"]), write_root(tmp_path / "two", ["c", "b", "d"])
    assert refusal([one, two]) == broken_rules(
        "duplicate_id", f"{two}/data.csv row 3 has the same uuid b as {one}/data.csv row 3"
    )
    table, _ = read([one, two], duplicate_id="skip")
    assert table["uuid"].tolist() == ["a", "b", "c", "d"]
    assert table["root"].tolist() == [str(one), str(one), str(two), str(two)]


def test_ids_that_only_look_the_same_number_are_two(tmp_path: Path) -> None:
    table, findings = read(write_root(tmp_path / "root", ["01", "1", "1.0", "A", "a"]))
    assert len(table) == 5
    assert findings.skipped == []


def test_views_of_one_place_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_csv(root / "data.csv", [["a", 45, 16]])
    for split in ("train", "val"):
        write_views(root / "images" / split / "a", "a")
    line = f"{root}/images/val/a has the same id as {root}/images/train/a"
    assert refusal(root) == broken_rules("duplicate_id", line)
    table, findings = read(root, duplicate_id="skip")
    assert table["folder_split"].tolist() == ["train"]
    assert findings.count_skipped() == {"duplicate_id": 1}


# Views that are not there


def test_a_place_without_a_folder(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    shutil.rmtree(root / "images/b")
    (root / "images/b").write_text("a file is no folder")
    line = f"{root}/data.csv row 3 has no folder of views images/b in {root}"
    assert refusal(root) == broken_rules("missing_images", line)
    table, findings = read(root, missing_images="skip")
    assert table["uuid"].tolist() == ["a", "c"]
    assert [Path(folder).name for folder in table["folder"]] == ["a", "c"]
    assert findings.count_skipped() == {"missing_images": 1}


def test_folders_that_no_row_speaks_of_are_left_alone(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "images/stranger").mkdir()
    table, _ = read(root)
    assert table["uuid"].tolist() == ["a"]


def test_a_place_that_lacks_views(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    (root / "images/b/90.jpg").unlink()
    (root / "images/b/270.jpg").rename(root / "images/b/270.bmp")
    line = f"{root}/images/b lacks 90.jpg, 270.jpg"
    assert refusal(root) == broken_rules("missing_view", line) + MASK
    table, findings = read(root, missing_view="skip")
    assert table["uuid"].tolist() == ["a", "c"]
    assert findings.skipped == [Finding("missing_view", f"{root}/images/b", "lacks 90.jpg, 270.jpg")]


# Findings


@pytest.mark.parametrize(
    ("count", "more"), [(MAX_LISTED, None), (MAX_LISTED + 1, "  and 1 more"), (50, "  and 42 more")]
)
def test_the_message_lists_eight_and_counts_all(count: int, more: str | None) -> None:
    found = [Finding("missing_view", f"folder {at}", "lacks 0.jpg") for at in range(count)]
    with pytest.raises(DataError) as caught:
        Findings().record(found)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"The data break rules ({count} missing_view):"
    assert lines[1 : MAX_LISTED + 1] == [f"  missing_view: folder {at} lacks 0.jpg" for at in range(MAX_LISTED)]
    assert lines[MAX_LISTED + 1 : -1] == ([more] if more else [])


def test_kinds_are_told_apart_in_one_message(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c", "d"])
    shutil.rmtree(root / "images/a")
    (root / "images/b/0.jpg").unlink()
    (root / "images/d/0.jpg").unlink()
    lines = refusal(root).splitlines()
    assert lines[0] in (
        "The data break rules (2 missing_view, 1 missing_images):",
        "The data break rules (1 missing_images, 2 missing_view):",
    )
    assert len(lines) == 5
    assert set(lines[-1].removesuffix(MASK).split(": ")[1].split()) == {
        "data.on_bad.missing_view=skip",
        "data.on_bad.missing_images=skip",
    }
    only = refusal(root, missing_view="skip")  # one kind skipped, the other still an error
    assert only.startswith("The data break rules (1 missing_images):")
    assert "missing_view" not in only


DEFECTS = ("", "", "bad_row", "duplicate_id", "missing_images", "missing_view", "far_outside")


@settings(max_examples=25, deadline=None)
@given(defects=st.lists(st.sampled_from(DEFECTS), min_size=1, max_size=10))
def test_skipping_leaves_out_the_bad_rows_alone(defects: list[str]) -> None:
    """Whatever is wrong with whichever rows: the others stay, in order, and each kind is counted."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows: list[list[Any]] = [["first", 45, 16]]
        write_views(root / "images/first", "first", 16)
        for at, defect in enumerate(defects):
            uuid = "first" if defect == "duplicate_id" else f"id{at}"
            lat = {"bad_row": "x", "far_outside": -45}.get(defect, 45)
            rows.append([uuid, lat, 14.5 + at / 10])
            if defect != "missing_images":
                write_views(root / "images" / uuid, uuid, 16)
            if defect == "missing_view":
                (root / "images" / uuid / "180.jpg").unlink()
        write_csv(root / "data.csv", rows)
        table, findings = read(root, **SKIP_ALL)
        good = [at for at, defect in enumerate(defects) if not defect]
        assert table["uuid"].tolist() == ["first", *(f"id{at}" for at in good)]
        assert table["longitude"].tolist() == [16, *(14.5 + at / 10 for at in good)]
        assert findings.count_skipped() == {kind: defects.count(kind) for kind in set(defects) if kind}


# What roots may be


@pytest.mark.parametrize("roots", [5, "A", {"a": 1}, None, []])
def test_roots_that_are_no_list(roots: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data\.roots must name at least one folder, got"):
        read_places(roots, LAND, Findings())


def test_a_root_given_twice_is_named(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (tmp_path / "link").symlink_to(root)
    for again in (root, tmp_path / "link", tmp_path / "link/../root"):
        with pytest.raises(ConfigError) as caught:
            read([root, again])
        assert str(caught.value) == f"data.roots must name each folder once, got {str(again)!r}."


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b"])
    (root / "data.csv").write_text("uuid,latitude,longitude\n\na,45,16\n\n,,\n\nb,x,16\n")
    table, findings = read(root, bad_row="skip")
    assert table["row"].tolist() == [f"{root}/data.csv row 3"]
    assert findings.skipped[0].where == f"{root}/data.csv row 7"
    assert findings.ids == {"a", "b"}


def test_suffixes_in_any_case(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "images/a/90.jpg").rename(root / "images/a/90.JPG")
    table, _ = read(root)
    assert list_files(table)[0].names == ("0.jpg", "90.JPG", "180.jpg", "270.jpg")


def test_masking_keeps_places_with_some_views(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c", "d"])
    (root / "images/b/90.jpg").unlink()
    for heading in (0, 90, 180, 270):
        (root / f"images/c/{heading}.jpg").unlink()
    (root / "images/d/0.png").write_bytes(b"")
    findings = Findings({"missing_view": "skip"})
    table = read_places([str(root)], LAND, findings, allow_missing_views=True)
    assert table["uuid"].tolist() == ["a", "b"]
    assert list_files(table)[1].names == ("0.jpg", None, "180.jpg", "270.jpg")
    assert [one.reason for one in findings.kept] == ["lacks 90.jpg"]
    assert [one.reason for one in findings.skipped] == [
        "lacks 0.jpg, 90.jpg, 180.jpg, 270.jpg",
        "holds two files for one heading: 0.jpg, 0.png",
    ]


@pytest.mark.parametrize("what", ["data.csv", "images", "images/a"])
def test_what_the_system_does_not_give_is_told(what: str, tmp_path: Path) -> None:
    """A link to itself stands for whatever cannot be opened; root may read all else."""
    root = write_root(tmp_path / "root", ["a"])
    target = root / what
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    target.symlink_to(target.name)
    with pytest.raises((DataError, MissingFileError)) as caught:
        read(root)
    assert str(root) in str(caught.value)
