"""Preparation of a store: content, findings, updates and failures."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.pictures import encode_image, make_picture
from support.place_roots import LAND, make_coords, make_places_data, write_csv, write_root, write_views

from geoguesser.data.augment import Augment
from geoguesser.data.images import ImageSpec
from geoguesser.data.prepare import lock_store, prepare_store
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.sources.store import StoreDataModule
from geoguesser.data.splits import ColumnSplit, FolderSplit, RandomSplit, StoredSplit
from geoguesser.data.store import shards as packing
from geoguesser.data.store.reader import Store, is_store
from geoguesser.data.store.reader import count_place_bytes as place_bytes
from geoguesser.errors import ConfigError, DataError, MissingFileError, StoreError
from geoguesser.geo.region import country
from geoguesser.system.files import Replacement

SPEC = ImageSpec(size=24)
IDS = [f"place {at}" for at in range(30)]


def source(roots: list[Path], **options: Any) -> PlacesDataModule:
    return make_places_data(roots, **{"image": SPEC, **options})


def stored(folder: Path, **options: Any) -> StoreDataModule:
    defaults = {"region": LAND, "image": SPEC, "split": StoredSplit(), "augment": Augment(), "batch_size": 4}
    return StoreDataModule(path=str(folder), **{**defaults, **options})


def put_scenes(folder: Path, seed: int) -> None:
    """Four views of a look of their own; the ramps of `write_views` all look alike."""
    folder.mkdir(parents=True)
    for number, heading in enumerate((0, 90, 180, 270)):
        picture = make_picture(100 * seed + number, 48, 48)
        (folder / f"{heading}.jpg").write_bytes(encode_image(picture, quality=92))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def check_same_store(store: Path, before: dict[str, bytes]) -> None:
    now = files(store)
    assert {key: now[key] for key in before} == before


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 places of small colour ramps; nobody changes them."""
    return write_root(tmp_path_factory.mktemp("root"), IDS, columns={"town": [f"t{at % 3}" for at in range(30)]})


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards, so that what concerns their borders shows."""
    monkeypatch.setattr(packing, "SHARD_PLACES", 8)


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Path:
    prepare_store(source([root]), [SPEC], tmp_path / "store")
    return tmp_path / "store"


# What a store holds


def check_same_data(fresh: PlacesDataModule, ready: StoreDataModule) -> None:
    """Checks table, mask, thumbnails, statistics, fingerprint and batches of files and of a store."""
    for data in (fresh, ready):
        data.read_views()
    for column in ("uuid", "split"):
        assert ready.table[column].tolist() == fresh.table[column].tolist()
    np.testing.assert_array_equal(ready.coords_deg, fresh.coords_deg)
    assert torch.equal(ready.mask, fresh.mask)
    np.testing.assert_array_equal(ready.thumbnails, fresh.thumbnails)
    np.testing.assert_allclose(ready.pixel_stats(), fresh.pixel_stats(), rtol=1e-12)
    assert ready.fingerprint() == fresh.fingerprint()
    for name in ("train", "val", "test", "all"):
        for here, there in zip(ready.loader(name, shuffle=True), fresh.loader(name, shuffle=True), strict=True):
            assert all(torch.equal(*pair) for pair in zip(here, there, strict=True))


def test_a_store_serves_what_the_files_serve(root: Path, store: Path) -> None:
    fresh, ready = source([root], batch_size=4), stored(store)
    check_same_data(fresh, ready)
    assert ready.table["uuid"].tolist() == IDS
    assert ready.table["town"].tolist() == fresh.table["town"].tolist()


def test_shards_are_bare_bytes_that_anybody_can_map(root: Path, store: Path) -> None:
    manifest = json.loads((store / "store.json").read_text())
    assert manifest["shard_places"] == [8, 8, 8, 6]
    table = pd.read_parquet(store / manifest["table"])
    assert {"uuid", "latitude", "longitude", "store_split", "source", "shard", "slot", "town"} <= set(table)
    assert {f"view_{heading}" for heading in (0, 90, 180, 270)} <= set(table)
    assert set(table["source"]) == {root.name}
    assert not [column for column in table if str(root) in "".join(table[column].astype(str))]  # no paths
    assert str(root) not in json.dumps(manifest)
    for at in (0, 7, 8, 29):
        shard = manifest["images"]["px24-crop"]["shards"][table["shard"][at]]
        raw = np.fromfile(store / f"views/px24-crop/{shard}.bin", np.uint8).reshape(-1, 4, 3, 24, 24)
        for number, heading in enumerate((0, 90, 180, 270)):
            view = SPEC.read(root / f"images/{IDS[at]}/{heading}.jpg")
            np.testing.assert_array_equal(raw[table["slot"][at], number], view)


def test_another_split_than_the_recorded_one_may_be_chosen(store: Path) -> None:
    other = stored(store, split=RandomSplit(shares=[0.4, 0.3, 0.3], seed=5))
    own = stored(store)
    for data in (other, own):
        data.read_views()
    assert other.table["split"].tolist() == RandomSplit(shares=[0.4, 0.3, 0.3], seed=5).assign(own.table).tolist()
    assert other.table["split"].tolist() != own.table["split"].tolist()
    pixels = other.views.gather(other.rows["train"]).numpy() / 255.0
    np.testing.assert_allclose(other.pixel_stats()[0], pixels.mean((0, 1, 3, 4)), rtol=1e-9)


def test_a_column_split_of_the_users_survives_the_store(tmp_path: Path) -> None:
    words = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    root = write_root(tmp_path / "root", IDS[:10], columns={"split": words})
    prepare_store(source([root], split=ColumnSplit()), [SPEC], tmp_path / "store")
    for split in (StoredSplit(), ColumnSplit()):
        data = stored(tmp_path / "store", split=split)
        data.read_table()
        assert data.table["split"].tolist() == words


def test_places_far_from_another_region_are_told(store: Path) -> None:
    with pytest.raises(DataError, match=r"\(30 far_outside\):\n.*km from region Portugal"):
        stored(store, region=country("PRT")).read_table()


def test_splits_that_other_sources_record_are_refused(root: Path, store: Path) -> None:
    with pytest.raises(ConfigError, match="split must not be store"):
        source([root], split=StoredSplit()).read_table()
    with pytest.raises(ConfigError, match="split must not be folders for a store"):
        stored(store, split=FolderSplit()).read_table()


# What is found on the way


@pytest.fixture
def planted(tmp_path: Path) -> list[Path]:
    """Two roots with one finding of nearly every kind; the good places are g0 to g19."""
    first, second = tmp_path / "first", tmp_path / "second"
    coords = make_coords(60).tolist()
    rows: dict[str, list[Any]] = {}
    ids = [*(f"g{at}" for at in range(20)), "broken", "cut", "tiny", "grey", "lacks", "mode", "turned", "long"]
    ids += ["pano1", "pano2", "bytes", "near", "spot", "again"]
    for at, one in enumerate(ids):
        put_scenes(first / "images" / one, at)
        rows[one] = [one, *coords[at], ""]
    put = lambda one, heading, data: (first / "images" / one / f"{heading}.jpg").write_bytes(data)  # noqa: E731
    put("broken", 0, b"<html>")
    put("cut", 90, encode_image(make_picture(1, 48, 48))[:-40])
    put("tiny", 180, encode_image(make_picture(1, 8, 8)))
    put("grey", 270, encode_image(Image.new("RGB", (48, 48), (228, 227, 223))))
    (first / "images/lacks/90.jpg").unlink()
    put("mode", 0, encode_image(make_picture(77, 48, 48).convert("CMYK")))
    exif = Image.Exif()
    exif[0x0112] = 8
    put("turned", 0, encode_image(make_picture(78, 48, 48), exif=exif))
    put("long", 0, encode_image(make_picture(79, 48, 120)))
    rows["pano1"][3] = rows["pano2"][3] = "CAoSLEFGMVFpcE"
    shutil.copy(first / "images/g3/0.jpg", first / "images/bytes/180.jpg")
    for heading in (0, 90, 180, 270):  # g4 coded anew, 20 m to the north
        image = Image.open(first / f"images/g4/{heading}.jpg")
        put("near", heading, encode_image(image, quality=60))
    rows["near"][1:3] = [rows["g4"][1] + 0.00018, rows["g4"][2]]
    rows["spot"][1:3] = rows["g5"][1:3]
    shutil.copy(first / "images/again/0.jpg", first / "images/again/90.jpg")
    header = ("uuid", "latitude", "longitude", "panorama_id")
    extra = [["nan", "x", 16, ""], ["range", 95, 16, ""], ["swapped", 16.0, 140.5, ""], ["far", -33.0, 151.0, ""]]
    write_csv(first / "data.csv", [*rows.values(), *extra], header)
    for one in ("far", "swapped"):
        write_views(first / "images" / one, one)
    write_root(second, ["g0", "more"], seed=1)
    return [first, second]


EXPECTED = {  # kind -> the places or files that it names
    "bad_row": ["data.csv row 36", "data.csv row 37"],
    "far_outside": ["data.csv row 38", "data.csv row 39"],
    "duplicate_id": ["second/data.csv row 2"],
    "missing_view": ["images/lacks"],
    "broken_image": ["broken/0.jpg", "cut/90.jpg"],
    "placeholder_image": ["tiny/180.jpg", "grey/270.jpg"],
    "unusual_mode": ["mode/0.jpg"],
    "turned_image": ["turned/0.jpg"],
    "odd_aspect": ["long/0.jpg"],
    "duplicate_panorama": ["(pano2)"],
    "identical_image": ["(bytes)"],
    "near_duplicate": ["(near)"],
    "same_coordinates": ["(spot)"],
    "repeated_view": ["(again)"],
}
MISTAKES = ("bad_row", "far_outside", "duplicate_id", "missing_view", "broken_image")


def check_planted(table: pd.DataFrame) -> None:
    for kind, wanted in EXPECTED.items():
        own = table[table["kind"] == kind]
        prepared = (own["where"] + " " + own["reason"]).tolist()
        assert len(prepared) == len(wanted), (kind, prepared)
        assert all(any(word in line for line in prepared) for word in wanted), (kind, prepared)
    assert set(table["kind"]) == set(EXPECTED)


def test_one_look_finds_everything_that_was_planted(planted: list[Path], tmp_path: Path) -> None:
    data = source(planted)
    with pytest.raises(DataError) as caught:
        prepare_store(data, [SPEC], None)
    counts = "(2 bad_row, 1 missing_view, 1 duplicate_id, 2 far_outside, 2 broken_image)"
    assert counts in str(caught.value).splitlines()[0]
    table = data.findings.to_table()
    check_planted(table)
    actions = dict(zip(table["kind"], table["action"], strict=True))
    assert all(actions[kind] == "error" for kind in MISTAKES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]  # nothing was written


def test_what_is_skipped_is_left_out_and_the_rest_is_in(planted: list[Path], tmp_path: Path) -> None:
    data = source(planted, on_bad=dict.fromkeys(MISTAKES, "skip"))
    prepared = prepare_store(data, [SPEC], tmp_path / "store")
    check_planted(data.findings.to_table())
    good = [f"g{at}" for at in range(20)]
    assert prepared.table["uuid"].tolist() == [*good, "mode", "turned", "long", "pano1", "spot", "again", "more"]
    assert prepared.mask.all()
    fresh = source(planted, on_bad=dict.fromkeys(MISTAKES, "skip"), batch_size=4)
    ready = stored(tmp_path / "store")
    check_same_data(fresh, ready)
    check_planted(fresh.findings.to_table())
    splits = dict(zip(ready.table["uuid"], ready.table["split"], strict=True))
    assert splits["spot"] == splits["g5"]  # the same coordinates, the same side


def test_masked_views_stay_out_and_their_places_in(planted: list[Path], tmp_path: Path) -> None:
    skip = {kind: "skip" for kind in MISTAKES if kind != "missing_view"}
    options = {"missing_views": "mask", "on_bad": skip}
    data = source(planted, **options)
    prepared = prepare_store(data, [SPEC], tmp_path / "store")
    check_planted(data.findings.to_table())
    masked = {"broken": 0, "cut": 1, "tiny": 2, "grey": 3, "lacks": 1}
    names = prepared.table["uuid"].tolist()
    for name, heading in masked.items():
        assert prepared.mask[names.index(name)].tolist() == [at != heading for at in range(4)]
    assert (~prepared.mask).sum() == 5
    check_same_data(source(planted, **options, batch_size=4), stored(tmp_path / "store"))


# Again: what is new comes in, and nobody moves


def write_more(tmp_path: Path) -> Path:
    return write_root(tmp_path / "more", [f"new {at}" for at in range(20)], seed=1)


def test_the_same_again_changes_nothing_and_packs_nothing(root: Path, store: Path) -> None:
    before = files(store)
    again = prepare_store(source([root]), [SPEC], store)
    assert (again.changed, again.num_reused, again.num_recorded) == (False, 30, 30)
    assert files(store) == before


def test_new_places_come_in_and_old_ones_keep_their_split(root: Path, store: Path, tmp_path: Path) -> None:
    old = Store.open(store).table()
    other = RandomSplit(shares=[0.2, 0.4, 0.4], seed=9)
    more = write_more(tmp_path)
    prepared = prepare_store(source([root, more], split=other), [SPEC], store)
    # The fourth shard contains new places.
    assert (prepared.changed, prepared.num_recorded, prepared.num_reused) == (True, 30, 24)
    table = Store.open(store).table()
    assert table["store_split"][:30].tolist() == old["store_split"].tolist()
    expected = other.assign(table)
    assert table["store_split"][30:].tolist() == expected[30:].tolist()
    assert len(list((store / "views/px24-crop").glob("*.bin"))) == 7
    names = {path.name for path in store.iterdir()}
    assert len([name for name in names if name.startswith("places-")]) == 1  # the old table is gone


def test_a_new_place_that_bridges_two_splits_is_reported(root: Path, store: Path, tmp_path: Path) -> None:
    old = Store.open(store).table().set_index("uuid")["store_split"]
    a = next(one for one in IDS if old[one] == "train")
    b = next(one for one in IDS if old[one] == "test")
    for one in ("spot a", "spot b"):
        put_scenes(tmp_path / f"more/images/{one}", 7)  # one look for both, byte for byte
    coords = make_coords(30).tolist()
    rows = [["spot a", *coords[IDS.index(a)]], ["spot b", *coords[IDS.index(b)]]]
    write_csv(tmp_path / "more/data.csv", rows)
    shutil.copytree(store, tmp_path / "second")
    keep = {"identical_image": "keep"}
    data = source([root, tmp_path / "more"], on_bad=keep)
    prepared = prepare_store(data, [SPEC], store)
    splits = prepared.table.set_index("uuid")["split"]
    assert [splits[one] for one in (a, b, "spot a", "spot b")] == ["train", "test", "unused", "unused"]
    bridges = [one.reason for one in data.findings.kept if one.kind == "split_bridge"]
    assert [reason.split()[1] for reason in bridges if "spot" in reason] == ["a)", "b)"]
    data = source([root, tmp_path / "more"], on_bad={**keep, "split_bridge": "error"})
    with pytest.raises(DataError, match="3 split_bridge"):
        prepare_store(data, [SPEC], tmp_path / "second")


def test_places_that_have_gone_are_an_error_unless_skipped(root: Path, store: Path, tmp_path: Path) -> None:
    before = files(store)
    part = write_root(tmp_path / "part", IDS[:20])
    with pytest.raises(DataError, match=r"\(10 gone\):\n  gone: .*place 20 is in the store"):
        prepare_store(source([part]), [SPEC], store)
    check_same_store(store, before)
    prepared = prepare_store(source([part], on_bad={"gone": "skip"}), [SPEC], store)
    assert len(prepared.table) == len(Store.open(store).table()) == 20


def test_sizes_of_an_old_store_are_kept_up(root: Path, store: Path, tmp_path: Path) -> None:
    more = write_more(tmp_path)
    prepared = prepare_store(source([root, more]), [ImageSpec(size=32)], store)
    assert [spec.size for spec in prepared.specs] == [32, 24]
    held = Store.open(store)
    for spec in (SPEC, ImageSpec(size=32)):
        view = held.views(spec).gather(np.array([45]))[0, 2]
        np.testing.assert_array_equal(view, spec.read(more / "images/new 15/180.jpg"))


def test_a_file_that_changed_is_packed_anew(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", IDS)
    prepare_store(source([root]), [SPEC], tmp_path / "store")
    image = root / "images" / IDS[10] / "90.jpg"
    image.write_bytes(encode_image(make_picture(3, 24, 24)))
    os.utime(image, ns=(1, 1))
    prepared = prepare_store(source([root]), [SPEC], tmp_path / "store")
    assert prepared.num_reused == 22
    views = Store.open(tmp_path / "store").views(SPEC).gather(np.array([10]))
    np.testing.assert_array_equal(views[0, 1], SPEC.read(image))


# What goes wrong


def test_a_full_disk_is_told_first(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=2**24 + 30 * place_bytes(24) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(StoreError, match=r"out=.* needs 0\.02 GiB of disk space, but only 0\.02 GiB"):
        prepare_store(source([root]), [SPEC], tmp_path / "store")
    assert not is_store(tmp_path / "store")
    free.free += 1
    prepare_store(source([root]), [SPEC], tmp_path / "store")


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Choose a folder")])
def test_a_disk_that_cannot_be_written(
    code: int, remedy: str, root: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old store stays, and once the disk can be written the same command goes on."""
    before, roots = files(store), [root, write_more(tmp_path)]

    def fail(replacement: Replacement) -> None:
        raise OSError(code, "no more")

    with monkeypatch.context() as patch:
        patch.setattr(Replacement, "commit", fail)
        with pytest.raises(StoreError, match=rf"cannot be written \(no more\)\. {remedy}"):
            prepare_store(source(roots), [SPEC], store)
    check_same_store(store, before)

    assert len(prepare_store(source(roots), [SPEC], store).table) == 50
    assert not list(store.rglob("*.part"))


def test_a_root_that_vanishes_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shards are kept; when the root is back, the rest is packed."""
    root = write_root(tmp_path / "root", IDS)
    real, done = packing.inspect_in_order, [0]

    def vanishing(places: Any, specs: Any) -> Any:
        if done[0] == 2:
            root.rename(tmp_path / "away")
        done[0] += 1
        return real(places, specs)

    monkeypatch.setattr(packing, "inspect_in_order", vanishing)
    with pytest.raises(MissingFileError, match=rf"data\.roots {root} disappeared"):
        prepare_store(source([root]), [SPEC], tmp_path / "store")
    assert not is_store(tmp_path / "store")
    assert not list(tmp_path.glob("store/**/*.part"))
    (tmp_path / "away").rename(root)
    monkeypatch.setattr(packing, "inspect_in_order", real)
    prepared = prepare_store(source([root]), [SPEC], tmp_path / "store")
    assert prepared.num_reused == 16
    assert len(prepared.table) == 30


def test_an_unreadable_file_is_tried_again_next_time(tmp_path: Path) -> None:
    """What an operating system refuses today it may give tomorrow; what is broken stays broken."""
    root = write_root(tmp_path / "root", IDS)
    data = source([root], on_bad={"broken_image": "skip"})
    table = data.read_places()
    gone = root / "images" / IDS[3] / "0.jpg"
    kept = gone.read_bytes()
    stamp = gone.stat().st_mtime_ns
    gone.unlink()
    data.read_places = lambda: table  # type: ignore[method-assign]  # the file went after the folder was read
    assert len(prepare_store(data, [SPEC], tmp_path / "store").table) == 29
    gone.write_bytes(kept)
    os.utime(gone, ns=(stamp, stamp))
    prepared = prepare_store(source([root]), [SPEC], tmp_path / "store")
    assert len(prepared.table) == 30
    assert prepared.num_reused == 22


def test_two_at_once_are_refused(root: Path, store: Path) -> None:
    before = files(store)
    with lock_store(store), pytest.raises(StoreError, match=r"is being written by another process\. Wait for it"):
        prepare_store(source([root]), [SPEC], store)
    check_same_store(store, before)
    prepare_store(source([root]), [SPEC], store)


@pytest.mark.parametrize("damaged", ["shard", "facts", "thumbnails", "table"])
def test_a_damaged_store_is_refused_and_mended_by_preparing_again(damaged: str, root: Path, store: Path) -> None:
    before = files(store)
    manifest = json.loads((store / "store.json").read_text())
    shard = manifest["images"]["px24-crop"]["shards"][2]
    name = f"views/px24-crop/{shard}.bin" if damaged == "shard" else manifest[damaged]
    (store / name).write_bytes(before[name][:-3])
    with pytest.raises(StoreError, match=rf"{name} must have {len(before[name]):,} bytes.*Prepare it again"):
        Store.open(store)
    if damaged == "table":
        with pytest.raises(StoreError, match=r"parquet cannot be read \(.*Its recorded splits are lost"):
            prepare_store(source([root]), [SPEC], store)
        return
    if damaged == "facts":
        with pytest.raises(StoreError, match=r"npz cannot be read \(.*Prepare it again"):
            Store(store, manifest).digests()

    prepared = prepare_store(source([root]), [SPEC], store)
    assert prepared.num_reused == (22 if damaged == "shard" else 30)
    Store.open(store)
    del before["store.json"]
    check_same_store(store, before)
    (store / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} must have"):
        Store.open(store)


def test_a_folder_of_other_things_is_no_place_for_a_store(root: Path, tmp_path: Path) -> None:
    """Nothing in it is touched, whatever its name; nor in the folder of a store."""
    mine = ("places-2024.parquet", "movie.part", "thumbnails-old.npy", "views/holiday/a.bin", "facts-of-life.npz")
    for folder in (tmp_path / "mine", tmp_path / "store"):
        if folder.name == "store":
            prepare_store(source([root]), [SPEC], folder)
        for name in mine:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    with pytest.raises(StoreError, match=r"mine must be a store, or .* got \['facts-of-life.npz', 'movie.part', "):
        prepare_store(source([root]), [SPEC], tmp_path / "mine")
    prepare_store(source([root]), [SPEC, ImageSpec(size=16)], tmp_path / "store")
    for folder in (tmp_path / "mine", tmp_path / "store"):
        assert {name: (folder / name).read_text() for name in mine} == {name: name for name in mine}


def test_columns_of_the_users_are_kept_whatever_their_names(tmp_path: Path) -> None:
    names = ("source", "shard", "slot", "same_as", "store_split", "view_0", "town")
    columns = {name: [f"{name} {at}" for at in range(30)] for name in names}
    for place in ("x", "y"):
        ids = [f"{place}{at}" for at in range(30)]
        write_root(tmp_path / place / "data", ids, columns=columns, seed=ord(place))
    prepare_store(source([tmp_path / "x/data", tmp_path / "y/data"]), [SPEC], tmp_path / "store")
    table = Store.open(tmp_path / "store").table()
    for name in names[:-1]:
        assert table[f"own_{name}"].tolist() == columns[name] * 2
    assert table["town"].tolist() == columns["town"] * 2
    assert table["source"].tolist() == ["x/data"] * 30 + ["y/data"] * 30


@pytest.mark.parametrize("order", [[24, 224], [224, 24]])
def test_the_order_of_sizes_does_not_choose_places(order: list[int], root: Path, tmp_path: Path) -> None:
    for size in order:
        data = source([root])
        prepared = prepare_store(data, [ImageSpec(size=size)], tmp_path / "store")
        assert len(prepared.table) == 30
    noted = [one for one in data.findings.kept if one.kind == "small_image"]
    assert len(noted) == 120
    assert noted[0].reason == "is 24 x 24 pixels, for views of 224"
    assert noted[0].where == f"{root}/data.csv row 2, heading 0"


def test_bridges_of_a_given_split_are_told_each_and_left_out_where_asked(tmp_path: Path) -> None:
    words = ["train"] * 15 + ["val"] * 5 + ["test"] * 10
    root = write_root(tmp_path / "root", IDS, columns={"split": words})
    table = pd.read_csv(root / "data.csv")
    for row in (20, 21, 16):  # two test places and a validation place where a training place is
        table.loc[row, ["latitude", "longitude"]] = table.loc[0, ["latitude", "longitude"]].to_numpy()
        shutil.rmtree(root / "images" / IDS[row])
        put_scenes(root / "images" / IDS[row], row)
    table.to_csv(root / "data.csv", index=False)
    for on_bad, unused in ((None, []), ({"split_bridge": "skip"}, [16, 20, 21])):
        data = source([root], split=ColumnSplit(), on_bad=on_bad)
        prepared = prepare_store(data, [SPEC], tmp_path / f"store-{len(unused)}")
        assert np.flatnonzero(prepared.table["split"] == "unused").tolist() == unused
        found = data.findings.skipped if on_bad else data.findings.kept
        assert len([one for one in found if one.kind == "split_bridge"]) == 3
        fresh = source([root], split=ColumnSplit(), on_bad=on_bad)
        fresh.read_views()
        assert fresh.table["split"].tolist() == prepared.table["split"].tolist()


def test_mistakes_come_before_what_the_split_says_of_the_rest(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", IDS[:10])
    for one in IDS[:8]:
        (root / "images" / one / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"^The data break rules \(8 broken_image\)"):
        prepare_store(source([root]), [SPEC], None)
    skip = {"broken_image": "skip"}
    with pytest.raises(DataError, match=r"must hold at least 3 places.*got 2\. Left out before: 8 broken_image\."):
        prepare_store(source([root], on_bad=skip), [SPEC], None)


def test_a_place_that_was_left_out_has_not_gone(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root", IDS)
    prepare_store(source([root]), [SPEC], tmp_path / "store")
    shutil.rmtree(root / "images" / IDS[4])
    data = source([root], on_bad={"missing_images": "skip"})
    assert len(prepare_store(data, [SPEC], tmp_path / "store").table) == 29
    assert data.findings.count_skipped() == {"missing_images": 1}


def test_looking_beside_a_store_says_what_would_be_added_to_it(root: Path, store: Path, tmp_path: Path) -> None:
    before = files(store)
    other = RandomSplit(shares=[0.2, 0.4, 0.4], seed=9)
    prepared = prepare_store(source([root, write_more(tmp_path)], split=other), [SPEC], None, look=store)
    assert prepared.num_recorded == 30
    assert prepared.table["split"][:30].tolist() == Store.open(store).table()["store_split"].tolist()
    assert files(store) == before


def test_a_fraction_of_a_store_is_that_of_its_files(root: Path, tmp_path: Path) -> None:
    split = RandomSplit(shares=[0.6, 0.2, 0.2], seed=5)
    prepare_store(source([root], split=split), [SPEC], tmp_path / "store")
    fresh = source([root], split=split, fraction=0.5, batch_size=4)
    ready = stored(tmp_path / "store", fraction=0.5)
    check_same_data(fresh, ready)
    assert (fresh.table["split"] == "unused").any()


def test_a_reader_keeps_a_store_that_is_replaced(root: Path, store: Path, tmp_path: Path) -> None:
    data = stored(store)
    prepare_store(source([root, write_more(tmp_path)]), [SPEC], store)
    data.read_views()
    assert len(data.table) == data.fingerprint()["places"] == 30
    assert len(data.pixel_stats()[0]) == 3
    assert len(data.views.gather(np.arange(30))) == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the manifest of a store"),
        ("[]", "is not the manifest of a store"),
        ('{"format": 1}', "is not the manifest of a store (it lacks label, decoder, "),
        ('{"format": 2}', "has format 2; this version reads up to 1. Update geoguesser."),
    ],
)
def test_manifests_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=re.escape(message)):
        Store.open(tmp_path)


def test_a_folder_without_a_store_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a folder with store\.json\. python -m geoguesser\.prepare"):
        Store.open(tmp_path)


@pytest.mark.parametrize("image", [ImageSpec(size=112), ImageSpec(size=24, fit="squash")])
def test_a_size_that_the_store_has_not_names_those_it_has(image: ImageSpec, store: Path) -> None:
    message = rf"image must be a size .*: image\.size=24 image\.fit=crop, got .*Or .* image\.size={image.size}"
    with pytest.raises(ConfigError, match=message):
        stored(store, image=image)
