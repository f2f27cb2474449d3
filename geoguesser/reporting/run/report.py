"""Report of a finished run: tables, parts of result.json and pictures in its folder."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.datamodule import PlacesData
from geoguesser.evaluation import baselines, uncertainty_metrics
from geoguesser.evaluation.error_budget import compute_budget
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.model.metrics import summarise_errors
from geoguesser.model.network import GeoNetwork
from geoguesser.model.uncertainty import Calibration, HeadOutput, decode_output
from geoguesser.reporting import maps
from geoguesser.reporting.run import plots, result, uncertainty_plots
from geoguesser.system.files import write_csv
from geoguesser.training.lr_finder import RateSearch
from geoguesser.training.outputs import compute_outputs


class RunReport:
    """Report of one run; `calibration` is fitted by `write_tables`, and None without calibration places.

    `compute_baselines` needs no prediction, `write_tables` calibrates and writes, `draw_pictures` draws.
    """

    def __init__(
        self,
        folder: Path,
        data: PlacesData,
        region: Region,
        network: GeoNetwork,
        calibration_config: dict[str, Any],
    ) -> None:
        self.folder, self.data, self.region, self.network = folder, data, region, network
        self.calibration_config = calibration_config
        self.calibration: Calibration | None = None

    def compute_baselines(self, test_rows: IntArray) -> dict[str, Any]:
        """Computes `baseline` of result.json for (N,) test rows: predictions that need no trained network."""
        train, diagonal = self.data.rows["train"], self.region.diagonal_km
        train_deg, test_deg = self.data.coords_deg[train], self.data.coords_deg[test_rows]
        thumbnails = self.data.thumbnails
        results: dict[str, Any] = {
            "best_constant": baselines.evaluate_constant(train_deg, test_deg, diagonal),
            "nearest": baselines.evaluate_nearest_views(
                train_deg, test_deg, thumbnails[train], thumbnails[test_rows], diagonal
            ),
            "nearest_features": None,
            "ridge": None,
        }

        if self.data.features is not None:
            val = self.data.rows["val"]
            pooled = baselines.pool_views(self.data.features, self.data.mask)
            features = baselines.standardise(*(pooled[rows] for rows in (train, val, test_rows)))
            results["nearest_features"] = baselines.evaluate_nearest_features(
                train_deg, test_deg, features[0], features[2], diagonal
            )
            val_deg = self.data.coords_deg[val]
            results["ridge"] = baselines.evaluate_ridge(train_deg, val_deg, test_deg, features, self.region)
        return results

    def write_tables(
        self, tested: dict[str, Any], *, requested_cells: int | None, baselines: dict[str, Any]
    ) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        """Fits the calibration, and writes predictions_test.csv and places.csv.

        `tested` holds `index` (N,), `predicted_deg` (N, 2) and `hits` (N, H) of the test places.

        Returns:
            Parts of result.json that follow from data and predictions; history, the table metrics.csv; table of
            predictions.
        """
        rows, head = tested["index"].numpy(), self.network.head
        predicted_deg = tested["predicted_deg"].double().numpy()
        predictions = result.make_predictions_table(self.data, rows, predicted_deg)
        error_km = predictions["error_km"].to_numpy()

        # A head without cells predicts a point only, which is known already.
        output = HeadOutput(predicted_deg)
        if head.grid is not None:
            output = self._compute_output("test", rows, predicted_deg)
        uncertainty, columns = self._assess_uncertainty(output, rows, error_km)
        known = {name: columns[name] for name in uncertainty_metrics.PREDICTION_COLUMNS if name in columns}
        predictions = predictions.assign(**known)
        write_csv(self.folder / "predictions_test.csv", predictions)
        write_csv(self.folder / "places.csv", result.make_places_table(self.data, self.region, head.grid))

        history = pd.read_csv(self.folder / "metrics.csv")
        best = history.iloc[int(history["val/error_km_mean"].argmin())]
        test_deg = self.data.coords_deg[rows]
        parts: dict[str, Any] = {
            "format": result.RESULT_FORMAT_VERSION,
            # Hits are None if the head does not have them.
            "test": {
                "places": len(predictions),
                **summarise_errors(error_km, self.region.diagonal_km),
                "cell_top1": None,
                "cell_top5": None,
                **dict(zip(head.hit_names, tested["hits"].double().mean(dim=0).tolist(), strict=True)),
            },
            "val": {
                str(key)[4:]: float(value)
                for key, value in best.items()
                if str(key).startswith("val/") and not math.isnan(value)
            },
            "baseline": baselines,
            "uncertainty": uncertainty,
            "budget": compute_budget(
                error_km=error_km,
                test_deg=test_deg,
                train_deg=self.data.train_coords_deg,
                region=self.region,
                grid=head.grid,
                output=output,
            ),
            "grid": result.summarise_grid(head.grid, requested_cells, test_deg),
            "counts": result.count_places(self.data),
            "parameters": self._count_parameters(),
            # From 0, as in metrics.csv and finetune.stages.
            "best_epoch": int(best["epoch"]),
            "epochs": int(history["epoch"].max()) + 1,
        }
        return parts, history, predictions

    def _compute_output(self, split: str, rows: IntArray, predicted_deg: FloatArray | None = None) -> HeadOutput:
        """Returns the head output for rows of a split, which are ascending like those of its loader."""
        outputs = compute_outputs(self.network, self.data.loader(split, whole=True))
        positions = np.searchsorted(outputs.rows.numpy(), rows)
        device = next(self.network.head.parameters()).device
        return decode_output(self.network.head, outputs.out[positions].to(device), predicted_deg)

    def _assess_uncertainty(
        self, output: HeadOutput, test_rows: IntArray, error_km: FloatArray
    ) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Fits the calibration on its places; returns `uncertainty` of result.json, and columns of predictions."""
        rows, grid = self.data.rows["calibration"], self.network.head.grid
        if len(rows) == 0:
            counts = self.calibration_config | {"val_places": int((self.data.table["split"] == "val").sum())}
            return uncertainty_metrics.explain_missing_calibration(**counts), {}

        fitted_on = self._compute_output("calibration", rows)
        coords_deg = self.data.coords_deg[rows]
        cell = None if grid is None else grid.assign(coords_deg)
        self.calibration = Calibration.fit(fitted_on, cell, haversine_km(fitted_on.answers_deg, coords_deg))

        true_cell = None if grid is None else grid.assign(self.data.coords_deg[test_rows])
        columns = self.calibration.describe_places(output, true_cell)
        summary = uncertainty_metrics.summarise_uncertainty(self.calibration, columns, output, true_cell, error_km)
        return summary, columns

    def _count_parameters(self) -> dict[str, int]:
        sizes = {"head": 0, "backbone": 0}
        for name, parameter in self.network.named_parameters():
            sizes["backbone" if name.startswith("backbone.") else "head"] += parameter.numel()
        trainable = sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)
        return {**sizes, "total": sum(sizes.values()), "learnt_at_end": trainable}

    def draw_pictures(
        self,
        results: dict[str, Any],
        history: pd.DataFrame,
        predictions: pd.DataFrame,
        *,
        title: str,
        search: RateSearch | None,
    ) -> list[Path]:
        """Draws all pictures into the run folder and returns them; `search` is None without a rate search."""
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        grid, points = self.network.head.grid, maps.get_points(predictions)
        places = {"coords_deg": self.data.coords_deg, "splits": np.asarray(self.data.table["split"])}
        maps.draw_grid(folder / "grid.png", region=self.region, grid=grid, **places, title=title)
        maps.draw_arrows(folder / "arrows.png", region=self.region, **points, title=title)

        means = {name.replace("_", " "): row["error_km_mean"] for name, row in results["baseline"].items() if row}
        plots.draw_errors(folder / "errors.png", error_km=points["error_km"], baselines=means, title=title)
        # Epochs are shown from 1.
        from_one = history.assign(epoch=history["epoch"] + 1)
        best_epoch = results["best_epoch"] + 1
        plots.draw_curves(folder / "curves.png", history=from_one, best_epoch=best_epoch, title=title)
        if search is not None:
            plots.draw_rate_search(folder / "lr_find.png", **asdict(search))

        uncertainty = results["uncertainty"]
        uncertainty_plots.draw_budget(folder / "budget.png", budget=results["budget"], title=title)
        if self.calibration is not None:
            uncertainty_plots.draw_calibration(folder / "calibration.png", uncertainty=uncertainty, title=title)
        if abstention := uncertainty.get("abstention"):
            uncertainty_plots.draw_abstention(folder / "abstention.png", abstention=abstention, title=title)
        return sorted(folder.glob("*.png"))
