"""Ids and names from elsewhere never lead out of the folder they are used in, whatever file they come from."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.collecting.database import DATABASE_NAME, Database
from geoguesser.collecting.output_files import get_view_path, write_view
from geoguesser.collecting.pipeline.download import forget_lost_views
from geoguesser.data.checks.findings import Findings
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import find_place, find_views_folder
from geoguesser.data.places import read_place_table
from geoguesser.data.store.reader import Store, read_manifest
from geoguesser.data.store.shards import pack_shards
from geoguesser.errors import DataError, GeoguesserError, StoreError
from geoguesser.sweeps.folder import SweepFolder
from geoguesser.system.received_files import check_plain_name, is_plain_name

V0_1 = Path(__file__).parent.parent / "compat" / "v0_1"
EVIL = [
    "..",
    ".",
    "",
    "../x",
    "a/../../x",
    "/etc/x",
    "a\\..\\x",
    "a\0b",
    "x" * 256,
    "\ud800",
    7,
    None,
    b"x",
    ["x"],
]
# Texts of which many parts mean something to a file system.
PARTS = st.sampled_from(
    ["..", ".", "/", "\\", "\0", "~", "C:", "a", " ", "\n", "%2e", "．", "\u2215", "é", "\ud800"]
)
TEXTS = st.one_of(st.text(max_size=30), st.lists(PARTS, max_size=8).map("".join))


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_plain_name_is_a_child_of_every_folder(text: str) -> None:
    if not is_plain_name(text):
        return
    for base in (Path("/data/images"), Path("relative")):
        path = Path(os.path.normpath(base / text))
        assert path.parent == Path(os.path.normpath(base))
        assert path != base
    assert check_plain_name(text) == text


@given(st.from_regex(r"[\w\- .]{1,40}", fullmatch=True))
def test_usual_ids_are_plain_names(text: str) -> None:
    assert is_plain_name(text) == (text not in (".", "..") and len(os.fsencode(text)) <= 255)


@pytest.mark.parametrize("name", EVIL)
def test_other_values_are_no_plain_names(name: object) -> None:
    assert not is_plain_name(name)
    with pytest.raises(ValueError, match="plain name"):
        check_plain_name(name)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_a_view_of_a_journal_lies_in_its_folder(text: str) -> None:
    out = Path("/nowhere/out")
    try:
        path = get_view_path(out, text, 90)
    except DataError:
        return
    assert os.path.normpath(path.parent.parent) == str(out / "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of a collection with one place that has views to download."""
    out = tmp_path / "out"
    with Database(out) as database:
        database.write(
            lambda db: db.execute(
                "INSERT INTO places VALUES (1, 'google', 'p', 'good', 45, 15, '', '', '{}', 1, 'wanted', '')"
            )
        )
        database.write(lambda db: db.execute("INSERT INTO views VALUES (1, 0, 3)"))
    return out


def edit(folder: Path, script: str, *values: object) -> None:
    db = sqlite3.connect(folder / DATABASE_NAME)
    db.execute(script, values)
    db.commit()
    db.close()


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside", "..", b"x"])
def test_a_changed_id_in_the_journal_is_refused(folder: Path, name: object) -> None:
    edit(folder, "UPDATE places SET uuid = ?", name)
    with Database(folder) as database, pytest.raises(DataError, match=r"journal\.sqlite must name places"):
        forget_lost_views(database)
    with pytest.raises(DataError, match=r"journal\.sqlite must name places"):
        write_view(get_view_path(folder, name, 0), b"jpeg")  # type: ignore[arg-type]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]


@pytest.mark.parametrize("heading", ["../../x", 7, None])
def test_a_changed_heading_in_the_journal_is_refused(folder: Path, heading: object) -> None:
    if heading is not None:
        edit(folder, "UPDATE views SET heading = ?", heading)
        with Database(folder) as database, pytest.raises(DataError, match="must name places"):
            forget_lost_views(database)
    with pytest.raises(DataError):
        get_view_path(folder, "good", heading)  # type: ignore[arg-type]


@pytest.mark.parametrize("linked", ["images", "images/good"])
def test_views_are_not_written_through_links(folder: Path, linked: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / linked).parent.mkdir(exist_ok=True)
    (folder / linked).symlink_to(outside)
    with pytest.raises(DataError, match="must not lead out"):
        write_view(get_view_path(folder, "good", 0), b"jpeg")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TRIGGER t AFTER INSERT ON points BEGIN DELETE FROM places; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE f USING fts4(x)",
        "CREATE TABLE other (x)",
    ],
)
def test_a_journal_with_code_of_others_is_refused(folder: Path, script: str) -> None:
    edit(folder, script)
    with pytest.raises(StoreError, match="must hold this program's tables only"):
        Database(folder)


def test_a_journal_whose_table_is_a_view_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / DATABASE_NAME)
    db.execute("CREATE VIEW points AS SELECT 1")
    db.close()
    with pytest.raises(StoreError):
        Database(tmp_path)


@pytest.mark.parametrize("name", [DATABASE_NAME, f"{DATABASE_NAME}-wal"])
def test_a_linked_journal_is_refused(tmp_path: Path, name: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.touch()
    out.mkdir()
    (out / name).symlink_to(victim)
    with pytest.raises(StoreError, match="is a link"):
        Database(out)
    assert victim.read_bytes() == b""


@pytest.mark.parametrize("name", ["..", "../place", "a/b", "x" * 256])
def test_ids_of_a_table_find_no_folder_outside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "images" / "a").mkdir(parents=True)
    shutil.copytree(V0_1 / "places/images", tmp_path / "place")
    assert find_views_folder(root, name) is None
    assert find_place(root, name) is None

    (root / "data.csv").write_text(f"uuid,latitude,longitude\n{name},45,15\n")
    with pytest.raises(DataError, match="must be the plain name of a folder"):
        read_place_table(root / "data.csv", Findings({}))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return shutil.copytree(V0_1 / "store", tmp_path / "store")


def change_manifest(store: Path, **changed: object) -> None:
    manifest = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(manifest | changed))


def test_a_store_of_version_0_1_opens(store: Path) -> None:
    opened = Store.open(store)
    image = opened.specs[0]
    assert (
        len(opened.table()) == len(opened.digests()) == len(opened.sums(image)) == len(opened.thumbnails()) == 24
    )
    assert opened.views(image).gather(np.arange(24)).shape == (24, 4, 3, 56, 56)


@pytest.mark.parametrize("key", ["table", "facts", "thumbnails"])
@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", 7, None, ["x"]])
def test_a_manifest_names_no_file_outside(store: Path, key: str, name: object) -> None:
    change_manifest(store, **{key: name})
    with pytest.raises(StoreError, match=r"store\.json is not the manifest of a store"):
        Store.open(store)


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"../outside": 3}},
        {"files": {"places.parquet": -1}},
        {"files": ["x"]},
        {"images": {"../..": {"size": 56, "fit": "crop", "shards": ["x"]}}},
        {"images": {"px56-crop": {"size": 56, "fit": "crop", "shards": ["../x"]}}},
        {"images": {"px56-crop": {"size": 10**9, "fit": "crop", "shards": ["x"]}}},
        {"images": {"px56-crop": {"size": 56, "fit": "../crop", "shards": ["x"]}}},
        {"images": {"px56-crop": {"size": 56}}},
        {"images": {"px56-crop": 7}},
        {"images": 7},
        {"shard_places": [10**30]},
        {"shard_places": ["24"]},
        {"format": "x"},
        {"format": 10**400},
        {"format": 1e999},
    ],
)
def test_a_manifest_of_other_names_and_sizes_is_refused(store: Path, changed: dict[str, object]) -> None:
    change_manifest(store, **changed)
    with pytest.raises(StoreError):
        read_manifest(store)
    for text in ("[" * 10**5, "7", '"x"', "null", '{"format": 1}'):
        (store / "store.json").write_text(text)
        with pytest.raises(StoreError):
            read_manifest(store)


@pytest.mark.parametrize("kind", ["table", "facts", "thumbnails", "shard", "views"])
def test_a_store_reads_nothing_through_links(store: Path, kind: str) -> None:
    manifest = read_manifest(store)
    shard = f"views/px56-crop/{manifest['images']['px56-crop']['shards'][0]}.bin"
    file = store / {"shard": shard, "views": "views"}.get(kind, manifest.get(kind, ""))
    outside = store.parent / "outside"
    shutil.move(file, outside)
    file.symlink_to(outside)
    with pytest.raises(DataError, match="must not lead out"):
        Store.open(store)


@pytest.mark.parametrize(
    ("column", "value"),
    [("slot", 24), ("slot", -1), ("shard", 1), ("shard", 2**40), ("uuid", "../x"), ("uuid", "a/b"), ("uuid", "")],
)
def test_a_table_of_a_store_names_places_of_its_shards(store: Path, column: str, value: object) -> None:
    manifest = read_manifest(store)
    table = pd.read_parquet(store / manifest["table"])
    table.loc[3, column] = value
    table.to_parquet(store / manifest["table"])
    change_manifest(store, files={manifest["table"]: (store / manifest["table"]).stat().st_size})
    with pytest.raises(StoreError):
        Store.open(store).table()


def test_arrays_of_a_store_have_a_row_per_place(store: Path) -> None:
    manifest = read_manifest(store)
    np.savez(store / manifest["facts"], digests=np.zeros((5, 4, 2), np.uint64), **{"sums px56-crop": np.zeros(3)})
    np.save(store / manifest["thumbnails"], np.zeros((5, 4, 3, 8, 8), np.uint8))
    change_manifest(store, files={})
    opened = Store.open(store)
    for read in (opened.digests, opened.thumbnails, lambda: opened.sums(opened.specs[0])):
        with pytest.raises(StoreError, match="cannot be read"):
            read()


@pytest.mark.parametrize("linked", ["views", "views/px56-crop"])
def test_prepare_packs_nothing_through_links(tmp_path: Path, linked: str) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / linked).parent.mkdir(parents=True)
    outside.mkdir()
    (out / linked).symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        pack_shards(out, [], [], [], [ImageSpec(size=56)])
    assert not list(outside.iterdir())


def test_a_job_of_a_sweep_is_a_folder_of_it(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.record("good", "running", number=0, overrides=[])
    record = {"job": "../../outside", "outcome": "running", "number": 1, "overrides": []}
    (sweep._outcome_folder / "evil.json").write_text(json.dumps(record))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/.lock").touch()
    assert [outcome["job"] for outcome in sweep.outcomes()] == ["good"]


def test_errors_are_the_users(tmp_path: Path) -> None:
    assert issubclass(DataError, GeoguesserError)
    with pytest.raises(DataError):
        get_view_path(tmp_path, "..", 0)


def test_a_panorama_may_have_the_name_of_a_file_that_is_written(tmp_path: Path):
    from geoguesser.collecting.photos.cut_panoramas import _name_view_folders

    paths = [tmp_path / name for name in ("settings.json.jpg", "skipped.csv.png", "a\x1b.jpg")]
    assert list(_name_view_folders(tmp_path, paths)) == ["settings.json_", "skipped.csv_", "a\ufffd"]


def test_photos_behind_links_out_of_the_folder_are_not_imported(tmp_path: Path):
    from geoguesser.collecting.photos.writer import list_photos

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "private.jpg").touch()
    (tmp_path / "photos" / "b.jpg").symlink_to(tmp_path / "private.jpg")
    (tmp_path / "photos" / "c.jpg").symlink_to("a.jpg")
    listed = list_photos(tmp_path / "photos", tmp_path / "out", "photos.folder")
    assert [path.name for path in listed] == ["a.jpg", "c.jpg"]
