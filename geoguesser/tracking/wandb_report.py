"""What a sweep's page in W&B shows: where its runs differ, the errors that came of it, and the best run's maps."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from geoguesser.errors import ConfigError

VAL_ERROR, TEST_ERROR = "val/error_km_mean", "test/error_km_mean"
CELL_COUNT = "grid/hold_training_places"
MAX_AXES = 8  # of parallel coordinates, that they can be read


class SweepRun(NamedTuple):
    """What W&B knows of one run: its id, its name, and the columns of its config and summary, by dotted key."""

    id: str
    name: str
    config: dict[str, Any]
    summary: dict[str, Any]


def load_reports_package() -> Any:
    """W&B's package for pages.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own use of pydantic, which no user can mend
            from wandb_workspaces.reports import v2
    except ImportError as error:
        raise ConfigError(
            "The dashboard needs W&B's package wandb-workspaces. "
            "Install the extra: pip install 'geoguesser[dashboard]'"
        ) from error
    return v2


def find_varied_keys(runs: Sequence[SweepRun]) -> list[str]:
    """The config keys that tell the runs apart, groups' choices first.

    Of keys that part the runs in the same way (a head and the values that came with it) only the first stays.
    """
    keys = {key for run in runs for key in run.config}
    found: list[str] = []
    ways: set[tuple[int, ...]] = set()
    for key in sorted(keys, key=lambda key: (not key.startswith("choice."), key)):
        values = [json.dumps(run.config.get(key), sort_keys=True) for run in runs]
        way = tuple(values.index(value) for value in values)
        if any(way) and way not in ways:
            ways.add(way)
            found.append(key)
    return found


def find_best_run(runs: Sequence[SweepRun]) -> SweepRun | None:
    """The run that came to its end with the lowest validation error: the test error must not choose."""
    ended = [
        run for run in runs if isinstance(run.summary.get(VAL_ERROR), int | float) and TEST_ERROR in run.summary
    ]
    return min(ended, key=lambda run: float(run.summary[VAL_ERROR]), default=None)


def make_report(
    runs: Sequence[SweepRun], group: str, *, entity: str, project: str, title: str | None = None
) -> Any:
    """The page, not yet saved: parallel coordinates, error by cells, curves, table, the best run's maps.

    Args:
        runs: The runs of the group.
        group: The sweep's name.
        entity: W&B's user or team.
        project: W&B's project.
        title: The page's title; None for the sweep's name.
    """
    reports = load_reports_package()
    first, keys = find_best_run(runs), find_varied_keys(runs)[:MAX_AXES]
    every = _runset(reports, entity, project, group=group, keys=keys)
    blocks = [
        reports.H2("What differs, and the error that came of it"),
        reports.PanelGrid(runsets=[every], panels=_comparison(reports, runs, keys)),
        reports.H2("Learning curves"),
        reports.PanelGrid(runsets=[every], hide_run_sets=True, panels=_curves(reports)),
    ]
    if first is not None:
        only = _runset(reports, entity, project, group=group, keys=keys, run=first)
        blocks += [
            reports.H2("The best run by validation error"),
            reports.P(
                f"{first.name}: validation {first.summary[VAL_ERROR]:.1f} km, test {first.summary[TEST_ERROR]:.1f} km"
            ),
            reports.PanelGrid(runsets=[only], hide_run_sets=True, panels=_maps(reports)),
        ]
    return reports.Report(
        entity=entity,
        project=project,
        title=(title or f"Sweep {group}")[:128],
        description=f"{len(runs)} runs. Errors are great-circle distances in km.",
        blocks=blocks,
        width="fluid",
    )


def _runset(
    reports: Any, entity: str, project: str, *, group: str, keys: list[str], run: SweepRun | None = None
) -> Any:
    from wandb_workspaces import expr

    filters = [expr.Metric("Group") == group]
    if run is not None:
        filters.append(expr.Metric("ID") == run.id)
    columns = [f"config:{_backend(key)}" for key in keys]
    return reports.Runset(
        entity=entity,
        project=project,
        name=group if run is None else "best run",
        filters=expr.And(*filters),
        order=[reports.OrderBy(reports.SummaryMetric(VAL_ERROR), ascending=True)],
        pinned_columns=[
            "run:displayName",
            "run:state",
            "summary:outcome",
            f"summary:{VAL_ERROR}",
            f"summary:{TEST_ERROR}",
            *columns,
        ],
    )


def _backend(key: str) -> str:
    """`grid.size` as W&B's tables have it: `grid.value.size`."""
    first, _, rest = key.partition(".")
    return f"{first}.value.{rest}" if rest else f"{first}.value"


def _comparison(reports: Any, runs: Sequence[SweepRun], keys: list[str]) -> list[Any]:
    axis = reports.ParallelCoordinatesPlotColumn
    axes = [axis(metric=reports.Config(key), display_name=key.removeprefix("choice.")) for key in keys]
    errors = [axis(metric=reports.SummaryMetric(name), display_name=name) for name in (VAL_ERROR, TEST_ERROR)]
    panels = [
        reports.ParallelCoordinatesPlot(
            title="Choices and errors", columns=axes + errors, layout=reports.Layout(x=0, y=0, w=24, h=10)
        )
    ]
    if any(CELL_COUNT in run.summary for run in runs):
        panels.append(
            reports.ScatterPlot(
                title="Test error by the number of cells",
                x=reports.SummaryMetric(CELL_COUNT),
                y=reports.SummaryMetric(TEST_ERROR),
                layout=reports.Layout(x=0, y=10, w=12, h=8),
            )
        )
    bars = reports.BarPlot(title="Test error, km", metrics=[reports.Metric(TEST_ERROR)])
    bars.layout = reports.Layout(x=12, y=10, w=12, h=8)
    return [*panels, bars]


def _curves(reports: Any) -> list[Any]:
    shown = (
        ("Validation error, km", [VAL_ERROR]),
        ("Loss in training and validation", ["train/loss", "val/loss"]),
    )
    return [
        reports.LinePlot(
            title=title,
            x="epoch",
            y=measures,
            title_x="epoch",
            layout=reports.Layout(x=12 * place, y=0, w=12, h=8),
        )
        for place, (title, measures) in enumerate(shown)
    ]


def _maps(reports: Any) -> list[Any]:
    shown = (("Errors on the map", "pictures/arrows"), ("The grid", "pictures/grid"))
    return [
        reports.MediaBrowser(
            title=title, media_keys=[key], num_columns=1, layout=reports.Layout(x=12 * place, y=0, w=12, h=14)
        )
        for place, (title, key) in enumerate(shown)
    ]
