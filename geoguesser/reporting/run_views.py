"""Views of a run's places, from wherever its data still lie: to be shown, or to be looked at by the network again.

A run records where its data were: roots, a store, or the demo's cache. What is no longer there is not found, and
nothing is drawn or fetched for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from geoguesser.data.demo import demo_folder
from geoguesser.data.images import ByteArray, ImageSpec
from geoguesser.data.place_files import PlaceFiles, names_in, views_folder
from geoguesser.data.store import Store, is_store
from geoguesser.data.views import read_folder
from geoguesser.errors import GeoguesserError
from geoguesser.model.conformal import BoolArray
from geoguesser.reporting.data_views import QUALITY, SHOWN_PX, Photo, read_photos

Source = Path | Store


def sources_of(configs: Iterable[Mapping[str, Any]]) -> list[Source]:
    """Roots and stores of runs that are still there, each once.

    Args:
        configs: The runs' configs.
    """
    found: dict[str, Source] = {}
    for config in configs:
        for path in folders_of(config.get("data") or {}):
            if str(path) in found or not path.is_dir():
                continue
            try:
                found[str(path)] = Store.open(path) if is_store(path) else path
            except GeoguesserError:  # a damaged store has no views to show
                continue
    return list(found.values())


def folders_of(data: Mapping[str, Any]) -> Iterator[Path]:
    """Where a config's data lie, whether they are there or not."""
    if data.get("path"):
        yield Path(str(data["path"])).expanduser()
    roots = data.get("roots") or []
    for root in [roots] if isinstance(roots, str) else roots:
        yield Path(str(root)).expanduser()
    if "demo_seed" in data:
        yield demo_folder(places=int(data["places"]), seed=int(data["demo_seed"]), px=int(data["px"]))


def photos_of(uuid: str, sources: Sequence[Source]) -> list[Photo] | None:
    """The four views of a place, to be shown; None where they are nowhere."""
    for source in sources:
        try:
            photos = _of_store(uuid, source) if isinstance(source, Store) else _of_root(uuid, source)
        except (GeoguesserError, OSError):
            continue
        if photos is not None:
            return photos
    return None


def pixels_of(uuid: str, sources: Sequence[Source], image: ImageSpec) -> tuple[ByteArray, BoolArray] | None:
    """The views of a place as a network takes them; None where they are nowhere, or none is whole.

    Args:
        uuid: The place's id.
        sources: Where to look.
        image: How views are brought to their size.

    Returns:
        (4, 3, S, S) uint8, zeros where there is none, and (4,) which there are.
    """
    for source in sources:
        try:
            if isinstance(source, Store):
                found = _packed(uuid, source, image)
            else:
                folder = views_folder(source, uuid)
                found = None if folder is None else read_folder(str(folder), image, mask=True, broken=[])
        except (GeoguesserError, OSError):
            continue
        if found is not None and found[1].any():
            return found
    return None


def _of_root(uuid: str, root: Path) -> list[Photo] | None:
    folder = views_folder(root, uuid)
    if folder is None:
        return None
    return read_photos(PlaceFiles(str(folder), names_in(str(folder))[0]), "crop")


def _row(uuid: str, store: Store) -> npt.NDArray[np.int64]:
    return np.flatnonzero(store.table()["uuid"].to_numpy() == uuid)[:1]


def _packed(uuid: str, store: Store, image: ImageSpec) -> tuple[ByteArray, BoolArray] | None:
    rows = _row(uuid, store)
    if not len(rows) or image.name not in store.manifest["images"]:
        return None
    pixels: ByteArray = store.views(image).gather(rows)[0].numpy()
    return pixels, store.mask()[rows[0]]


def _of_store(uuid: str, store: Store) -> list[Photo] | None:
    """The views as they were packed, at the size nearest to that shown."""
    rows = _row(uuid, store)
    if not len(rows):
        return None
    images = store.manifest["images"].values()
    size, fit = min(((one["size"], one["fit"]) for one in images), key=lambda one: abs(one[0] - SHOWN_PX))
    views = store.views(ImageSpec(size=size, fit=fit)).gather(rows)[0].permute(0, 2, 3, 1).numpy()
    used = store.mask()[rows[0]]
    return [
        Photo(simplejpeg.encode_jpeg(np.ascontiguousarray(view), QUALITY, "RGB", "420"))
        if there
        else Photo(None, "left out")
        for view, there in zip(views, used, strict=True)
    ]


def arrays_of(uuid: str, sources: Sequence[Source], px: int, fit: str = "crop") -> list[ByteArray | None] | None:
    """The four views of a place as pictures to be drawn, None for absent ones; None where they are nowhere.

    Args:
        uuid: The place's id.
        sources: Where to look.
        px: Their height and width; a store's are as it holds them.
        fit: As in `ImageSpec`.

    Returns:
        Four (H, W, 3) uint8 arrays.
    """
    found = pixels_of(uuid, [one for one in sources if not isinstance(one, Store)], ImageSpec(size=px, fit=fit))
    if found is not None:
        pairs = zip(found[0], found[1], strict=True)
        return [np.ascontiguousarray(view.transpose(1, 2, 0)) if there else None for view, there in pairs]
    photos = photos_of(uuid, sources)
    if photos is None:
        return None
    return [None if photo.jpeg is None else simplejpeg.decode_jpeg(photo.jpeg) for photo in photos]
