"""Evaluation: one `python -m geoguesser.evaluate`: a run's answers, or any program's, against the truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.commands.configs import build, list_known_keys, to_plain
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import FAR_KM, drop_far, get_coords, list_files, read_places
from geoguesser.data.splits import NAMES
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
)
from geoguesser.evaluation.metrics import compute_hits, compute_metrics, compute_uncertainty_metrics
from geoguesser.evaluation.prediction_files import (
    PREDICTED,
    TRUE,
    ColumnNames,
    check_alike,
    match_rows,
    read_points,
)
from geoguesser.evaluation.resampling_units import check_block_km
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.inference.batch_inference import PredictedBatch, check_store, predict_places, predict_store
from geoguesser.inference.ensemble import Ensemble, load_runs
from geoguesser.inference.inputs import InputPlace
from geoguesser.inference.predictions import Predictions, concatenate
from geoguesser.inference.predictor import choose_device
from geoguesser.reporting import evaluation as evaluation_report

log = logging.getLogger(__name__)
SPLITS = (*NAMES, "unused")
POINT = ["latitude", "longitude"]
TRUE_POINT = [f"true_{name}" for name in POINT]
WAYS = (
    "Give run=RUN alone (its test places), run=RUN with 'data.roots=[A]' or data.path=STORE, or predictions=FILE "
    "truth=FILE."
)


class EvaluatedPlaces(NamedTuple):
    """What is evaluated: answers and truth, the region, counts of what is left out, and all that was answered."""

    table: pd.DataFrame
    region: Region
    counts: dict[str, int]
    answers: Predictions | None = None


def run_evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluates, writes the folder `out` and prints the figures.

    Args:
        cfg: The config of conf/evaluate.yaml.

    Returns:
        What evaluation.json holds.

    Raises:
        GeoguesserError: What the user can mend; nothing is then written.
    """
    config = to_plain(cfg, list_known_keys("evaluate"))
    bootstrap = check_mapping("bootstrap", config["bootstrap"], ("samples", "seed", "block_km"))
    settings: dict[str, Any] = {
        "confidence": check_number("confidence", config["confidence"], low=0.5, high=0.999),
        "samples": check_int("bootstrap.samples", bootstrap["samples"], low=1000, high=1_000_000),
        "seed": check_int("bootstrap.seed", bootstrap["seed"], low=0),
        "block_km": check_block_km(bootstrap["block_km"]),
    }
    pictures = check_bool("pictures", config["pictures"])
    check_int("batch_size", config["batch_size"], low=1)
    check_choice("on_missing", config["on_missing"], ("error", "skip"))
    out = Path(str(config["out"])).expanduser()
    evaluation_report.check_folder(out)
    ready = _from_files(config) if config["predictions"] is not None else _from_run(config)
    predicted_deg, true_deg = (ready.table[names].to_numpy(dtype=np.float64) for names in (POINT, TRUE_POINT))
    table = ready.table.assign(error_km=haversine_km(predicted_deg, true_deg))
    found = compute_metrics(predicted_deg, true_deg, ready.region, **settings)
    found["counts"] = ready.counts
    if ready.answers is not None:
        found |= {
            "cells": compute_hits(ready.answers, true_deg),
            "sureness": compute_uncertainty_metrics(ready.answers, true_deg),
        }
    try:
        evaluation_report.write_evaluation(out, found, table, ready.region, pictures=pictures)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    evaluation_report.print_evaluation(found, out)
    return found


def _from_files(config: dict[str, Any]) -> EvaluatedPlaces:
    """Predictions of any program, with a file of the truth, or with the truth in columns of their own."""
    if config["run"] is not None:
        raise ConfigError.at("run", "must not be given with predictions", found=config["run"], remedy=WAYS)
    given = Path(str(config["predictions"])).expanduser()
    truth = given if config["truth"] is None else Path(str(config["truth"])).expanduser()
    named = {key: check_mapping(key, config[key], ("id", *POINT, "units")) for key in ("columns", "truth_columns")}
    parts = []
    for key, file, own, words in (
        ("predictions", given, "columns", PREDICTED),
        ("truth", truth, "truth_columns", TRUE),
    ):
        names = {name: named[own][name] for name in ("id", *POINT)}
        marked = config["truth"] is None and own == "truth_columns"
        told, units = ColumnNames(own, words, marked, **names), str(named[own]["units"])
        parts.append(read_points(file, key, told, units, blank=key == "predictions"))
    table, missing, extra = match_rows(*parts)
    if missing and config["on_missing"] == "error":
        raise DataError.at(
            f"predictions={given}", f"must hold every place of the truth, {missing} are missing",
            remedy="To leave them out, which flatters: on_missing=skip.",
        )  # fmt: skip
    check_alike(table[POINT].to_numpy(), table[TRUE_POINT].to_numpy())
    region: Region = build(config["region"], "region")
    away_km = region.distance_to_land_km(table[TRUE_POINT].to_numpy())
    if away_km.max() > FAR_KM:
        log.warning(
            "%d of %d true places lie more than %g km from region %s, up to %.0f km: is it theirs, and are their "
            "latitudes and longitudes not swapped?",
            int((away_km > FAR_KM).sum()), len(table), FAR_KM, region.name, away_km.max(),
        )  # fmt: skip
    counts = {"places_without_a_prediction_left_out": missing, "predictions_of_no_place": extra}
    return EvaluatedPlaces(table[["uuid", *POINT, *TRUE_POINT]], region, counts)


def _from_run(config: dict[str, Any]) -> EvaluatedPlaces:
    if config["run"] is None:
        raise ConfigError.at("run", "must be given, or predictions", found=None, remedy=WAYS)
    keys = ("roots", "path", "split", "missing_views", "far_km", "on_bad")
    data = check_mapping("data", config["data"], keys)
    split = None if data["split"] is None else check_choice("data.split", data["split"], SPLITS)
    if data["roots"] is not None and data["path"] is not None:
        raise ConfigError.at("data.path", "must not be given with data.roots", found=data["path"], remedy=WAYS)
    if config["truth"] is not None:
        raise ConfigError.at("truth", "is for predictions=FILE, not for a run", found=config["truth"], remedy=WAYS)
    if split is not None and data["roots"] is None and data["path"] is None:
        raise ConfigError.at("data.split", "needs data.roots or data.path", found=split, remedy=WAYS)
    ensemble = load_runs(config["run"], device=choose_device(str(config["device"])))
    if data["roots"] is None and data["path"] is None:
        return _own_test(config["run"], ensemble.region)
    masks = check_choice("data.missing_views", data["missing_views"], ("mask", "drop")) == "mask"
    findings = Findings(dict(data["on_bad"] or {}))
    far_km = check_number("data.far_km", data["far_km"], low=0.0)
    size = config["batch_size"]
    if data["path"] is not None:
        store = Store.open(str(data["path"]))
        check_store(ensemble, store, "data.path")
        whole = store.table()
        table = drop_far(whole.assign(at=np.arange(len(whole))), ensemble.region, findings, far_km)
        table = _of_split(table, "store_split", split)
        rows = table["at"].to_numpy()
        return _answered(table, predict_store(ensemble, store, rows, batch_size=size), ensemble, findings)
    roots = [data["roots"]] if isinstance(data["roots"], str) else data["roots"]
    table = read_places(roots, ensemble.region, findings, far_km=far_km, mask=masks)
    column = "split" if "split" in table else "folder_split"
    table = _of_split(table, column, split)
    asked = [InputPlace(uuid, files) for uuid, files in zip(table["uuid"], list_files(table), strict=True)]
    return _answered(table, predict_places(ensemble, asked, batch_size=size), ensemble, findings)


def _of_split(table: pd.DataFrame, column: str, split: str | None) -> pd.DataFrame:
    """The places of one split; all where none is asked for."""
    table = table if split is None else table[table[column] == split]
    if table.empty:
        raise DataError.at("data", f"must hold places of split {split}" if split else "must hold a place")
    return table


def _own_test(run: Any, region: Region) -> EvaluatedPlaces:
    """The run's own test places, from what its test wrote."""
    file = Path(run if isinstance(run, str) else run[0]).expanduser() / "predictions_test.csv"
    if not isinstance(run, str) and len(run) > 1:
        raise ConfigError.at("data", "must be given for several runs", found=None, remedy=WAYS)
    if not file.is_file():
        raise MissingFileError.at(f"run={run}", "must be a folder with predictions_test.csv", remedy=WAYS)
    table = pd.read_csv(file, dtype={"uuid": str})
    return EvaluatedPlaces(table.drop(columns="error_km"), region, {})


def _answered(table: pd.DataFrame, batches: Any, ensemble: Ensemble, findings: Findings) -> EvaluatedPlaces:
    """Answers all places of a table; those without a whole view are left out, counted and named."""
    parts: list[Predictions] = []
    told: list[np.ndarray[Any, Any]] = []
    unseen, noted = 0, 0
    batch: PredictedBatch
    with tqdm(total=len(table), desc="evaluating", unit=" places", disable=None) as bar:
        for batch in batches:
            seen = batch.present.any(axis=1)
            if batch.predictions is not None:
                parts.append(batch.predictions)
                told.append(batch.rows[seen])
            unseen += int((~seen).sum())
            for row, notes in zip(batch.rows, batch.problems, strict=True):
                noted += bool(notes)
                if notes and noted <= 10:
                    log.warning("%s: %s", table["uuid"].iloc[row], "; ".join(notes))
            bar.update(len(batch.rows))
    if not parts:
        raise DataError.at("data", "must hold a place with a whole view", found=f"{len(table)} without")
    answers, own = concatenate(parts), table.iloc[np.concatenate(told)]
    truth = get_coords(own)
    found = pd.DataFrame({"uuid": own["uuid"].to_numpy()})
    found[POINT], found[TRUE_POINT] = answers.coords_deg, truth
    if answers.expected_error_km is not None:
        found["expected_error_km"] = answers.expected_error_km
    for level, radius_km in (answers.radius_km or {}).items():
        found[f"radius_{level}_km"] = radius_km
    counts = {f"left out: {kind}": count for kind, count in findings.counts().items()}
    counts |= {"places_without_a_whole_view_left_out": unseen, "places_with_broken_views": noted}
    return EvaluatedPlaces(found, ensemble.region, counts, answers)
