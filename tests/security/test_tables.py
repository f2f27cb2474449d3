"""Tables from elsewhere take no more memory than their size allows, and end in one clean line."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.collecting.output_tables import read_place_rows
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import read_place_table
from geoguesser.errors import DataError
from geoguesser.evaluation.prediction_files import ColumnNames, read_coordinates
from geoguesser.inference.input_table import read_input_table
from geoguesser.system.tables import read_csv, read_parquet


def refuse_cheaply(path: Path) -> str:
    """Checks that a table of predictions is refused at once and without memory, and returns the message."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(DataError) as caught:
        read_coordinates(path, "predictions", ColumnNames("columns", ("predicted",)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB
    assert time.perf_counter() - began < 20.0
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_repeated_long_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"uuid": texts.cast(pa.dictionary(pa.int32(), pa.string()))}), path)
    assert path.stat().st_size < 400_000
    assert "bytes in memory" in refuse_cheaply(path)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli", "snappy"])
def test_compressed_zeros_are_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"latitude": np.zeros(2**25), "longitude": np.zeros(2**25)})
    pq.write_table(table, path, compression=compression, use_dictionary=False, row_group_size=2**25)
    del table
    # In proportion to its size, snappy's file may be read.
    if compression != "snappy":
        assert "bytes in memory" in refuse_cheaply(path)


def test_repeated_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pq.ParquetWriter(path, pa.schema([("latitude", pa.float64())])) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"latitude": np.zeros(2**20)}))
    assert "bytes in memory" in refuse_cheaply(path)


def test_texts_that_grow_from_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"uuid": ["x" * 200_000 + str(number) for number in range(500)]})
    pq.write_table(table, path, use_dictionary=False, column_encoding={"uuid": "DELTA_BYTE_ARRAY"})
    assert "encoding" in refuse_cheaply(path)


def test_nested_and_wide_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"latitude": pa.array([[1.0] * 10])}), path)
    assert "of numbers and texts" in refuse_cheaply(path)
    pq.write_table(pa.table({f"c{number}": [1] for number in range(1001)}), path)
    assert "at most 1,000 columns" in refuse_cheaply(path)


def test_a_page_that_understates_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"latitude": np.arange(1000.0)}), path, compression="zstd", use_dictionary=False)
    good = path.read_bytes()
    # The second field of the page's header is its size in memory: a varint after the type.
    assert good[4:6] == b"\x15\x00"
    assert good[6] == 0x15
    path.write_bytes(good[:7] + b"\xfe\xff\xff\xff\x0f" + good[12:])
    refuse_cheaply(path)


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_damaged_parquet_is_read_or_refused(position: int, patch: bytes) -> None:
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / f"geoguesser-{os.getpid()}.parquet"
    table = pa.table({"uuid": ["a", "b", "a"], "latitude": [1.0, 2.0, 3.0], "flag": [True, False, None]})
    pq.write_table(table, path)
    data = bytearray(path.read_bytes())
    start = position % len(data)
    data[start : start + len(patch)] = patch
    path.write_bytes(data)
    try:
        read_parquet(path)
    except (ValueError, OSError):
        pass
    finally:
        path.unlink()


def test_a_usual_table_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pd.DataFrame(
        {
            "uuid": [f"id{number}" for number in range(5000)],
            "split": ["train", "val"] * 2500,
            "latitude": np.linspace(40, 50, 5000),
            "count": np.arange(5000, dtype=np.int32),
            "flag": np.arange(5000) % 3 == 0,
            "note": [None, "x"] * 2500,
            "when": pd.date_range("2020-01-01", periods=5000, freq="h"),
        }
    )
    for compression in ("snappy", "zstd", "gzip", None):
        for version in ("1.0", "2.0"):
            table.to_parquet(path, compression=compression, data_page_version=version, index=False)
            pd.testing.assert_frame_equal(read_parquet(path), pd.read_parquet(path))

    # An index of pandas is a column, so that ids in it are found.
    table.set_index("uuid").to_parquet(path)
    assert "uuid" in read_parquet(path)


@pytest.mark.parametrize(
    "text",
    [
        "a," * 2000 + "\n1\n",
        '"\n\n",' + "a," * 2000 + "\n",
        "uuid,latitude\n" + "1," * 10**6 + "\n",
        "x" * 200_000,
    ],
)
def test_a_wide_csv_is_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    refuse_cheaply(path)
    with pytest.raises(DataError):
        read_place_table(path, Findings({}))
    with pytest.raises(DataError):
        read_input_table(path, None)


def test_a_pipe_and_a_device_are_no_tables(tmp_path: Path) -> None:
    pipe = tmp_path / "p.csv"
    os.mkfifo(pipe)
    for read in (read_csv, read_parquet, lambda path: list(read_place_rows(path, "x"))):
        for path in (pipe, Path("/dev/zero")):
            with pytest.raises((ValueError, OSError)):
                read(path)


def test_a_csv_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('uuid,latitude,note\n007,45.5,"a\nb"\nNA,46,ü\n\n', encoding="utf-8")
    for options in ({}, {"dtype": str}, {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}):
        pd.testing.assert_frame_equal(read_csv(path, **options), pd.read_csv(path, **options))
    path.write_bytes(b"uuid\n\xff\n")
    with pytest.raises(ValueError, match="utf-8"):
        read_csv(path)
