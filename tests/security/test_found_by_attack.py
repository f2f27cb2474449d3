"""Files that an attack on an earlier state of the mends found: small, and gigabytes or minutes to read."""

from __future__ import annotations

import pickle
import sqlite3
import struct
import zipfile
from pathlib import Path

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geoguesser.geo.vector_files import read_vector_file
from geoguesser.system.tables import read_csv, read_parquet
from geoguesser.system.tensor_files import load_tensors

ENCODE = b"\x80\x02c_codecs\nencode\nq\x00"


def make_text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


PICKLES = {
    # bytearray(n) before anything is read.
    "bytearray8": b"\x80\x02\x96" + struct.pack("<Q", 6 * 2**30) + b".",
    # Quadratic work of a codec of Python.
    "punycode": ENCODE + make_text("\u4e00" * 1000) + make_text("punycode") + b"\x86R.",
    # Many copies of one text, in torch only.
    "copies": ENCODE + make_text("a" * 2**16) + b"q\x01" + make_text("latin1") + b"q\x02](" +
    500 * b"h\x00h\x01h\x02\x86R" + b"e.",
    # Keys of millions of digits, hashed again each time.
    "long4": b"\x80\x02}\x8b" + struct.pack("<i", 1000) + 1000 * b"\x01" + b"Ns.",
    "memoize": b"\x80\x04}\x94.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_with_what_torch_does_not_write_is_refused(tmp_path: Path, name: str):
    file = tmp_path / "best.ckpt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", PICKLES[name])
        archive.writestr("a/version", "3\n")
    with pytest.raises(ValueError, match=r"^it holds"):
        load_tensors(file)


def test_a_legacy_file_is_refused(tmp_path: Path):
    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(bytearray(10), protocol=2))
    with pytest.raises(ValueError, match=r"no archive of torch 1\.6 or later"):
        load_tensors(file)


def test_a_repeated_column_name_is_refused(tmp_path: Path):
    texts = pa.array(["x" * 1000] * 4000).dictionary_encode()
    pq.write_table(pa.table([texts, ["x"] * 4000], names=["id", "id"]), tmp_path / "a.parquet", store_schema=False)
    with pytest.raises(ValueError, match="name each column once"):
        read_parquet(tmp_path / "a.parquet")


def test_decimals_count_as_the_objects_that_they_become(tmp_path: Path):
    import decimal

    column = pa.array([decimal.Decimal("1.00")], type=pa.decimal128(9, 2)).take(pa.array([0] * 2_000_000))
    pq.write_table(pa.table({"a": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="in memory for its size"):
        read_parquet(tmp_path / "a.parquet")


@pytest.mark.parametrize("start", ["", " \n \n"])
def test_rows_that_are_filled_up_are_counted(tmp_path: Path, start: str):
    file = tmp_path / "a.csv"
    file.write_text(start + ",".join(f"c{number}" for number in range(1000)) + "\n" + "1\n" * 100_000)
    with pytest.raises(ValueError, match="in memory for its size"):
        read_csv(file)
    file.write_text(start + "," * 2000 + "\n1\n")
    with pytest.raises(ValueError, match="at most 1,000 columns"):
        read_csv(file)


def test_a_geopackage_with_computed_columns_is_refused(tmp_path: Path):
    file = tmp_path / "a.gpkg"
    land = geopandas.GeoSeries([shapely.box(15, 45, 16, 46)], crs=4326)
    land.to_frame("geom").to_file(file, layer="land", driver="GPKG")
    assert len(read_vector_file(file).geometries) == 1

    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE more (id INTEGER, geom BLOB AS (zeroblob(900000000)))")
        db.execute("INSERT INTO more (id) VALUES (1)")
        db.execute("UPDATE gpkg_geometry_columns SET table_name = 'more'")
        db.execute("UPDATE gpkg_contents SET table_name = 'more', identifier = 'more'")
    with pytest.raises(ValueError, match="must be a plain table"):
        read_vector_file(file)


def test_an_index_that_names_a_record_twice_is_refused(tmp_path: Path):
    file = tmp_path / "a.shp"
    geopandas.GeoSeries([shapely.box(15, 45, 16, 46)], crs=4326).to_frame("geometry").to_file(file)
    index = file.with_suffix(".shx")
    data = bytearray(index.read_bytes() + 50 * index.read_bytes()[100:])
    data[24:28] = struct.pack(">i", len(data) // 2)
    index.write_bytes(data)
    with pytest.raises(ValueError, match="names a record twice"):
        read_vector_file(file)
