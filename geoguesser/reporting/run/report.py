"""What a finished run leaves in its folder: tables, the parts of result.json, pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.data.datamodule import PlacesData
from geoguesser.evaluation import baselines
from geoguesser.evaluation import uncertainty_metrics as sureness
from geoguesser.evaluation.error_budget import compute_budget
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.model.network import GeoNetwork
from geoguesser.model.uncertainty import Calibration, HeadOutput, decode_output
from geoguesser.reporting import maps
from geoguesser.reporting.run import plots
from geoguesser.reporting.run import result as results
from geoguesser.reporting.run import uncertainty_plots as sureness_plots
from geoguesser.system.files import write_csv
from geoguesser.training.lr_finder import RateSearch
from geoguesser.training.outputs import compute_outputs


class RunReport:
    """The report of one run.

    Args:
        folder: The run folder, with its metrics.csv.
        data: The places.
        region: The land.
        network: The trained network, with the weights that were tested.
        held_out: What the config says of `calibration` and `fewest`.

    Attributes:
        calibration: After `tables`: what the calibration places taught; None without any.
    """

    def __init__(
        self, folder: Path, data: PlacesData, region: Region, network: GeoNetwork, held_out: dict[str, Any]
    ) -> None:
        self.folder, self.data, self.region, self.network = folder, data, region, network
        self.held_out = held_out
        self.calibration: Calibration | None = None

    def tables(
        self, tested: dict[str, Any], *, asked: int | None, baselines: dict[str, Any]
    ) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        """Writes predictions_test.csv and places.csv.

        Args:
            tested: index (N,), predicted_deg (N, 2) and hits (N, H) of the test places.
            asked: The number of cells that the config asked for.
            baselines: What the method `baselines` gave.

        Returns:
            The parts of result.json that follow from data and predictions; the history of metrics.csv;
            the table of predictions.
        """
        index, head = tested["index"].numpy(), self.network.head
        answers_deg = tested["predicted_deg"].double().numpy()
        predictions = results.make_predictions_table(self.data, index, answers_deg)
        error_km = predictions["error_km"].to_numpy()
        said = self._said("test", index, answers_deg) if head.grid is not None else HeadOutput(answers_deg)
        uncertainty, known = self._uncertainty(said, index, error_km)
        predictions = predictions.assign(
            **{name: known[name] for name in sureness.PREDICTION_COLUMNS if name in known}
        )
        write_csv(self.folder / "predictions_test.csv", predictions)
        write_csv(self.folder / "places.csv", results.make_places_table(self.data, self.region, head.grid))
        hits: dict[str, float | None] = {"cell_top1": None, "cell_top5": None}
        columns = zip(head.hit_names, tested["hits"].T, strict=True)
        hits |= {name: float(column.double().mean()) for name, column in columns}
        history = pd.read_csv(self.folder / "metrics.csv")
        best = history.iloc[int(history["val/error_km_mean"].argmin())]
        parts: dict[str, Any] = {
            "format": results.FORMAT,
            "test": results.summarise_test(predictions, hits, self.region.diagonal_km),
            "val": {
                str(key)[4:]: float(value)
                for key, value in best.items()
                if str(key).startswith("val/") and not math.isnan(value)
            },
            "baseline": baselines,
            "uncertainty": uncertainty,
            "budget": compute_budget(
                error_km=error_km,
                test_deg=self.data.coords_deg[index],
                train_deg=self.data.train_coords_deg,
                region=self.region,
                grid=head.grid,
                output=said,
            ),
            "grid": results.summarise_grid(head.grid, asked, self.data.coords_deg[index]),
            "counts": results.count_places(self.data),
            "parameters": self._parameters(),
            "best_epoch": int(best["epoch"]),  # from 0, as in metrics.csv and finetune.stages
            "epochs": int(history["epoch"].max()) + 1,
        }
        return parts, history, predictions

    def _said(self, name: str, rows: Any, answers_deg: FloatArray | None = None) -> HeadOutput:
        """What the network says of these rows of a split, which are ascending like the loader's."""
        outputs = compute_outputs(self.network, self.data.loader(name, whole=True))
        positions = np.searchsorted(outputs.rows.numpy(), rows)
        device = next(self.network.head.parameters()).device
        return decode_output(self.network.head, outputs.out[positions].to(device), answers_deg)

    def _uncertainty(
        self, said: HeadOutput, index: Any, error_km: FloatArray
    ) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The part of result.json, and what is known of each test place; calibrates first."""
        rows, grid = self.data.rows["calibration"], self.network.head.grid
        if len(rows) == 0:
            val_places = int((self.data.table["split"] == "val").sum())
            return sureness.explain_missing_calibration(**self.held_out, val_places=val_places), {}
        held = self._said("calibration", rows)
        coords_deg = self.data.coords_deg[rows]
        cell = None if grid is None else grid.assign(coords_deg)
        self.calibration = Calibration.fit(held, cell, haversine_km(held.answers_deg, coords_deg))
        true_cell = None if grid is None else grid.assign(self.data.coords_deg[index])
        known = self.calibration.describe_places(said, true_cell)
        return sureness.summarise_uncertainty(self.calibration, known, said, true_cell, error_km), known

    def baselines(self, test_index: Any) -> dict[str, Any]:
        """The part of result.json on what needs no training.

        Args:
            test_index: (N,) the rows of the places that were tested.
        """
        train, diagonal = self.data.rows["train"], self.region.diagonal_km
        train_deg, test_deg = self.data.coords_deg[train], self.data.coords_deg[test_index]
        thumbnails = self.data.thumbnails
        found: dict[str, Any] = {
            "best_constant": baselines.evaluate_constant(train_deg, test_deg, diagonal),
            "nearest": baselines.evaluate_nearest_views(
                train_deg, test_deg, thumbnails[train], thumbnails[test_index], diagonal
            ),
            "nearest_features": None,
            "ridge": None,
        }
        if self.data.features is not None:
            val = self.data.rows["val"]
            pooled = baselines.pool_views(self.data.features, self.data.mask)
            own, val_own, test_own = baselines.standardise(*(pooled[rows] for rows in (train, val, test_index)))
            found["nearest_features"] = baselines.evaluate_nearest_features(
                train_deg, test_deg, own, test_own, diagonal
            )
            found["ridge"] = baselines.evaluate_ridge(
                train_deg, self.data.coords_deg[val], test_deg, (own, val_own, test_own), self.region
            )
        return found

    def _parameters(self) -> dict[str, int]:
        sizes = {"head": 0, "backbone": 0}
        for name, parameter in self.network.named_parameters():
            sizes["backbone" if name.startswith("backbone.") else "head"] += parameter.numel()
        learnt = sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)
        return {**sizes, "total": sum(sizes.values()), "learnt_at_end": learnt}

    def pictures(
        self,
        result: dict[str, Any],
        history: pd.DataFrame,
        predictions: pd.DataFrame,
        *,
        title: str,
        search: RateSearch | None,
    ) -> list[Path]:
        """Draws all pictures into the run folder.

        Returns:
            Their files.
        """
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        errors = predictions["error_km"].to_numpy()
        maps.draw_grid(
            folder / "grid.png",
            region=self.region,
            grid=self.network.head.grid,
            coords_deg=self.data.coords_deg,
            splits=np.asarray(self.data.table["split"]),
            title=title,
        )
        maps.draw_arrows(
            folder / "arrows.png",
            region=self.region,
            true_deg=predictions[["true_latitude", "true_longitude"]].to_numpy(),
            predicted_deg=predictions[["latitude", "longitude"]].to_numpy(),
            error_km=errors,
            title=title,
        )
        means = {
            name.replace("_", " "): entry["error_km_mean"] for name, entry in result["baseline"].items() if entry
        }
        plots.draw_errors(folder / "errors.png", error_km=errors, baselines=means, title=title)
        counted = history.assign(epoch=history["epoch"] + 1)  # people count from 1
        plots.draw_curves(folder / "curves.png", history=counted, best_epoch=result["best_epoch"] + 1, title=title)
        sureness_plots.draw_budget(folder / "budget.png", budget=result["budget"], title=title)
        if self.calibration is not None:
            sureness_plots.draw_calibration(
                folder / "calibration.png", uncertainty=result["uncertainty"], title=title
            )
        if result["uncertainty"].get("abstention") is not None:
            sureness_plots.draw_abstention(
                folder / "abstention.png", abstention=result["uncertainty"]["abstention"], title=title
            )
        if search is not None:
            plots.draw_rate_search(
                folder / "lr_find.png", rates=search.rates, losses=search.losses, chosen=search.chosen
            )
        return sorted(folder.glob("*.png"))
