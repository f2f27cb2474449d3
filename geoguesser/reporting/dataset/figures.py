"""Figures of a dataset's page: maps, charts and photos as HTML, each with the words that it needs.

Where there is nothing to show, a sentence says so. At most a dozen pairs and samples are read from files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from geoguesser.data.checks.duplicates import Match
from geoguesser.data.checks.leakage import compute_nearest_training_km
from geoguesser.data.places import get_coords, list_files
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import Prepared
from geoguesser.reporting import html as page
from geoguesser.reporting.dataset import plots as data_pictures
from geoguesser.reporting.dataset.samples import (
    list_reasons,
    load_sample_photos,
    make_views_row,
    pick_pairs,
    pick_samples,
)
from geoguesser.reporting.dataset.summary import format_bytes, make_split_rows
from geoguesser.reporting.html import Html, tag
from geoguesser.reporting.maps import SPLIT_COLOURS, SPLIT_NAMES
from geoguesser.reporting.projections import make_projection
from geoguesser.system.text import format_count


class Figures:
    """The figures of one dataset.

    Args:
        prepared: What preparing found.
        data: The places, with their findings.
        folder: Where charts may be drawn before they are taken into the page.
    """

    def __init__(self, prepared: Prepared, data: PlacesDataModule, folder: Path) -> None:
        self.prepared, self.data, self.folder = prepared, data, folder
        self.coords_deg = get_coords(prepared.table)
        self.splits = np.asarray(prepared.table["split"])
        self.used = set(prepared.table["uuid"].astype(str))

    def maps_and_distances(self) -> list[Html]:
        """The places on a map, and enlarged where they are densest; how far they lie from training places."""
        key = [tag("li", format_split(row.name), f": {row.places:,}") for row in make_split_rows(self.prepared)]
        return [
            tag("ul", *key, class_="key"),
            tag("div", *self._maps(), self._distances(), class_="pair"),
        ]

    def _maps(self) -> list[Html]:
        region, coords, splits = self.data.region, self.coords_deg, self.splits
        window = data_pictures.find_densest_window(region, coords)
        places = format_count(len(coords), "place")
        whole = self._chart(
            lambda path: data_pictures.draw_places(
                path, region=region, coords_deg=coords, splits=splits, window=window
            ),
            alt=f"Map of {region.name} with {places}, coloured by split",
            caption=f"All {places}." if window is None else f"All {places}; the next map enlarges the frame.",
        )
        if window is None:
            return [whole]
        inside = format_count(
            int(data_pictures.select_window(make_projection(region).project(coords), window).sum()), "place"
        )
        detail = self._chart(
            lambda path: data_pictures.draw_window(
                path, region=region, coords_deg=coords, splits=splits, window=window
            ),
            alt=f"Map of the densest part, with {inside}, coloured by split",
            caption=f"Where places are densest: {inside}.",
        )
        return [whole, detail]

    def _distances(self) -> Html:
        distance_km = compute_nearest_training_km(self.coords_deg, self.splits)
        tested = np.isfinite(distance_km) & np.isin(self.splits, ("val", "test"))
        if not tested.any():
            return tag("p", "There is no validation or test place to measure from.", class_="muted")
        return self._chart(
            lambda path: data_pictures.draw_distances(path, distance_km=distance_km, splits=self.splits),
            alt="Share of validation and test places within each distance of the nearest training place",
            caption="What lies beside a training place is mostly seen already: the further to the right these "
            "curves rise, the more a test says of new places.",
        )

    def samples(self) -> list[Html]:
        """A few places of each split, with their views."""
        table, mask, state = self.prepared.table, self.prepared.mask, self.prepared.facts.views["state"]
        rows = pick_samples(self.splits, mask)
        cards = []
        for row, own in zip(rows, list_files(table.iloc[rows]), strict=True):
            uuid = str(table["uuid"].iloc[row])
            photos = load_sample_photos(own, self.data.image.fit, list_reasons(state[row], mask[row]))
            words = tag("figcaption", tag("code", uuid), format_split(self.splits[row]), class_="side")
            cards.append(tag("figure", make_views_row(photos, uuid), words, class_="card"))
        return [tag("div", *cards, class_="pair")]

    def distributions(self) -> list[Html]:
        """How bright views are, and how large their files."""
        facts = self.prepared.facts
        used = self.prepared.mask
        if not used.any():
            return []
        sizes = facts.views["bytes"][used].astype(np.int64)
        luma = data_pictures.compute_brightness(facts.sums, self.prepared.specs[0].size)
        means = ", ".join(
            f"{SPLIT_NAMES.get(name, name)} {luma[own][used[own]].mean():.0f}"
            for name in ("train", "val", "test")
            if used[own := self.splits == name].any()
        )
        median = data_pictures.format_kb(float(np.median(sizes)) / 1000)
        charts = [
            self._chart(
                lambda path: data_pictures.draw_brightness(path, luma=luma, mask=used, splits=self.splits),
                alt=f"Histograms of the brightness of views by split; means of 255: {means}",
                caption="Brightness of views. Splits that differ may come from other cameras, hours or seasons.",
            ),
            self._chart(
                lambda path: data_pictures.draw_file_sizes(path, file_bytes=sizes),
                alt=f"Histogram of the sizes of image files, median {median}",
                caption=f"Sizes of {format_count(len(sizes), 'image file')}, {format_bytes(int(sizes.sum()))} in all.",
            ),
        ]
        return [tag("div", *charts, class_="pair")]

    def duplicates(self) -> list[Html]:
        """Pairs of places that are the same, of as many kinds as there are."""
        matches = self.prepared.matches
        if not matches:
            return [
                tag("p", "No two places are the same by panorama, image, look or coordinates.", class_="muted")
            ]
        pairs = pick_pairs(matches)
        shown = "" if len(pairs) == len(matches) else f", {len(pairs)} of them shown"
        lead = tag("p", f"{format_count(len(matches), 'pair')}{shown}.", class_="muted")
        return [lead, tag("div", *map(self._pair, pairs), class_="pair")]

    def _pair(self, match: Match) -> Html:
        """Both places of a pair, the earlier one above."""
        both = self.prepared.seen.iloc[[match.earlier, match.row]]
        content: list[Html] = [tag("h3", match.kind)]
        for uuid, own in zip(both["uuid"].astype(str), list_files(both), strict=True):
            fate = ", used" if uuid in self.used else ", left out"
            content.append(tag("div", tag("code", uuid), fate, class_="small below"))
            content.append(make_views_row(load_sample_photos(own, self.data.image.fit), uuid))
        content.append(tag("figcaption", f"The lower one {match.reason} the upper one."))
        return tag("figure", *content, class_="card")

    def _chart(self, draw: Callable[[Path], None], *, alt: str, caption: str) -> Html:
        path = self.folder / "chart.png"
        draw(path)
        return tag("figure", page.image(path.read_bytes(), alt=alt, class_="chart"), tag("figcaption", caption))


def format_split(name: str) -> Html:
    """A split's name beside a dot of its colour."""
    dot = tag("span", class_="dot", style=f"background:{SPLIT_COLOURS[name]}")
    return tag("span", dot, SPLIT_NAMES.get(name, name), class_="name")
