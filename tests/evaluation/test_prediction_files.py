"""Tables of coordinates: recognised columns, checked units, matched places, errors that name the cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.evaluation.prediction_files import (
    PREDICTED_WORDS,
    TRUE_WORDS,
    ColumnNames,
    check_units,
    match_rows,
    read_coordinates,
)

PREDICTED, TRUE = ColumnNames("columns", PREDICTED_WORDS), ColumnNames("truth_columns", TRUE_WORDS)
POINT = ["latitude", "longitude"]
PLACES = pd.DataFrame({"uuid": ["a", "b", "c"], "latitude": [45.0, 45.5, 43.5], "longitude": [16.0, 18.0, 16.4]})


def write(table: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(
    "names",
    [
        ("ID", "Lat", "Lng"),
        ("image id", "Predicted Latitude", "predicted-longitude"),
        ("filename", "lat_pred", "lon_pred"),
    ],
)
def test_columns_are_recognised_by_name(names: tuple[str, ...], suffix: str, tmp_path: Path):
    file = write(PLACES.set_axis(names, axis=1).assign(score=1.0), tmp_path / f"p{suffix}")
    points = read_coordinates(file, "predictions", PREDICTED)
    assert points["uuid"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(points[POINT], PLACES[POINT])


def test_marked_names_and_given_names_come_first(tmp_path: Path):
    file = write(PLACES.assign(true_latitude=1.0, true_longitude=2.0, y=3.0), tmp_path / "p.csv")
    given = ColumnNames("columns", PREDICTED_WORDS, latitude="y")
    for columns, expected in ((TRUE, [1.0] * 3), (PREDICTED, [45.0, 45.5, 43.5]), (given, [3.0] * 3)):
        assert read_coordinates(file, "predictions", columns)["latitude"].tolist() == expected


def test_given_columns_must_exist(tmp_path: Path):
    file = write(PLACES, tmp_path / "p.csv")
    with pytest.raises(ConfigError, match=r"^columns\.latitude must be a column of .*, got 'z'"):
        read_coordinates(file, "predictions", ColumnNames("columns", PREDICTED_WORDS, latitude="z"))
    with pytest.raises(DataError, match=r"has no column for true latitude.*truth_columns\.latitude=COLUMN"):
        read_coordinates(file, "truth", ColumnNames("truth_columns", TRUE_WORDS, marked=True))


def test_radians_are_converted(tmp_path: Path):
    file = write(PLACES.assign(**np.radians(PLACES[POINT])), tmp_path / "p.csv")
    points = read_coordinates(file, "predictions", PREDICTED, "radians")
    np.testing.assert_allclose(points[POINT], PLACES[POINT])


def test_blank_predictions_are_left_out(tmp_path: Path):
    file = tmp_path / "p.csv"
    file.write_text("uuid,latitude,longitude\na,45,16\nb,,\nc, ,\n")
    assert read_coordinates(file, "predictions", PREDICTED, blank=True)["uuid"].tolist() == ["a"]
    with pytest.raises(DataError, match="row 3: latitude must be a number"):
        read_coordinates(file, "truth", TRUE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid,latitude,longitude\na,45,16\nb,x,16\n", r"row 3: latitude must be a number \(1 are not\), got 'x'"),
        ("uuid,latitude,longitude\na,95,16\n", r"row 2: latitude must be within 90 degrees .*swapped"),
        ("uuid,latitude,longitude\na,45,181\n", "row 2: longitude must be within 180 degrees"),
        ("uuid,latitude,longitude\na,451234567,16\n", "metres or millionths"),
        ("uuid,latitude,longitude\na,45,16\na,45,16\n", "row 3: uuid must be unique, got 'a'"),
        ("uuid,latitude,longitude\n", "must hold at least one row"),
        ("uuid,latitude\na,45\n", "has no column for predicted longitude"),
        ("uuid,latitude,longitude\na,45,16\n,45,16\n", "row 3: uuid must not be empty"),
        ("uuid;latitude;longitude\na;45;16\n", "must be separated by commas"),
    ],
)
def test_errors_name_row_and_column(text: str, message: str, tmp_path: Path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coordinates(tmp_path / "p.csv", "predictions", PREDICTED)


@pytest.mark.parametrize(
    ("name", "units", "error", "message"),
    [
        ("nowhere.csv", "degrees", MissingFileError, r"^predictions=.*nowhere\.csv must be a file"),
        ("p.xls", "degrees", DataError, r"must be one of \.csv, \.tsv, \.parquet, got '\.xls'"),
        ("p.parquet", "degrees", DataError, r"^predictions=.*p\.parquet cannot be read"),
        ("p.xls", "miles", ConfigError, r"^columns\.units must be one of degrees, radians, got 'miles'"),
    ],
)
def test_unreadable_files_are_refused(name: str, units: str, error: type[Exception], message: str, tmp_path: Path):
    for file in ("p.xls", "p.parquet"):
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(error, match=message):
        read_coordinates(tmp_path / name, "predictions", PREDICTED, units)


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(table: pd.DataFrame) -> pd.DataFrame:
        return read_coordinates(write(table, tmp_path / "p.csv"), "predictions", PREDICTED)

    return write_and_read


def test_places_are_matched_by_id_in_the_order_of_the_truth(read):
    moved = PLACES.assign(latitude=PLACES["latitude"] + 0.1, uuid=["c", "x", "a"])
    table, missing, extra = match_rows(read(moved), read(PLACES))
    assert table["uuid"].tolist() == ["a", "c"]
    assert (missing, extra) == (1, 1)
    np.testing.assert_allclose(table["latitude"], [43.6, 45.1])
    np.testing.assert_allclose(table["true_latitude"], [45.0, 43.5])


def test_places_without_ids_are_matched_by_row(read, caplog):
    table, missing, extra = match_rows(read(PLACES[POINT]), read(PLACES[POINT]))
    assert "matched by row" in caplog.text
    assert table["uuid"].tolist() == ["1", "2", "3"]
    assert (missing, extra) == (0, 0)


def test_places_that_cannot_be_matched_are_refused(read):
    with pytest.raises(DataError, match=r"equal numbers of rows.*got '3 and 2'"):
        match_rows(read(PLACES[POINT]), read(PLACES[POINT][:2]))
    with pytest.raises(DataError, match=r"^truth_columns\.id must name the column of ids"):
        match_rows(read(PLACES), read(PLACES[POINT]))
    with pytest.raises(DataError, match="must have ids in common; they begin with 'a' and 'x'"):
        match_rows(read(PLACES), read(PLACES.assign(uuid=["x", "y", "z"])))


def test_ids_that_differ_in_form_are_reported(read, caplog):
    truth = read(PLACES.assign(uuid=["007", "A.jpg", "b"]))
    for ids in (["7", "x", "y"], ["x", "a", "y"], ["7.0", "x", "y"], ["x", "y", "B"]):
        with pytest.raises(DataError, match=r"differ in case, leading zeros, \.0 or a suffix"):
            match_rows(read(PLACES.assign(uuid=ids)), truth)
    table, missing, _ = match_rows(read(PLACES.assign(uuid=["7", "A.jpg", "b"])), truth)
    assert (len(table), missing) == (2, 1)
    assert "1 ids differ only in case" in caplog.text


def test_other_units_and_swapped_columns_are_refused():
    rng = np.random.default_rng(0)
    true = np.stack([rng.uniform(43, 46, 50), rng.uniform(14, 19, 50)], axis=-1)
    near = true + rng.normal(0, 0.3, true.shape)
    with pytest.raises(DataError, match=r"look swapped: .*columns\.latitude"):
        check_units(near[:, ::-1], true)
    with pytest.raises(DataError, match=r"look like radians: .*columns\.units=radians"):
        check_units(np.radians(near), true)

    # Large errors are no reason to refuse, nor are small values in the Gulf of Guinea.
    check_units(near, true)
    check_units(true + 30.0, true)
    check_units(np.array([[0.5, 0.4]]), np.array([[0.6, 0.3]]))
