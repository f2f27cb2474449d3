"""Images of a run's places, found again where its data still lie: to be shown, or to be given to the network.

A run records the source of its data. Images that are no longer there are not found; nothing is drawn or fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from geoguesser.arrays import BoolArray, ByteArray
from geoguesser.data.images import ImageSpec, decode_rgb, read_bytes, read_header
from geoguesser.data.place_files import HEADINGS, find_place, find_views_folder
from geoguesser.data.sample_photos import PHOTO_PX, SamplePhoto, encode_photo, load_sample_photos
from geoguesser.data.sources.base import source_from_config
from geoguesser.data.store.reader import Store, is_store
from geoguesser.data.views import read_folder
from geoguesser.errors import GeoguesserError, first_line

log = logging.getLogger(__name__)
Source = Path | Store


def find_sources(configs: Iterable[Mapping[str, Any]]) -> list[Source]:
    """Roots and stores of runs that are still there, each once.

    Args:
        configs: The runs' configs.
    """
    found: dict[str, Source] = {}
    for config in configs:
        for path in source_from_config(config).folders:
            if str(path) in found or not path.is_dir():
                continue
            try:
                found[str(path)] = Store.open(path) if is_store(path) else path
            except GeoguesserError as error:
                log.warning("the run's store cannot be used: %s", first_line(error))
    return list(found.values())


def find_label(config: Mapping[str, Any]) -> str:
    """Returns the label of a run's data, for example `synthetic demo`; empty for real places."""
    recorded = source_from_config(config).label
    return recorded or next((one.label for one in find_sources([config]) if isinstance(one, Store)), "")


def find_source(uuid: str, sources: Sequence[Source]) -> Source | None:
    """Returns the first root or store that has a place; None if none has."""
    for source in sources:
        if isinstance(source, Store):
            if uuid in source.row_by_id:
                return source
        elif find_views_folder(source, uuid) is not None:
            return source
    return None


def views_present(uuid: str, source: Source) -> list[bool]:
    """Returns which of the four views a place has in a source.

    Raises:
        GeoguesserError: A link leads out of the place's folder, or the store is damaged.
        OSError: The folder cannot be read.
    """
    if isinstance(source, Store):
        return [bool(one) for one in source.mask()[source.row_by_id[uuid]]]
    files = find_place(source, uuid)
    return [False] * len(HEADINGS) if files is None else [name is not None for name in files.names]


def read_picture(uuid: str, source: Source, heading: int, max_px: int) -> ByteArray | None:
    """Reads one view of a place to be shown.

    Args:
        uuid: Id of the place.
        source: Root or store that has the place.
        heading: Number of the heading, from 0 to 3.
        max_px: Largest longer side. A store gives its largest size as packed.

    Returns:
        (H, W, 3) RGB; None if there is no such view.

    Raises:
        GeoguesserError, OSError, ValueError: The file or the store is damaged or cannot be read.
    """
    if isinstance(source, Store):
        row = source.row_by_id[uuid]
        if not source.mask()[row, heading]:
            return None
        size, fit = max((one["size"], one["fit"]) for one in source.manifest["images"].values())
        view: ByteArray = source.views(ImageSpec(size=size, fit=fit)).gather(np.array([row]))[0, heading].numpy()
        return view.transpose(1, 2, 0)

    files = find_place(source, uuid)
    if files is None or files.names[heading] is None:
        return None
    data = read_bytes(files.path(heading))
    image = decode_rgb(data, read_header(data), max_px)
    scale = max_px / max(image.shape[:2])
    if scale >= 1:
        return image
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def load_photos(uuid: str, sources: Sequence[Source]) -> list[SamplePhoto] | None:
    """The four views of a place, to be shown; None where they are nowhere."""
    for source in sources:
        try:
            photos = _of_store(uuid, source) if isinstance(source, Store) else _of_root(uuid, source)
        except (GeoguesserError, OSError):
            continue
        if photos is not None:
            return photos
    return None


def load_pixels(uuid: str, sources: Sequence[Source], image: ImageSpec) -> tuple[ByteArray, BoolArray] | None:
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
                folder = find_views_folder(source, uuid)
                found = None if folder is None else read_folder(str(folder), image, mask=True, broken=[])
        except (GeoguesserError, OSError):
            continue
        if found is not None and found[1].any():
            return found
    return None


def _of_root(uuid: str, root: Path) -> list[SamplePhoto] | None:
    files = find_place(root, uuid)
    return None if files is None else load_sample_photos(files, "crop")


def _packed(uuid: str, store: Store, image: ImageSpec) -> tuple[ByteArray, BoolArray] | None:
    row = store.row_by_id.get(uuid)
    if row is None or image.name not in store.manifest["images"]:
        return None
    pixels: ByteArray = store.views(image).gather(np.array([row]))[0].numpy()
    return pixels, store.mask()[row]


def _of_store(uuid: str, store: Store) -> list[SamplePhoto] | None:
    """The views as they were packed, at the size nearest to that shown."""
    row = store.row_by_id.get(uuid)
    if row is None:
        return None
    images = store.manifest["images"].values()
    size, fit = min(((one["size"], one["fit"]) for one in images), key=lambda one: abs(one[0] - PHOTO_PX))
    views = store.views(ImageSpec(size=size, fit=fit)).gather(np.array([row]))[0].permute(0, 2, 3, 1).numpy()
    used = store.mask()[row]
    return [
        encode_photo(view) if there else SamplePhoto(None, "left out")
        for view, there in zip(views, used, strict=True)
    ]


def load_arrays(uuid: str, sources: Sequence[Source], px: int, fit: str = "crop") -> list[ByteArray | None] | None:
    """The four views of a place as pictures to be drawn, None for absent ones; None where they are nowhere.

    Args:
        uuid: The place's id.
        sources: Where to look.
        px: Their height and width; a store's are as it holds them.
        fit: As in `ImageSpec`.

    Returns:
        Four (H, W, 3) uint8 arrays.
    """
    found = load_pixels(uuid, [one for one in sources if not isinstance(one, Store)], ImageSpec(size=px, fit=fit))
    if found is not None:
        pairs = zip(found[0], found[1], strict=True)
        return [np.ascontiguousarray(view.transpose(1, 2, 0)) if there else None for view, there in pairs]
    photos = load_photos(uuid, sources)
    if photos is None:
        return None
    return [None if photo.jpeg is None else simplejpeg.decode_jpeg(photo.jpeg) for photo in photos]
