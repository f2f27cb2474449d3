"""Coordinate table: columns by name, units checked, places matched; what is wrong is named."""

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

OWN = ColumnNames("columns", PREDICTED_WORDS)
PLACES = pd.DataFrame({"uuid": ["a", "b", "c"], "latitude": [45.0, 45.5, 43.5], "longitude": [16.0, 18.0, 16.4]})


def written(table: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(
    "names",
    [
        ("uuid", "latitude", "longitude"),
        ("ID", "Lat", "Lng"),
        ("image id", "Predicted Latitude", "predicted-longitude"),
        ("filename", "lat_pred", "lon_pred"),
    ],
)
def test_columns_are_found_by_name(names, suffix: str, tmp_path: Path):
    file = written(PLACES.set_axis(names, axis=1).assign(score=1.0), tmp_path / f"p{suffix}")
    found = read_coordinates(file, "predictions", OWN)
    assert found["uuid"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found[["latitude", "longitude"]], PLACES[["latitude", "longitude"]])


def test_the_clearer_name_wins_and_given_ones_decide(tmp_path: Path):
    table = PLACES.assign(true_latitude=1.0, true_longitude=2.0, y=3.0)
    file = written(table, tmp_path / "p.csv")
    assert (
        read_coordinates(file, "truth", ColumnNames("truth_columns", TRUE_WORDS))["latitude"].tolist() == [1.0] * 3
    )
    assert read_coordinates(file, "predictions", OWN)["latitude"].tolist() == [45.0, 45.5, 43.5]
    named = ColumnNames("columns", PREDICTED_WORDS, latitude="y")
    assert read_coordinates(file, "predictions", named)["latitude"].tolist() == [3.0] * 3
    with pytest.raises(ConfigError, match=r"^columns.latitude must be a column of .*, got 'z'"):
        read_coordinates(file, "predictions", ColumnNames("columns", PREDICTED_WORDS, latitude="z"))
    with pytest.raises(ConfigError, match=r"^columns.id must be a column of .*, got 'z'"):
        read_coordinates(file, "predictions", ColumnNames("columns", PREDICTED_WORDS, id="z"))
    with pytest.raises(DataError, match=r"has no column for true latitude.*truth_columns.latitude=COLUMN"):
        read_coordinates(written(PLACES, file), "truth", ColumnNames("truth_columns", TRUE_WORDS, marked=True))


def test_radians_are_turned(tmp_path: Path):
    rad = PLACES.assign(latitude=np.radians(PLACES["latitude"]), longitude=np.radians(PLACES["longitude"]))
    found = read_coordinates(written(rad, tmp_path / "p.csv"), "predictions", OWN, "radians")
    np.testing.assert_allclose(found[["latitude", "longitude"]], PLACES[["latitude", "longitude"]])


def test_blank_answers_are_no_answers(tmp_path: Path):
    (tmp_path / "p.csv").write_text("uuid,latitude,longitude\na,45,16\nb,,\nc, ,\n")
    assert read_coordinates(tmp_path / "p.csv", "predictions", OWN, blank=True)["uuid"].tolist() == ["a"]
    with pytest.raises(DataError, match="row 3: latitude must be a number"):  # the truth has no blanks
        read_coordinates(tmp_path / "p.csv", "truth", ColumnNames("truth_columns", TRUE_WORDS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid,latitude,longitude\na,45,16\nb,x,16\n", r"row 3: latitude must be a number \(1 are not\), got 'x'"),
        ("uuid,latitude,longitude\na,45,16\nb,,16\n", "row 3: latitude must be a number"),
        ("uuid,latitude,longitude\na,95,16\n", r"row 2: latitude must be within 90 degrees .*swapped"),
        ("uuid,latitude,longitude\na,45,181\n", "row 2: longitude must be within 180 degrees"),
        ("uuid,latitude,longitude\na,451234567,16\n", "They look like metres or millionths"),
        ("uuid,latitude,longitude\na,45,16\na,45,16\n", "row 3: uuid must be unique, got 'a'"),
        ("uuid,latitude,longitude\n", "must hold at least one row"),
        ("uuid,latitude\na,45\n", "has no column for predicted longitude"),
        ("uuid,latitude,longitude\na,45,16\n,45,16\n", "row 3: uuid must not be empty"),
        ("uuid;latitude;longitude\na;45;16\n", "must be separated by commas, not by semicolons"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, message: str, tmp_path: Path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coordinates(tmp_path / "p.csv", "predictions", OWN)


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"^predictions=.*nowhere.csv must be a file"):
        read_coordinates(tmp_path / "nowhere.csv", "predictions", OWN)
    (tmp_path / "p.xls").write_bytes(b"x")
    with pytest.raises(DataError, match=r"must be one of \.csv, \.tsv, \.parquet, got '\.xls'"):
        read_coordinates(tmp_path / "p.xls", "predictions", OWN)
    (tmp_path / "p.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be read"):
        read_coordinates(tmp_path / "p.parquet", "predictions", OWN)
    with pytest.raises(ConfigError, match=r"columns.units must be one of degrees, radians, got 'miles'"):
        read_coordinates(tmp_path / "p.xls", "predictions", OWN, "miles")


def points(table: pd.DataFrame, name: str, tmp_path: Path) -> pd.DataFrame:
    return read_coordinates(written(table, tmp_path / f"{name}.csv"), name, OWN)


def test_places_are_matched_by_id_in_the_order_of_the_truth(tmp_path: Path):
    truth = points(PLACES, "truth", tmp_path)
    moved = PLACES.assign(latitude=PLACES["latitude"] + 0.1, uuid=["c", "x", "a"])
    table, missing, extra = match_rows(points(moved, "predictions", tmp_path), truth)
    assert table["uuid"].tolist() == ["a", "c"]
    assert (missing, extra) == (1, 1)
    np.testing.assert_allclose(table["latitude"], [43.6, 45.1])
    np.testing.assert_allclose(table["true_latitude"], [45.0, 43.5])


def test_without_ids_rows_stand_for_each_other(tmp_path: Path, caplog):
    bare = PLACES.drop(columns="uuid")
    table, missing, extra = match_rows(points(bare, "p", tmp_path), points(bare, "t", tmp_path))
    assert "matched by row" in caplog.text
    assert table["uuid"].tolist() == ["1", "2", "3"]
    assert (missing, extra) == (0, 0)
    with pytest.raises(DataError, match=r"must have equal numbers of rows.*got '3 and 2'"):
        match_rows(points(bare, "p", tmp_path), points(bare[:2], "t", tmp_path))
    with pytest.raises(DataError, match=r"^truth_columns.id must name the column of ids"):
        match_rows(points(PLACES, "p", tmp_path), points(bare, "t", tmp_path))
    other = PLACES.assign(uuid=["x", "y", "z"])
    with pytest.raises(DataError, match="must have ids in common; they begin with 'a' and 'x'"):
        match_rows(points(PLACES, "p", tmp_path), points(other, "t", tmp_path))


def test_ids_that_differ_in_form_are_told(tmp_path: Path, caplog):
    truth = points(PLACES.assign(uuid=["007", "A.jpg", "b"]), "t", tmp_path)
    for ids in (["7", "x", "y"], ["x", "a", "y"], ["7.0", "x", "y"], ["x", "y", "B"]):
        with pytest.raises(
            DataError, match=r"They differ in case, leading zeros, .0 or a suffix: write them alike"
        ):
            match_rows(points(PLACES.assign(uuid=ids), "p", tmp_path), truth)
    table, missing, _ = match_rows(points(PLACES.assign(uuid=["7", "A.jpg", "b"]), "p", tmp_path), truth)
    assert (len(table), missing) == (2, 1)
    assert "1 ids differ only in case" in caplog.text


def test_other_units_and_swapped_columns_are_seen():
    rng = np.random.default_rng(0)
    true = np.stack([rng.uniform(43, 46, 50), rng.uniform(14, 19, 50)], axis=-1)
    near = true + rng.normal(0, 0.3, true.shape)
    check_units(near, true)
    with pytest.raises(DataError, match=r"look swapped: .*columns\.latitude"):
        check_units(near[:, ::-1], true)
    with pytest.raises(DataError, match=r"look like radians: .*Add columns\.units=radians"):
        check_units(np.radians(near), true)
    check_units(true + 30.0, true)  # bad, and in degrees
    check_units(np.array([[0.5, 0.4]]), np.array([[0.6, 0.3]]))  # in the Gulf of Guinea
