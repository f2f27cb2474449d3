"""Views for a comparison: the photos of a few places, from wherever the runs' data still lie.

A run records where its data were: roots, a store, or the demo's cache. What is no longer there is not shown,
and nothing is drawn or fetched for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg

from geoguesser.data.demo import demo_folder
from geoguesser.data.examine import PlaceFiles
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import names_in, views_folder
from geoguesser.data.store import Store, is_store
from geoguesser.errors import GeoguesserError
from geoguesser.geo.distance import FloatArray
from geoguesser.reporting.compare_groups import Group
from geoguesser.reporting.compared import Comparison, shared_places
from geoguesser.reporting.data_views import QUALITY, SHOWN_PX, Photo, read_photos


@dataclass(frozen=True)
class SpreadPlace:
    """A place on which the runs differ.

    Attributes:
        uuid: Its id.
        coords_deg: (2,) where it is.
        errors_km: (E,) the error of each entry of the comparison; NaN for one that was tested on other places.
        answers_deg: (E, 2) where each entry's first seed put it; NaN as in `errors_km`.
        photos: Its four views; None where the data are no longer there.
    """

    uuid: str
    coords_deg: FloatArray
    errors_km: FloatArray
    answers_deg: FloatArray
    photos: list[Photo] | None


def spread_places(comparison: Comparison, most: int) -> list[SpreadPlace]:
    """The places on which the groups differ most.

    Of those that all groups tested; but for groups that share too few with the baseline, which have no say.

    Args:
        comparison: What was compared.
        most: How many at most.

    Returns:
        By descending range of the groups' errors; none where nothing was compared, or no place is shared.
    """
    base = comparison.entries[comparison.baseline].group
    compared = [one.group for one in comparison.entries if one.difference and one.difference.mean]
    if not compared or most < 1:
        return []
    shared = shared_places(base, base)
    for group in compared:
        shared = shared.intersection(shared_places(base, group))
    errors = np.stack([_errors(group, shared) for group in (base, *compared)])
    order = np.argsort(-np.ptp(errors, axis=0), kind="stable")[:most]
    found = shared[order]
    everyone = np.stack([_errors(entry.group, found) for entry in comparison.entries])
    answers = np.stack([_answers(entry.group, found) for entry in comparison.entries])
    truth = base.true_deg[base.uuid.get_indexer(found)]
    sources = _sources([entry.group for entry in comparison.entries])
    return [
        SpreadPlace(str(uuid), truth[at], everyone[:, at], answers[:, at], _photos(str(uuid), sources))
        for at, uuid in enumerate(found)
    ]


def _errors(group: Group, uuid: pd.Index[str]) -> FloatArray:
    """(N,) a group's errors of some places; NaN where it did not test one."""
    at = group.uuid.get_indexer(uuid)
    return np.where(at >= 0, group.error_km[at], np.nan)


def _answers(group: Group, uuid: pd.Index[str]) -> FloatArray:
    at = group.uuid.get_indexer(uuid)
    return np.where(at[:, None] >= 0, group.predicted_deg[at], np.nan)


def _sources(groups: Sequence[Group]) -> list[Path | Store]:
    """Roots and stores of all runs that are still there, each once."""
    found: dict[str, Path | Store] = {}
    for group in groups:
        for run in group.runs:
            for path in data_folders(run.config.get("data") or {}):
                if str(path) in found or not path.is_dir():
                    continue
                try:
                    found[str(path)] = Store.open(path) if is_store(path) else path
                except GeoguesserError:  # a damaged store has no views to show
                    continue
    return list(found.values())


def data_folders(data: Mapping[str, Any]) -> Iterator[Path]:
    """Where the data of a run were, by the `data` of its config; they may have gone."""
    if data.get("path"):
        yield Path(str(data["path"])).expanduser()
    for root in data.get("roots") or []:
        yield Path(str(root)).expanduser()
    if "demo_seed" in data:
        yield demo_folder(places=int(data["places"]), seed=int(data["demo_seed"]), px=int(data["px"]))


def _photos(uuid: str, sources: Sequence[Path | Store]) -> list[Photo] | None:
    for source in sources:
        try:
            photos = _of_store(uuid, source) if isinstance(source, Store) else _of_root(uuid, source)
        except (GeoguesserError, OSError):
            continue
        if photos is not None:
            return photos
    return None


def _of_root(uuid: str, root: Path) -> list[Photo] | None:
    folder = views_folder(root, uuid)
    if folder is None:
        return None
    return read_photos(PlaceFiles(str(folder), names_in(str(folder))[0]), "crop")


def _of_store(uuid: str, store: Store) -> list[Photo] | None:
    """The views as they were packed, at the size nearest to that shown."""
    rows = np.flatnonzero(store.table()["uuid"].to_numpy() == uuid)
    if not len(rows):
        return None
    images = store.manifest["images"].values()
    size, fit = min(((one["size"], one["fit"]) for one in images), key=lambda one: abs(one[0] - SHOWN_PX))
    views = store.views(ImageSpec(size=size, fit=fit)).gather(rows[:1])[0].permute(0, 2, 3, 1).numpy()
    used = store.mask()[rows[0]]
    return [
        Photo(simplejpeg.encode_jpeg(np.ascontiguousarray(view), QUALITY, "RGB", "420"))
        if there
        else Photo(None, "left out")
        for view, there in zip(views, used, strict=True)
    ]
