"""Table of places: layouts of roots, and messages about defects."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
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


def check_refused(roots: Path | list[Path], kind: str, *lines: str) -> pd.DataFrame:
    """Checks that findings of one kind are refused; returns the table that is left where they are skipped."""
    message = refusal(roots)
    listed = "\n".join(f"  {kind}: {line}" for line in lines)
    assert message.startswith(f"The data break rules ({len(lines)} {kind}):\n{listed}")
    assert f"data.on_bad.{kind}=skip" in message
    table, findings = read(roots, **{kind: "skip"})
    assert findings.count_skipped() == {kind: len(lines)}
    assert table.index.tolist() == list(range(len(table)))
    return table


# What is read


def test_a_root_is_read_as_it_is_written(tmp_path: Path) -> None:
    ids = ["b", "a", "c"]
    root = write_root(tmp_path / "root", ids)
    (root / "images/no row names it").mkdir()
    table, findings = read(root)
    assert table["uuid"].tolist() == ids
    np.testing.assert_array_equal(get_coords(table), make_coords(3))
    assert get_coords(table).dtype == np.float64
    assert table["folder"].tolist() == [str(root / "images" / one) for one in ids]
    assert table["folder_split"].tolist() == ["", "", ""]
    assert table["root"].tolist() == [str(root)] * 3
    assert table.index.tolist() == [0, 1, 2]
    assert findings.count_skipped() == {}


def test_roots_with_different_columns_are_joined(tmp_path: Path) -> None:
    plain = write_root(tmp_path / "plain", ["a", "b"])
    unnamed = write_root(tmp_path / "unnamed", ["c"])
    write_csv(unnamed / "data.csv", [[0, "c", 45, 16]], ["", "uuid", "latitude", "longitude"])
    numbered = write_root(tmp_path / "numbered", ["d"])
    header = ["Unnamed: 0", "longitude", "uuid", "latitude", "town"]
    write_csv(numbered / "data.csv", [[7, 16.5, "d", 45.5, "Zadar"]], header)
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
    ids = ["007", "7", "7.0", "1e5", "NA", "nan", "null", "True", "Šibenik 2", "-1", ".hidden", "a..b", "A", "a"]
    table, findings = read(write_root(tmp_path / "root", ids))
    assert table["uuid"].tolist() == ids
    assert findings.skipped == []


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


@pytest.mark.parametrize("rows", [[], [["tokyo", 35.7, 139.7]]])
def test_no_place_may_be_left(rows: list[list[object]], tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["tokyo"])
    write_csv(root / "data.csv", rows)
    table, findings = read(root, far_outside="skip")
    assert len(table) == 0
    assert len(findings.skipped) == len(rows)


def test_a_root_of_bad_rows_alone_leaves_the_others(tmp_path: Path) -> None:
    good, bad = write_root(tmp_path / "good", ["a", "b"]), write_root(tmp_path / "bad", ["c"])
    write_csv(bad / "data.csv", [["c", "x", "y"]])
    for roots in ([good, bad], [bad, good]):
        table, findings = read(roots, bad_row="skip")
        assert table["uuid"].tolist() == ["a", "b"]
        np.testing.assert_array_equal(get_coords(table), make_coords(2))
        assert findings.count_skipped() == {"bad_row": 1}


def test_roots_and_images_may_be_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    real = write_root(tmp_path / "real", ["a", "b"])
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "other").mkdir()
    shutil.copy(real / "data.csv", tmp_path / "other")
    (tmp_path / "other/images").symlink_to(real / "images")
    for root in (Path("~/link"), tmp_path / "other"):
        table, _ = read(root)
        assert table["folder"].tolist() == [str(real / "images" / one) for one in "ab"]


# Layouts

SPLIT_OF = {"a": "train", "b": "train", "c": "val", "d": "test"}


@pytest.mark.parametrize("tables", ["one", "per folder"])
@pytest.mark.parametrize("layout", ["images/{split}/{uuid}", "{split}/{uuid}", "{split}/images/{uuid}"])
@pytest.mark.parametrize("names", ["train val test", "training valid testing", "train validation test"])
def test_sorted_layouts_say_the_split(layout: str, tables: str, names: str, tmp_path: Path) -> None:
    words = dict(zip(("train", "val", "test"), names.split(), strict=True))
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
    message = refusal(root, **on_bad)
    assert message.startswith(f"{root}/data.csv row 3: uuid must be the plain name of a folder")
    assert f", got {uuid.strip()!r}." in message


@pytest.mark.parametrize("on_bad", [{}, SKIP_ALL], ids=["error", "skip"])
@pytest.mark.parametrize("linked", ["b", "b/90.jpg"])
def test_a_link_that_leads_out_is_always_refused(linked: str, on_bad: dict[str, str], tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    link = root / "images" / linked
    outside = root / "images-of-others"  # a name that begins like the images folder's
    shutil.move(link, outside)
    link.symlink_to(os.path.relpath(outside, link.parent))
    rule = f"{link} must not lead out of its folder {root}/images, got {str(outside)!r}."
    assert refusal(root, **on_bad).startswith(rule)


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
        with pytest.raises(MissingFileError, match=rf"^data\.roots\[1\] must be a folder, got '{bad}'"):
            read([good, bad])


def test_a_root_without_a_table(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "data.csv").unlink()
    for _ in range(2):
        with pytest.raises(MissingFileError, match=rf"^data\.roots\[0\] {root} must hold a file data\.csv"):
            read(root)
        (root / "data.csv").mkdir(exist_ok=True)  # the second time a folder of that name is there


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must be a CSV file in UTF-8 (No columns to parse"),
        (b"uuid,latitude,longitude,x\na,45,16,\xc8a\n", "must be a CSV file in UTF-8 ('utf-8' codec"),
        (b"uuid,latitude,longitude\na,45,16\nb,45,16,17\n", "must be a CSV file in UTF-8 (Error tokenizing data."),
        (b"uuid,latitude,longitude\na,45,16,zz\nb,45,16,zz\n", "has rows with more fields than its first line."),
        (b"id,lat,longitude\na,45,16\n", "must have the columns uuid, latitude, longitude; missing: uuid,"),
        (b"uuid;latitude;longitude\na;45;16\n", "must have the columns"),
        (b"uuid, uuid,latitude,longitude\na,b,45,16\n", "must name each column once"),
    ],
    ids=["empty", "not UTF-8", "a long row", "long rows", "columns", "semicolons", "twice"],
)
def test_a_table_that_is_none(content: bytes, rule: str, tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (root / "data.csv").write_bytes(content)
    message = refusal(root, **SKIP_ALL)  # no kind of finding: nothing to skip
    assert message.startswith(f"{root}/data.csv {rule}")
    assert ("Its fields are separated by ';'" in message) == (b";" in content)


# Coordinates

BAD_COORDINATES = {
    "latitude and longitude must be numbers": [
        *(("north", "16"), ("45", ""), ("45,5", "16"), ("45", "NaN"), ("inf", "16"), ("1e400", "16")),
    ],
    "latitude must be within 90 degrees, longitude within 180": [("90.0001", "120"), ("45", "-180.0001")],
    "latitude must be within 90 degrees, longitude within 180 (they look swapped)": [("-116", "-45")],
}


@pytest.mark.parametrize("rule", BAD_COORDINATES)
def test_bad_coordinates(rule: str, tmp_path: Path) -> None:
    pairs = BAD_COORDINATES[rule]
    root = write_root(tmp_path / "root", ["a", "b"])
    bad = [[f"bad {at}", *pair] for at, pair in enumerate(pairs)]
    write_csv(root / "data.csv", [["a", 45, 16], *bad, ["b", 45, 17]])
    lines = [f"{root}/data.csv row {row} {rule}, got {pair!r}" for row, pair in enumerate(pairs, start=3)]
    table = check_refused(root, "bad_row", *lines)
    assert table["uuid"].tolist() == ["a", "b"]
    assert get_coords(table).tolist() == [[45, 16], [45, 17]]


def test_the_poles_and_the_date_line_are_numbers_in_range(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    write_csv(root / "data.csv", [["a", 45, 16], ["b", 90, -180], ["c", -90, 180]])
    _, findings = read(root, far_outside="skip")
    assert findings.count_skipped() == {"far_outside": 2}


def test_places_far_outside(tmp_path: Path) -> None:
    """Madrid; a swapped place; Tokyo, which cannot be swapped; 200 km off the land, which is allowed."""
    rows = [("in", 45, 16), ("madrid", 40.4, -3.7), ("swapped", 16, 45), ("tokyo", 35.7, 139.7), ("sea", 42.3, 16)]
    root = write_root(tmp_path / "root", [row[0] for row in rows])
    write_csv(root / "data.csv", rows)
    distances_km = LAND.distance_to_land_km(np.array([row[1:] for row in rows]))
    lines = refusal(root).splitlines()
    assert lines[0] == "The data break rules (3 far_outside):"
    for number, line in enumerate(lines[1:-1], start=1):
        assert f"data.csv row {number + 2} is {distances_km[number]:.0f} km from region box" in line
        assert ("swapped, the place would be in the region" in line) == (rows[number][0] == "swapped")

    table, findings = read(root, far_outside="skip")
    assert table["uuid"].tolist() == ["in", "sea"]
    assert findings.count_skipped() == {"far_outside": 3}


# The same id twice


def test_an_id_twice_in_a_table_or_in_two_roots(tmp_path: Path) -> None:
    one, two = write_root(tmp_path / "one", ["a", "b"]), write_root(tmp_path / "two", ["c", "b", "d"])
    write_csv(one / "data.csv", [["a", 45, 16], ["b", 45, 17], ["a", 44.5, 16]])
    lines = [
        f"{one}/data.csv row 4 has the same uuid a as {one}/data.csv row 2",
        f"{two}/data.csv row 3 has the same uuid b as {one}/data.csv row 3",
    ]
    table = check_refused([one, two], "duplicate_id", *lines)
    assert table["uuid"].tolist() == ["a", "b", "c", "d"]
    assert table["root"].tolist() == [str(one), str(one), str(two), str(two)]
    assert get_coords(table)[:2].tolist() == [[45, 16], [45, 17]]


def test_views_of_one_place_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_csv(root / "data.csv", [["a", 45, 16]])
    for split in ("train", "val"):
        write_views(root / "images" / split / "a", "a")
    line = f"{root}/images/val/a has the same id as {root}/images/train/a"
    assert check_refused(root, "duplicate_id", line)["folder_split"].tolist() == ["train"]


# Views that are not there


def test_a_place_without_a_folder(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    shutil.rmtree(root / "images/b")
    (root / "images/b").write_text("a file is no folder")
    line = f"{root}/data.csv row 3 has no folder of views images/b in {root}"
    table = check_refused(root, "missing_images", line)
    assert table["uuid"].tolist() == ["a", "c"]
    assert [Path(folder).name for folder in table["folder"]] == ["a", "c"]


def test_a_place_that_lacks_views(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a", "b", "c"])
    (root / "images/b/90.jpg").unlink()
    (root / "images/b/270.jpg").rename(root / "images/b/270.bmp")
    table = check_refused(root, "missing_view", f"{root}/images/b lacks 90.jpg, 270.jpg")
    assert table["uuid"].tolist() == ["a", "c"]
    assert "data.missing_views=mask" in refusal(root)
    for heading in (0, 180):
        (root / f"images/b/{heading}.jpg").unlink()
    assert "data.missing_views=mask" not in refusal(root)  # no view is left to keep


# Findings


@pytest.mark.parametrize(("count", "more"), [(MAX_LISTED, None), (MAX_LISTED + 1, "  and 1 more")])
def test_the_message_lists_eight_and_counts_all(count: int, more: str | None) -> None:
    found = [Finding("missing_view", f"folder {at}", "lacks 0.jpg") for at in range(count)]
    with pytest.raises(DataError) as caught:
        Findings().record(found)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"The data break rules ({count} missing_view):"
    assert lines[1 : MAX_LISTED + 1] == [f"  missing_view: folder {at} lacks 0.jpg" for at in range(MAX_LISTED)]
    assert lines[MAX_LISTED + 1 : -1] == ([more] if more else [])


# What roots may be


@pytest.mark.parametrize("roots", [5, "A", {"a": 1}, None, []])
def test_roots_that_are_no_list(roots: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data\.roots must name at least one folder, got"):
        read_places(roots, LAND, Findings())


def test_a_root_given_twice_is_named(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", ["a"])
    (tmp_path / "link").symlink_to(root)
    for again in (root, tmp_path / "link", tmp_path / "link/../root"):
        with pytest.raises(ConfigError, match=rf"^data\.roots must name each folder once, got '{again}'"):
            read([root, again])


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
    target.rename(tmp_path / "away")
    target.symlink_to(target.name)
    with pytest.raises((DataError, MissingFileError), match=str(root)):
        read(root)
