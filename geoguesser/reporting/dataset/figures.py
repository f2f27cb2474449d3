"""Pictures and photos of a dataset's page, as values of its template."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoguesser.data.checks.leakage import compute_nearest_training_km
from geoguesser.data.places import get_coords, list_files
from geoguesser.data.sample_photos import list_skip_reasons, load_sample_photos
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.reporting.dataset import plots
from geoguesser.reporting.dataset.samples import pick_pairs, pick_samples
from geoguesser.reporting.html import draw_data_uri
from geoguesser.reporting.maps import SPLIT_NAMES
from geoguesser.reporting.projections import make_projection
from geoguesser.system.text import format_bytes


def make_figures(prepared: PreparedDataset, data: PlacesDataModule) -> dict[str, Any]:
    """Draws the pictures and reads the photos of a dataset's page.

    Pictures are data URIs, empty if there is nothing to show; `window` is the densest part of the map.
    """
    return {
        **_draw_maps(prepared, data),
        "distances": _draw_distances(prepared),
        "samples": _read_samples(prepared, data),
        "views": _draw_views(prepared),
        "pairs": _read_pairs(prepared, data),
    }


def _draw_maps(prepared: PreparedDataset, data: PlacesDataModule) -> dict[str, Any]:
    region, coords, splits = data.region, get_coords(prepared.table), np.asarray(prepared.table["split"])
    window = plots.find_densest_window(region, coords)
    values: dict[str, Any] = {"region": region, "coords_deg": coords, "splits": splits, "window": window}

    maps = {"map": draw_data_uri(plots.draw_places, **values), "window": "", "window_places": 0}
    if window is not None:
        inside = plots.select_window(make_projection(region).project(coords), window)
        maps |= {"window": draw_data_uri(plots.draw_window, **values), "window_places": int(inside.sum())}
    return maps


def _draw_distances(prepared: PreparedDataset) -> str:
    splits = np.asarray(prepared.table["split"])
    distance_km = compute_nearest_training_km(get_coords(prepared.table), splits)
    tested = np.isfinite(distance_km) & np.isin(splits, ("val", "test"))
    if not tested.any():
        return ""
    return draw_data_uri(plots.draw_distances, distance_km=distance_km, splits=splits)


def _draw_views(prepared: PreparedDataset) -> dict[str, Any] | None:
    used, splits = prepared.mask, np.asarray(prepared.table["split"])
    if not used.any():
        return None

    sizes = prepared.image_stats.views["bytes"][used].astype(np.int64)
    luma = plots.compute_brightness(prepared.image_stats.sums, prepared.specs[0].size)
    means = [
        f"{SPLIT_NAMES.get(name, name)} {luma[rows][used[rows]].mean():.0f}"
        for name in ("train", "val", "test")
        if used[rows := splits == name].any()
    ]
    return {
        "brightness": draw_data_uri(plots.draw_brightness, luma=luma, mask=used, splits=splits),
        "means": ", ".join(means),
        "sizes": draw_data_uri(plots.draw_file_sizes, file_bytes=sizes),
        "median": plots.format_kb(float(np.median(sizes)) / 1000),
        "count": len(sizes),
        "total": format_bytes(int(sizes.sum())),
    }


def _read_samples(prepared: PreparedDataset, data: PlacesDataModule) -> list[dict[str, Any]]:
    mask, state = prepared.mask, prepared.image_stats.views["state"]
    rows = pick_samples(np.asarray(prepared.table["split"]), mask)
    table = prepared.table.iloc[rows]

    samples = []
    columns = zip(rows, table["uuid"].astype(str), table["split"], list_files(table), strict=True)
    for row, uuid, split, files in columns:
        photos = load_sample_photos(files, data.image.fit, list_skip_reasons(state[row], mask[row]))
        samples.append({"uuid": uuid, "split": split, "photos": photos})
    return samples


def _read_pairs(prepared: PreparedDataset, data: PlacesDataModule) -> list[dict[str, Any]]:
    used = set(prepared.table["uuid"].astype(str))
    pairs = []

    for match in pick_pairs(prepared.matches):
        rows = prepared.input_table.iloc[[match.earlier, match.row]]
        places = [
            {"uuid": uuid, "used": uuid in used, "photos": load_sample_photos(files, data.image.fit)}
            for uuid, files in zip(rows["uuid"].astype(str), list_files(rows), strict=True)
        ]
        pairs.append({"match": match, "places": places})
    return pairs
