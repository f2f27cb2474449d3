"""All pictures of a report, drawn into the run's folder one after the other; and what is missing, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from geoguesser.arrays import FloatArray
from geoguesser.errors import CheckpointError
from geoguesser.model import attribution
from geoguesser.model.attribution import Activation
from geoguesser.reporting import maps
from geoguesser.reporting.explanation import maps as explain_maps
from geoguesser.reporting.explanation import place_plots as explain_places
from geoguesser.reporting.explanation.coverage_plot import compute_coverage, draw_coverage
from geoguesser.reporting.explanation.headings_plot import compute_heading_errors, draw_headings
from geoguesser.reporting.explanation.network_plot import draw_filters, draw_network, list_parts
from geoguesser.reporting.explanation.subject import IMAGES_MISSING, Subject, make_labelled_output
from geoguesser.reporting.explanation.text import (
    BARS_CAPTION,
    BARS_LEGEND,
    MOVED_CAPTION,
    PICTURE_TEXTS,
    PictureText,
    describe_confusion,
)
from geoguesser.reporting.run import uncertainty_plots as sureness_plots
from geoguesser.runs.run_images import load_pixels
from geoguesser.system.text import format_km, shorten

EXTREMES = 3  # of the best, and of the worst
OWN = ("posterior_*.png", "activation_*.png")  # of an earlier report with more examples

Draw = Callable[[Path], None]


@dataclass(frozen=True)
class DrawnPicture:
    """One picture.

    Attributes:
        file: The PNG.
        part: The part of the page where it stands.
        words: What it is, and how to read it.
        photos: Whether it holds photographs, which are smaller as JPEG.
        wide: Whether it is made for a wide screen.
    """

    file: Path
    part: str
    words: PictureText
    photos: bool = False
    wide: bool = False


@dataclass
class Gallery:
    """What was drawn and what was not.

    Attributes:
        drawn: The pictures, in order.
        missing: What is missing -> why.
    """

    drawn: list[DrawnPicture] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def draw_gallery(subject: Subject, folder: Path, *, title: str, neighbours: bool) -> Gallery:
    """Draws all pictures that the run has something for.

    Args:
        subject: The run and its places.
        folder: Where to; pictures that the run drew itself stay as they are.
        title: Of those that it did not.
        neighbours: Whether cells that touch count as confused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in OWN:
        for old in folder.glob(pattern):
            old.unlink()
    gallery = Gallery()
    plan = list(_Plan(subject, gallery, title, neighbours).all())
    with tqdm(plan, desc="drawing", unit=" pictures", disable=None) as bar:
        for drawn, draw, kept in bar:
            path = folder / drawn.file
            if not (kept and path.is_file()):
                draw(path)
            gallery.drawn.append(DrawnPicture(path, drawn.part, drawn.words, drawn.photos, drawn.wide))
    return gallery


Planned = tuple[DrawnPicture, Draw, bool]  # the picture, how it is drawn, whether one that is there is kept


class _Plan:
    """Which pictures a run has something for."""

    def __init__(self, subject: Subject, gallery: Gallery, title: str, neighbours: bool) -> None:
        self.subject, self.missing, self.title, self.neighbours = subject, gallery.missing, title, neighbours
        self.result = subject.run.result

    def all(self) -> Iterator[Planned]:
        yield from self._places()
        yield from self._errors()
        yield from self._sureness()
        yield from self._looking()
        yield from self._network()

    def _one(
        self, name: str, part: str, draw: Draw, *, file: str = "", words: PictureText | None = None, **more: bool
    ) -> Planned:
        kept = more.pop("kept", False)
        drawn = DrawnPicture(Path(f"{file or name}.png"), part, words or PICTURE_TEXTS[name], **more)
        return drawn, draw, kept

    def _places(self) -> Iterator[Planned]:
        subject = self.subject
        if subject.looked is None:
            self.missing["views, posteriors and activation maps"] = IMAGES_MISSING
        elif len(subject.looked.at) < len(subject.table):
            lost = len(subject.table) - len(subject.looked.at)
            self.missing["views of some places"] = (
                f"The images of {lost:,} of {len(subject.table):,} are not there."
            )
        yield self._one("extremes", "places", self._draw_extremes, photos=True)
        for number, row in enumerate(subject.examples, start=1):
            if row in subject.seats:
                draw, file = partial(self._draw_posterior, row=row), f"posterior_{number}"
                words = self._of("answer" if subject.grid is None else "posterior", row)
                yield self._one("posterior", "places", draw, file=file, words=words, photos=True)
        if subject.grid is None:
            self.missing["posteriors, confusion, activation maps"] = (
                "The head has no cells: it answers with a point alone."
            )
        shown = next((row for row in subject.examples[len(subject.examples) // 2 :] if row in subject.seats), None)
        if shown is not None:
            yield self._one("quadruplet", "places", partial(self._draw_quadruplet, row=shown), photos=True)

    def _of(self, name: str, row: int) -> PictureText:
        words, sight = PICTURE_TEXTS[name], self.subject.sight(row)
        return words._replace(title=f"{words.title}: {shorten(sight.name, 40)}, {format_km(sight.error_km)} off")

    def _draw_extremes(self, path: Path) -> None:
        subject, count = self.subject, len(self.subject.table)
        best = min(EXTREMES, -(-count // 2))
        worst = min(EXTREMES, count - best)
        groups = [("Best", [subject.sight(row) for row in range(best)])]
        if worst:
            groups.append(("Worst", [subject.sight(count - 1 - row) for row in range(worst)]))
        explain_places.draw_extremes(path, region=subject.region, groups=groups)

    def _draw_posterior(self, path: Path, row: int) -> None:
        subject = self.subject
        assert subject.looked is not None
        posterior = subject.looked.answers.posterior
        own = None if posterior is None else posterior[subject.seats[row]]
        explain_places.draw_posterior(
            path, region=subject.region, grid=subject.grid, posterior=own, sight=subject.sight(row)
        )

    def _draw_quadruplet(self, path: Path, row: int) -> None:
        explain_places.draw_quadruplet(path, region=self.subject.region, sight=self.subject.sight(row))

    def _errors(self) -> Iterator[Planned]:
        subject, region, predictions = self.subject, self.subject.region, self.subject.run.predictions
        error_km = predictions["error_km"].to_numpy(dtype=np.float64)
        true_deg = predictions[["true_latitude", "true_longitude"]].to_numpy(dtype=np.float64)
        answers_deg = predictions[["latitude", "longitude"]].to_numpy(dtype=np.float64)
        draw: Draw = partial(
            maps.draw_arrows,
            region=region,
            true_deg=true_deg,
            predicted_deg=answers_deg,
            error_km=error_km,
            title=self.title,
        )
        yield self._one("arrows", "errors", draw, wide=True, kept=True)
        if self.result.get("budget"):
            draw = partial(sureness_plots.draw_budget, budget=self.result["budget"], title=self.title)
            yield self._one("budget", "errors", draw, wide=True, kept=True)
        fields = explain_maps.compute_fields(region, true_deg, error_km)
        if len(fields.ids):
            yield self._one("fields", "errors", partial(explain_maps.draw_fields, region=region, fields=fields))
        answered = subject.answered()
        if subject.grid is not None and answered is None:
            self.missing["confusion"] = IMAGES_MISSING
        elif subject.grid is not None and answered is not None:
            rows, cells = answered
            own = subject.grid.assign(subject.true_deg[rows])
            found = explain_maps.compute_confusion(subject.grid, own, cells, neighbours=self.neighbours)
            if len(found.pairs):
                draw = partial(explain_maps.draw_confusion, region=region, grid=subject.grid, confusion=found)
                yield self._one("confusion", "errors", draw, words=describe_confusion(found))

    def _sureness(self) -> Iterator[Planned]:
        subject, known = self.subject, self.result.get("uncertainty") or {}
        if known.get("calibration_places"):
            draw = partial(sureness_plots.draw_calibration, uncertainty=known, title=self.title)
            yield self._one("calibration", "sureness", draw, wide=True, kept=True)
        else:
            why = known.get("reason") or "The run has no calibration places."
            self.missing["calibration and abstention"] = str(why)
        if known.get("abstention"):
            draw = partial(sureness_plots.draw_abstention, abstention=known["abstention"], title=self.title)
            yield self._one("abstention", "sureness", draw, wide=True, kept=True)
        if subject.looked is None:
            self.missing["coverage at every level"] = IMAGES_MISSING
            return
        test = make_labelled_output(subject.looked, subject.true_deg[subject.looked.at], subject.grid)
        calibration = subject.locator.uncertainty
        held = compute_coverage(test, subject.held_out, None if calibration is None else calibration.temperature)
        if subject.held_out is None and calibration is not None:
            self.missing["coverage of sets and radii at every level"] = "No image of a calibration place is there."
        if held:
            draw = partial(draw_coverage, held=held, places=len(subject.looked.at))
            yield self._one("coverage", "sureness", draw)

    def _looking(self) -> Iterator[Planned]:
        subject = self.subject
        if subject.looked is None or subject.left_out is None:
            return
        seats = subject.looked.at
        found = compute_heading_errors(subject.left_out, subject.true_deg[seats], subject.error_km[seats])
        if np.isfinite(found["moved_km"][0]).any():
            yield self._one("headings", "looking", partial(draw_headings, found=found))
        if subject.grid is None:
            return
        for number, row in enumerate(subject.examples, start=1):
            if row not in subject.seats:
                continue
            try:
                own = self._activation(row)
            except CheckpointError as error:
                self.missing["class-activation maps"] = str(error)
                return
            words = self._of(own.method, row)
            bars = BARS_CAPTION[attribution.is_linear(subject.locator.network)]
            words = words._replace(caption=" ".join((words.caption, bars, MOVED_CAPTION)))
            draw = partial(self._draw_activation, row=row, found=own)
            yield self._one("activation", "looking", draw, file=f"activation_{number}", words=words, photos=True)

    def _activation(self, row: int) -> Activation:
        subject = self.subject
        pixels = load_pixels(str(subject.table["uuid"].iloc[row]), subject.sources, subject.locator.image)
        assert pixels is not None
        images, mask = (subject.on_device(torch.from_numpy(one)) for one in pixels)
        return attribution.compute_activation(subject.locator.network, images, mask)

    def _draw_activation(self, path: Path, row: int, found: Activation) -> None:
        subject, seat = self.subject, self.subject.seats[row]
        assert subject.left_out is not None
        explain_places.draw_activation(
            path,
            sight=subject.sight(row),
            maps=found.maps.cpu().double().numpy(),
            method=found.method,
            share=self._share(seat, found.cell),
            moved_km=subject.left_out.moved_km[seat].cpu().numpy(),
            bars=BARS_LEGEND[attribution.is_linear(subject.locator.network)],
        )

    def _share(self, seat: int, cell: int) -> FloatArray:
        """(4,) what each view adds to the cell's score; where fusion is not linear, what it loses without it."""
        subject = self.subject
        assert subject.looked is not None
        assert subject.left_out is not None
        features, mask = subject.looked.features[[seat]], subject.looked.mask[[seat]]
        values = attribution.compute_view_shares(
            subject.locator.network,
            subject.on_device(features),
            subject.on_device(mask),
            subject.on_device(torch.tensor([cell])),
        )
        if values is None and subject.left_out.lost is not None:
            values = subject.left_out.lost[[seat]]
        assert values is not None
        found = values[0].cpu().double().numpy()
        return np.where(mask[0].numpy(), found, np.nan)

    def _network(self) -> Iterator[Planned]:
        network = self.subject.locator.network
        parts = list_parts(network, self.subject.locator.image.size)
        yield self._one("network", "network", partial(draw_network, parts=parts))
        filters = attribution.get_first_filters(network)
        if filters is None:
            self.missing["filters of the first layer"] = "The backbone has no convolution that sees the pixels."
        else:
            yield self._one("filters", "network", partial(draw_filters, weights=filters.cpu().numpy()))
