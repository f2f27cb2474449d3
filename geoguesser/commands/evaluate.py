"""Command `evaluate`: compares a run's predictions, or those of any program, with the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.commands.configs import instantiate_node, list_known_keys, to_plain
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import DEFAULT_FAR_KM, drop_far_places, get_coords, list_files, read_places
from geoguesser.data.splits import SPLIT_NAMES
from geoguesser.data.store.reader import Store
from geoguesser.errors import (
    ConfigError,
    DataError,
    MissingFileError,
    StoreError,
    check_bool,
    check_choice,
    check_int,
    check_mapping,
    check_number,
    first_line,
)
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.metrics import compute_cell_accuracy, compute_metrics, compute_prediction_coverage
from geoguesser.evaluation.prediction_files import (
    PREDICTED_WORDS,
    TRUE_WORDS,
    ColumnNames,
    check_units,
    match_rows,
    read_coordinates,
)
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.inference.batch_inference import PredictedBatch, check_store, predict_places, predict_store
from geoguesser.inference.ensemble import Ensemble, load_runs
from geoguesser.inference.inputs import InputPlace
from geoguesser.inference.predictions import Predictions, concatenate
from geoguesser.inference.predictor import choose_device
from geoguesser.reporting.evaluation import check_evaluation_folder, print_evaluation, write_evaluation
from geoguesser.system.files import refuse_links
from geoguesser.system.received_files import refuse_link
from geoguesser.system.tables import read_csv

log = logging.getLogger(__name__)
SPLITS = (*SPLIT_NAMES, "unused")
MAX_BROKEN_WARNINGS = 10
POINT = ["latitude", "longitude"]
TRUE_POINT = [f"true_{name}" for name in POINT]
USAGE = (
    "Give only run=RUN (its test places), run=RUN with 'data.roots=[A]' or data.path=STORE, or predictions=FILE "
    "truth=FILE."
)


class EvaluatedPlaces(NamedTuple):
    """Predictions with the truth.

    Attributes:
        table: uuid, latitude, longitude, true_latitude, true_longitude, and columns for errors.csv.
        region: Region of the places.
        counts: Numbers of places that are left out, by reason.
        predictions: None if only points are known.
    """

    table: pd.DataFrame
    region: Region
    counts: dict[str, int]
    predictions: Predictions | None = None


def run_evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluates predictions, writes the folder `out`, prints the metrics and returns evaluation.json.

    Raises:
        GeoguesserError: The config or the data cannot be used; nothing is written.
    """
    config = to_plain(cfg, list_known_keys("evaluate"))
    settings = BootstrapSettings.from_config(config)
    pictures, out = check_bool("pictures", config["pictures"]), Path(str(config["out"])).expanduser()
    check_int("batch_size", config["batch_size"], low=1)
    check_choice("on_missing", config["on_missing"], ("error", "skip"))
    check_evaluation_folder(out)
    refuse_links(out)

    is_table = config["predictions"] is not None
    places = _read_tables(config) if is_table else _evaluate_run(config)
    predicted_deg, true_deg = (places.table[names].to_numpy(dtype=np.float64) for names in (POINT, TRUE_POINT))
    table = places.table.assign(error_km=haversine_km(predicted_deg, true_deg))

    evaluation = compute_metrics(predicted_deg, true_deg, places.region, settings)
    evaluation["counts"] = places.counts
    if places.predictions is not None:
        evaluation["cells"] = compute_cell_accuracy(places.predictions, true_deg)
        evaluation["sureness"] = compute_prediction_coverage(places.predictions, true_deg)

    try:
        write_evaluation(out, evaluation, table, places.region, pictures=pictures)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    print_evaluation(evaluation, out)
    return evaluation


def _read_tables(config: dict[str, Any]) -> EvaluatedPlaces:
    """Reads predictions of any program, with the truth in a table or in columns beside them."""
    if config["run"] is not None:
        raise ConfigError.at("run", "must not be given with predictions", found=config["run"], remedy=USAGE)
    columns, true_columns = (
        dict(check_mapping(key, config[key], ("id", *POINT, "units"))) for key in ("columns", "truth_columns")
    )
    units, true_units = str(columns.pop("units")), str(true_columns.pop("units"))

    file = Path(str(config["predictions"])).expanduser()
    true_file = file if config["truth"] is None else Path(str(config["truth"])).expanduser()
    names = ColumnNames("columns", PREDICTED_WORDS, **columns)
    points = read_coordinates(file, "predictions", names, units, blank=True)
    names = ColumnNames("truth_columns", TRUE_WORDS, config["truth"] is None, **true_columns)
    truth = read_coordinates(true_file, "truth", names, true_units)

    table, missing, extra = match_rows(points, truth)
    if missing and config["on_missing"] == "error":
        rule = f"must hold every place of the truth, {missing} are missing"
        remedy = "To leave them out, which improves the metrics: on_missing=skip."
        raise DataError.at(f"predictions={file}", rule, remedy=remedy)
    check_units(table[POINT].to_numpy(), table[TRUE_POINT].to_numpy())

    region: Region = instantiate_node(config["region"], "region")
    _warn_of_distant_places(table[TRUE_POINT].to_numpy(), region)
    counts = {"places_without_a_prediction_left_out": missing, "predictions_of_no_place": extra}
    return EvaluatedPlaces(table[["uuid", *POINT, *TRUE_POINT]], region, counts)


def _warn_of_distant_places(true_deg: np.ndarray[Any, Any], region: Region) -> None:
    distance_km = region.distance_to_land_km(true_deg)
    if distance_km.max() > DEFAULT_FAR_KM:
        count, where = (
            int((distance_km > DEFAULT_FAR_KM).sum()),
            f"{DEFAULT_FAR_KM:g} km from region {region.name}",
        )
        log.warning(
            "%d of %d true places lie more than %s, up to %.0f km: check the region, and that latitude and "
            "longitude are not swapped",
            *(count, len(true_deg), where, distance_km.max()),
        )


def _evaluate_run(config: dict[str, Any]) -> EvaluatedPlaces:
    """Predicts labelled places of a store or of folders; without either, reads the run's test predictions."""
    run, data = _check_run(config)
    ensemble = load_runs(run, device=choose_device(str(config["device"])))
    if data["roots"] is None and data["path"] is None:
        return _read_test(run, ensemble.region)

    mask = check_choice("data.missing_views", data["missing_views"], ("mask", "drop")) == "mask"
    findings = Findings(dict(data["on_bad"] or {}))
    far_km = check_number("data.far_km", data["far_km"], low=0.0)
    batch_size, split = config["batch_size"], data["split"]
    if data["path"] is not None:
        store = Store.open(str(data["path"]))
        check_store(ensemble, store, "data.path")
        table = store.table()
        table = drop_far_places(table.assign(row=np.arange(len(table))), ensemble.region, findings, far_km)
        table = _select_split(table, "store_split", split)
        batches = predict_store(ensemble, store, table["row"].to_numpy(), batch_size=batch_size)
        return _collect_batches(table, batches, ensemble, findings)

    roots = [data["roots"]] if isinstance(data["roots"], str) else data["roots"]
    table = read_places(roots, ensemble.region, findings, far_km=far_km, allow_missing_views=mask)
    table = _select_split(table, "split" if "split" in table else "folder_split", split)
    inputs = [InputPlace(uuid, files) for uuid, files in zip(table["uuid"], list_files(table), strict=True)]
    return _collect_batches(table, predict_places(ensemble, inputs, batch_size=batch_size), ensemble, findings)


def _check_run(config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Checks the keys `run` and `data` before the run is loaded."""
    if config["run"] is None:
        raise ConfigError.at("run", "must be given, or predictions", found=None, remedy=USAGE)

    keys = ("roots", "path", "split", "missing_views", "far_km", "on_bad")
    data = check_mapping("data", config["data"], keys)
    if data["split"] is not None:
        check_choice("data.split", data["split"], SPLITS)
    if data["roots"] is not None and data["path"] is not None:
        raise ConfigError.at("data.path", "must not be given with data.roots", found=data["path"], remedy=USAGE)
    if config["truth"] is not None:
        raise ConfigError.at("truth", "must be given only with predictions", found=config["truth"], remedy=USAGE)
    if data["split"] is not None and data["roots"] is None and data["path"] is None:
        raise ConfigError.at("data.split", "needs data.roots or data.path", found=data["split"], remedy=USAGE)
    return config["run"], data


def _select_split(table: pd.DataFrame, column: str, split: str | None) -> pd.DataFrame:
    table = table if split is None else table[table[column] == split]
    if table.empty:
        raise DataError.at("data", f"must hold places of split {split}" if split else "must hold a place")
    return table


def _read_test(run: Any, region: Region) -> EvaluatedPlaces:
    """Reads the predictions that the run's own test wrote."""
    if not isinstance(run, str) and len(run) > 1:
        raise ConfigError.at("data", "must be given for several runs", found=None, remedy=USAGE)
    file = Path(run if isinstance(run, str) else run[0]).expanduser() / "predictions_test.csv"
    if not file.is_file():
        raise MissingFileError.at(f"run={run}", "must be a folder with predictions_test.csv", remedy=USAGE)
    try:
        table = read_csv(refuse_link(file), dtype={"uuid": str}).drop(columns="error_km")
    except (OSError, ValueError, KeyError) as error:
        raise DataError.at(
            str(file), f"must hold the predictions of a run's test ({first_line(error)})"
        ) from error
    return EvaluatedPlaces(table, region, {})


def _collect_batches(
    table: pd.DataFrame, batches: Iterable[PredictedBatch], ensemble: Ensemble, findings: Findings
) -> EvaluatedPlaces:
    """Predicts all places of a table. Places without a readable view are left out, counted and named."""
    parts: list[Predictions] = []
    rows: list[np.ndarray[Any, Any]] = []
    unseen, broken = 0, 0
    with tqdm(total=len(table), desc="evaluating", unit=" places", disable=None) as bar:
        for batch in batches:
            seen = batch.present.any(axis=1)
            unseen += int((~seen).sum())
            if batch.predictions is not None:
                parts.append(batch.predictions)
                rows.append(batch.rows[seen])
            for row, notes in zip(batch.rows, batch.problems, strict=True):
                broken += bool(notes)
                if notes and broken <= MAX_BROKEN_WARNINGS:
                    log.warning("%s: %s", table["uuid"].iloc[row], "; ".join(notes))
            bar.update(len(batch.rows))
    if not parts:
        raise DataError.at("data", "must hold a place with a whole view", found=f"{len(table)} without")

    predictions, places = concatenate(parts), table.iloc[np.concatenate(rows)]
    evaluated = pd.DataFrame({"uuid": places["uuid"].to_numpy()})
    evaluated[POINT], evaluated[TRUE_POINT] = predictions.coords_deg, get_coords(places)
    if predictions.expected_error_km is not None:
        evaluated["expected_error_km"] = predictions.expected_error_km
    for level, radius_km in (predictions.radius_km or {}).items():
        evaluated[f"radius_{level}_km"] = radius_km

    counts = {f"left out: {kind}": count for kind, count in findings.count_skipped().items()}
    counts |= {"places_without_a_whole_view_left_out": unseen, "places_with_broken_views": broken}
    return EvaluatedPlaces(evaluated, ensemble.region, counts, predictions)
