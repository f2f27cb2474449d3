"""Page of a sweep in W&B: differences between its runs, their errors, and the maps of the best run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from geoguesser.errors import ConfigError

VAL_ERROR, TEST_ERROR = "val/error_km_mean", "test/error_km_mean"
CELL_COUNT = "grid/hold_training_places"

# Parallel coordinates are hard to read with more axes.
MAX_AXES = 8


class SweepRun(NamedTuple):
    """Run of a sweep in W&B, with the columns of its config and summary by dotted key."""

    id: str
    name: str
    config: dict[str, Any]
    summary: dict[str, Any]


def load_reports_package() -> Any:
    """Imports W&B's package for pages.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        # The package warns about its own use of pydantic.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from wandb_workspaces.reports import v2
    except ImportError as error:
        raise ConfigError(
            "The dashboard needs W&B's package wandb-workspaces. "
            "Install the extra: pip install 'geoguesser[dashboard]'"
        ) from error
    return v2


def find_varied_keys(runs: Sequence[SweepRun]) -> list[str]:
    """Returns the config keys that differ between runs, choices of groups first.

    Of keys that divide the runs in the same way, such as a head and its own values, only the first is returned.
    """
    keys = {key for run in runs for key in run.config}
    varied: list[str] = []
    partitions: set[tuple[int, ...]] = set()

    for key in sorted(keys, key=lambda key: (not key.startswith("choice."), key)):
        values = [json.dumps(run.config.get(key), sort_keys=True) for run in runs]

        # Runs with equal values get the number of the first of them; all zeros means that all values are equal.
        partition = tuple(values.index(value) for value in values)
        if any(partition) and partition not in partitions:
            partitions.add(partition)
            varied.append(key)
    return varied


def find_best_run(runs: Sequence[SweepRun]) -> SweepRun | None:
    """Returns the completed run with the lowest validation error; the test error is not used for the choice."""
    completed = [
        run for run in runs if isinstance(run.summary.get(VAL_ERROR), int | float) and TEST_ERROR in run.summary
    ]
    return min(completed, key=lambda run: float(run.summary[VAL_ERROR]), default=None)


def make_report(
    runs: Sequence[SweepRun], group: str, *, entity: str, project: str, title: str | None = None
) -> Any:
    """Makes the page without saving it: parallel coordinates, errors by cells, curves, table and maps."""
    reports = load_reports_package()
    keys = find_varied_keys(runs)[:MAX_AXES]
    runset = _make_runset(reports, entity, project, group=group, keys=keys)
    blocks = [
        reports.H2("Differences between the runs, and their errors"),
        reports.PanelGrid(runsets=[runset], panels=_make_comparison(reports, runs, keys)),
        reports.H2("Learning curves"),
        reports.PanelGrid(runsets=[runset], hide_run_sets=True, panels=_make_curves(reports)),
    ]

    best = find_best_run(runs)
    if best is not None:
        val_km, test_km = best.summary[VAL_ERROR], best.summary[TEST_ERROR]
        best_runset = _make_runset(reports, entity, project, group=group, keys=keys, run=best)
        blocks += [
            reports.H2("Best run by validation error"),
            reports.P(f"{best.name}: validation {val_km:.1f} km, test {test_km:.1f} km"),
            reports.PanelGrid(runsets=[best_runset], hide_run_sets=True, panels=_make_maps(reports)),
        ]

    return reports.Report(
        entity=entity,
        project=project,
        title=(title or f"Sweep {group}")[:128],
        description=f"{len(runs)} runs. Errors are great-circle distances in km.",
        blocks=blocks,
        width="fluid",
    )


def _make_runset(
    reports: Any, entity: str, project: str, *, group: str, keys: list[str], run: SweepRun | None = None
) -> Any:
    """Makes the set of all runs of a group, or of a single run."""
    from wandb_workspaces import expr

    filters = [expr.Metric("Group") == group]
    if run is not None:
        filters.append(expr.Metric("ID") == run.id)

    # W&B's tables name the config key `grid.size` as `grid.value.size`.
    parts = [key.partition(".") for key in keys]
    columns = ["run:displayName", "run:state", "summary:outcome", f"summary:{VAL_ERROR}", f"summary:{TEST_ERROR}"]
    columns += [f"config:{first}.value{dot}{rest}" for first, dot, rest in parts]
    return reports.Runset(
        entity=entity,
        project=project,
        name=group if run is None else "best run",
        filters=expr.And(*filters),
        order=[reports.OrderBy(reports.SummaryMetric(VAL_ERROR), ascending=True)],
        pinned_columns=columns,
    )


def _make_comparison(reports: Any, runs: Sequence[SweepRun], keys: list[str]) -> list[Any]:
    column = reports.ParallelCoordinatesPlotColumn
    axes = [column(metric=reports.Config(key), display_name=key.removeprefix("choice.")) for key in keys]
    axes += [column(metric=reports.SummaryMetric(name), display_name=name) for name in (VAL_ERROR, TEST_ERROR)]
    panels = [reports.ParallelCoordinatesPlot(title="Choices and errors", columns=axes)]
    panels[0].layout = reports.Layout(x=0, y=0, w=24, h=10)

    if any(CELL_COUNT in run.summary for run in runs):
        x, y = reports.SummaryMetric(CELL_COUNT), reports.SummaryMetric(TEST_ERROR)
        layout = reports.Layout(x=0, y=10, w=12, h=8)
        panels.append(reports.ScatterPlot(title="Test error by the number of cells", x=x, y=y, layout=layout))

    bars = reports.BarPlot(title="Test error, km", metrics=[reports.Metric(TEST_ERROR)])
    bars.layout = reports.Layout(x=12, y=10, w=12, h=8)
    return [*panels, bars]


def _make_curves(reports: Any) -> list[Any]:
    curves = {"Validation error, km": [VAL_ERROR], "Loss in training and validation": ["train/loss", "val/loss"]}
    layouts = [reports.Layout(x=x, y=0, w=12, h=8) for x in (0, 12)]
    return [
        reports.LinePlot(title=title, x="epoch", y=metrics, title_x="epoch", layout=layout)
        for (title, metrics), layout in zip(curves.items(), layouts, strict=True)
    ]


def _make_maps(reports: Any) -> list[Any]:
    maps = {"Errors on the map": "pictures/arrows", "The grid": "pictures/grid"}
    layouts = [reports.Layout(x=x, y=0, w=12, h=14) for x in (0, 12)]
    return [
        reports.MediaBrowser(title=title, media_keys=[key], num_columns=1, layout=layout)
        for (title, key), layout in zip(maps.items(), layouts, strict=True)
    ]
