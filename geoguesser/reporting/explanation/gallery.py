"""Gallery of a report: plans the pictures that a run has data for, then draws them one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from geoguesser.arrays import FloatArray
from geoguesser.errors import CheckpointError
from geoguesser.model import attribution
from geoguesser.reporting.explanation.coverage_plot import count_covered_places, draw_coverage
from geoguesser.reporting.explanation.headings_plot import compute_heading_effects, draw_headings
from geoguesser.reporting.explanation.maps import compute_confusion, compute_fields, draw_confusion, draw_fields
from geoguesser.reporting.explanation.network_plot import draw_filters, draw_network, list_parts
from geoguesser.reporting.explanation.place_plots import (
    draw_activation,
    draw_extremes,
    draw_posterior,
    draw_quadruplet,
)
from geoguesser.reporting.explanation.subject import IMAGES_MISSING, Subject, make_labelled_output
from geoguesser.reporting.explanation.text import (
    BARS_CAPTION,
    BARS_LEGEND,
    MOVED_CAPTION,
    PICTURE_TEXTS,
    PictureText,
    describe_confusion,
)
from geoguesser.reporting.maps import draw_arrows, get_points
from geoguesser.reporting.run.uncertainty_plots import draw_abstention, draw_budget, draw_calibration
from geoguesser.runs.run_images import load_pixels
from geoguesser.system.text import format_km, shorten

# Number of best places, and of worst places, in one picture.
EXTREMES = 3
# Files of an earlier report, which may have had more examples.
NUMBERED_FILES = ("posterior_*.png", "activation_*.png")

Draw = Callable[[Path], None]


@dataclass(frozen=True)
class Picture:
    """Picture of a report, in a section of `SECTIONS`.

    One with photographs is embedded as JPEG, which is smaller. With `keep`, an existing file stays, because the
    run drew the same picture.
    """

    file: Path
    section: str
    text: PictureText
    draw: Draw
    photos: bool = False
    wide: bool = False
    keep: bool = False


@dataclass
class Gallery:
    """Pictures of a report, and the reasons for missing ones."""

    pictures: list[Picture] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def draw_gallery(subject: Subject, folder: Path, *, title: str, neighbours: bool) -> Gallery:
    """Draws all pictures that the run has data for into a folder; pictures that the run drew stay unchanged.

    `neighbours` counts predictions of a touching cell as confusion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in NUMBERED_FILES:
        for old in folder.glob(pattern):
            old.unlink()

    planner = _Planner(subject, folder, title=title)
    planner.plan_places()
    planner.plan_errors(neighbours=neighbours)
    planner.plan_uncertainty()
    planner.plan_attribution()
    planner.plan_network()

    for picture in tqdm(planner.gallery.pictures, desc="drawing", unit=" pictures", disable=None):
        if not (picture.keep and picture.file.is_file()):
            picture.draw(picture.file)
    return planner.gallery


class _Planner:
    def __init__(self, subject: Subject, folder: Path, *, title: str) -> None:
        self.subject, self.folder, self.title = subject, folder, title
        self.gallery = Gallery()
        self.missing = self.gallery.missing

    def add(
        self,
        name: str,
        section: str,
        draw: Draw,
        *,
        file: str = "",
        text: PictureText | None = None,
        **flags: bool,
    ) -> None:
        """Adds a picture; file and text are those of its name if not given."""
        path = self.folder / f"{file or name}.png"
        self.gallery.pictures.append(Picture(path, section, text or PICTURE_TEXTS[name], draw, **flags))

    def add_run_picture(self, name: str, section: str, draw: Callable[..., None], **values: Any) -> None:
        self.add(name, section, partial(draw, title=self.title, **values), wide=True, keep=True)

    def make_place_text(self, name: str, row: int) -> PictureText:
        text, uuid = PICTURE_TEXTS[name], str(self.subject.table["uuid"].iloc[row])
        error_km = float(self.subject.error_km[row])
        return text._replace(title=f"{text.title}: {shorten(uuid, 40)}, {format_km(error_km)} off")

    def plan_places(self) -> None:
        subject = self.subject
        if subject.forward is None:
            self.missing["views, posteriors and activation maps"] = IMAGES_MISSING
        elif len(subject.forward.rows) < len(subject.table):
            lost, places = len(subject.table) - len(subject.forward.rows), len(subject.table)
            self.missing["views of some places"] = f"The images of {lost:,} of {places:,} places are missing."

        self.add("extremes", "places", partial(_draw_extremes, subject), photos=True)
        for number, row in enumerate(subject.examples, start=1):
            if row in subject.positions:
                text = self.make_place_text("prediction" if subject.grid is None else "posterior", row)
                draw = partial(_draw_posterior, subject, row)
                self.add("posterior", "places", draw, file=f"posterior_{number}", text=text, photos=True)
        if subject.grid is None:
            self.missing["posteriors, confusion, activation maps"] = "The head has no cells. It predicts points."

        # A place with a middling error, if its images are present.
        middle = [row for row in subject.examples[len(subject.examples) // 2 :] if row in subject.positions]
        if middle:
            draw = partial(draw_quadruplet, region=subject.region, place=subject.load_place(middle[0]))
            self.add("quadruplet", "places", draw, photos=True)

    def plan_errors(self, *, neighbours: bool) -> None:
        subject, region, points = self.subject, self.subject.region, get_points(self.subject.run.predictions)
        self.add_run_picture("arrows", "errors", draw_arrows, region=region, **points)
        if budget := subject.run.result.get("budget"):
            self.add_run_picture("budget", "errors", draw_budget, budget=budget)

        fields = compute_fields(region, points["true_deg"], points["error_km"])
        if len(fields.ids):
            self.add("fields", "errors", partial(draw_fields, region=region, fields=fields))

        if subject.grid is None:
            return
        if (predicted := subject.get_predicted_cells()) is None:
            self.missing["confusion"] = IMAGES_MISSING
            return
        rows, predicted_cell = predicted
        true_cell = subject.grid.assign(subject.true_deg[rows])
        confusion = compute_confusion(subject.grid, true_cell, predicted_cell, neighbours=neighbours)
        if len(confusion.pairs):
            draw = partial(draw_confusion, region=region, grid=subject.grid, confusion=confusion)
            self.add("confusion", "errors", draw, text=describe_confusion(confusion))

    def plan_uncertainty(self) -> None:
        subject, uncertainty = self.subject, self.subject.run.result.get("uncertainty") or {}
        if uncertainty.get("calibration_places"):
            self.add_run_picture("calibration", "sureness", draw_calibration, uncertainty=uncertainty)
        else:
            reason = uncertainty.get("reason") or "The run has no calibration places."
            self.missing["calibration and abstention"] = str(reason)
        if abstention := uncertainty.get("abstention"):
            self.add_run_picture("abstention", "sureness", draw_abstention, abstention=abstention)

        if subject.forward is None:
            self.missing["coverage at every level"] = IMAGES_MISSING
            return
        fitted = subject.predictor.uncertainty
        if subject.calibration is None and fitted is not None:
            reason = "The images of the calibration places are missing."
            self.missing["coverage of sets and radii at every level"] = reason
        test = make_labelled_output(subject.forward, subject.true_deg[subject.forward.rows], subject.grid)
        covered = count_covered_places(test, subject.calibration, None if fitted is None else fitted.temperature)
        if covered:
            draw = partial(draw_coverage, covered=covered, places=len(subject.forward.rows))
            self.add("coverage", "sureness", draw)

    def plan_attribution(self) -> None:
        subject = self.subject
        if subject.forward is None or subject.left_out is None:
            return
        rows = subject.forward.rows
        effects = compute_heading_effects(subject.left_out, subject.true_deg[rows], subject.error_km[rows])
        if np.isfinite(effects["shift_km"][0]).any():
            self.add("headings", "looking", partial(draw_headings, effects=effects))

        if subject.grid is None:
            return
        bars = BARS_CAPTION[subject.predictor.network.fusion.linear]
        for number, row in enumerate(subject.examples, start=1):
            if row not in subject.positions:
                continue
            try:
                activation = _compute_activation(subject, row)
            # Some backbones have no feature map.
            except CheckpointError as error:
                self.missing["class-activation maps"] = str(error)
                return
            text = self.make_place_text(activation.method, row)
            text = text._replace(caption=f"{text.caption} {bars} {MOVED_CAPTION}")
            draw = partial(_draw_activation, subject, row, activation)
            self.add("activation", "looking", draw, file=f"activation_{number}", text=text, photos=True)

    def plan_network(self) -> None:
        network = self.subject.predictor.network
        parts = list_parts(network, self.subject.predictor.image.size)
        self.add("network", "network", partial(draw_network, parts=parts))

        filters = attribution.get_first_filters(network)
        if filters is None:
            self.missing["filters of the first layer"] = "The backbone has no convolution of the pixels."
        else:
            self.add("filters", "network", partial(draw_filters, weights=filters.cpu().numpy()))


def _draw_extremes(subject: Subject, path: Path) -> None:
    count = len(subject.table)
    best = min(EXTREMES, -(-count // 2))
    groups = [("Best", [subject.load_place(row) for row in range(best)])]
    if worst := min(EXTREMES, count - best):
        groups.append(("Worst", [subject.load_place(count - 1 - row) for row in range(worst)]))
    draw_extremes(path, region=subject.region, groups=groups)


def _draw_posterior(subject: Subject, row: int, path: Path) -> None:
    assert subject.forward is not None
    posterior, place = subject.forward.predictions.posterior, subject.load_place(row)
    if posterior is not None:
        posterior = posterior[subject.positions[row]]
    draw_posterior(path, region=subject.region, grid=subject.grid, posterior=posterior, place=place)


def _compute_activation(subject: Subject, row: int) -> attribution.Activation:
    pixels = load_pixels(str(subject.table["uuid"].iloc[row]), subject.sources, subject.predictor.image)
    assert pixels is not None
    images, mask = (subject.to_device(torch.from_numpy(values)) for values in pixels)
    return attribution.compute_activation(subject.predictor.network, images, mask)


def _draw_activation(subject: Subject, row: int, activation: attribution.Activation, path: Path) -> None:
    assert subject.left_out is not None
    position = subject.positions[row]
    draw_activation(
        path,
        place=subject.load_place(row),
        maps=activation.maps.cpu().double().numpy(),
        method=activation.method,
        share=_compute_shares(subject, position, activation.cell),
        moved_km=subject.left_out.moved_km[position].cpu().numpy(),
        bars=BARS_LEGEND[subject.predictor.network.fusion.linear],
    )


def _compute_shares(subject: Subject, position: int, cell: int) -> FloatArray:
    """Returns (4,) shares of a cell's score, NaN for absent views; losses without a view for nonlinear fusion."""
    assert subject.forward is not None
    assert subject.left_out is not None
    mask = subject.forward.mask[[position]]
    inputs = map(subject.to_device, (subject.forward.features[[position]], mask, torch.tensor([cell])))
    values = attribution.compute_view_shares(subject.predictor.network, *inputs)
    if values is None and subject.left_out.lost is not None:
        values = subject.left_out.lost[[position]]

    assert values is not None
    return np.where(mask[0].numpy(), values[0].cpu().double().numpy(), np.nan)
