"""Images of a run's places, read again from the data that the run recorded.

Images whose data are gone are not found; nothing is drawn or fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import simplejpeg

from geoguesser.arrays import BoolArray, ByteArray
from geoguesser.data.images import ImageSpec, decode_shrunk, read_bytes
from geoguesser.data.place_files import HEADINGS, find_base, find_place, find_views_folder
from geoguesser.data.sample_photos import PHOTO_PX, SamplePhoto, load_sample_photos, make_sample_photo
from geoguesser.data.sources.base import source_from_config
from geoguesser.data.store.reader import Store, is_store
from geoguesser.data.views import read_folder
from geoguesser.errors import GeoguesserError, first_line

log = logging.getLogger(__name__)
Source = Path | Store
Loaded = TypeVar("Loaded")


def find_sources(configs: Iterable[Mapping[str, Any]]) -> list[Source]:
    """Returns the roots and stores of runs that are still present, without repeats."""
    sources: dict[str, Source] = {}
    for config in configs:
        for path in source_from_config(config).folders:
            if str(path) in sources or not path.is_dir():
                continue
            try:
                sources[str(path)] = Store.open(path) if is_store(path) else path
            except GeoguesserError as error:
                log.warning("the run's store cannot be used: %s", first_line(error))
    return list(sources.values())


def find_label(config: Mapping[str, Any]) -> str:
    """Returns the label of a run's data, for example `synthetic demo`; empty for real places."""
    recorded = source_from_config(config).label
    return recorded or next((source.label for source in find_sources([config]) if isinstance(source, Store)), "")


def find_source(uuid: str, sources: Sequence[Source]) -> Source | None:
    """Returns the first root or store that has a place; None if none has."""
    for source in sources:
        if isinstance(source, Store):
            if uuid in source.row_by_id:
                return source
        elif find_views_folder(source, uuid) is not None:
            return source
    return None


def find_present_views(uuid: str, source: Source) -> list[bool]:
    """Returns which of the four views a place has in a source, which may be damaged as for `read_picture`."""
    if isinstance(source, Store):
        return [bool(present) for present in source.mask()[source.row_by_id[uuid]]]
    files = find_place(source, uuid)
    return [False] * len(HEADINGS) if files is None else [name is not None for name in files.names]


def read_picture(
    uuid: str,
    source: Source,
    heading: int,
    max_px: int,
    decode: Callable[[bytes, int], ByteArray] = decode_shrunk,
) -> ByteArray | None:
    """Reads the view of a place at a heading, from 0 to 3, for display.

    The longer side has at most `max_px` pixels, except that a store gives its largest size as packed.
    `decode` decodes the content of a file, elsewhere than in this process if need be.

    Returns:
        (H, W, 3) RGB; None if there is no such view.

    Raises:
        GeoguesserError, OSError, ValueError: The file or the store is damaged or cannot be read.
    """
    if isinstance(source, Store):
        if not source.mask()[source.row_by_id[uuid], heading]:
            return None
        largest = max(_list_specs(source), key=lambda spec: (spec.size, spec.fit))
        return _read_packed(uuid, source, largest)[heading].transpose(1, 2, 0)

    files = find_place(source, uuid)
    if files is None or files.names[heading] is None:
        return None
    return decode(read_bytes(files.path(heading)), max_px)


def load_photos(uuid: str, sources: Sequence[Source]) -> list[SamplePhoto] | None:
    """Loads the four views of a place for display; None if no source has them."""

    def load(source: Source) -> list[SamplePhoto] | None:
        if isinstance(source, Store):
            return _encode_packed(uuid, source) if uuid in source.row_by_id else None
        files = find_place(source, uuid)
        return None if files is None else load_sample_photos(files, "crop")

    return _load_first(sources, load)


def load_pixels(uuid: str, sources: Sequence[Source], image: ImageSpec) -> tuple[ByteArray, BoolArray] | None:
    """Loads the views of a place as the network takes them, from the first source that has them.

    Returns:
        (4, 3, S, S) uint8 with zeros for absent views, and (4,) views present; None if no source has a readable
        view.
    """

    def load(source: Source) -> tuple[ByteArray, BoolArray] | None:
        if isinstance(source, Store):
            if uuid not in source.row_by_id or image.name not in source.manifest["images"]:
                return None
            views = _read_packed(uuid, source, image), source.mask()[source.row_by_id[uuid]]
        else:
            folder = find_views_folder(source, uuid)
            if folder is None:
                return None
            views = read_folder(str(folder), image, mask=True, broken=[], base=find_base(folder))
        return views if views[1].any() else None

    return _load_first(sources, load)


def load_arrays(uuid: str, sources: Sequence[Source], px: int, fit: str = "crop") -> list[ByteArray | None] | None:
    """Loads the four views of a place as pictures, from roots if they have them, otherwise from stores.

    Views from roots have size `px` and the given fit, those from stores the size nearest to that of photos.

    Returns:
        Four (H, W, 3) uint8 arrays, None for absent views; None if no source has the place.
    """
    roots = [source for source in sources if not isinstance(source, Store)]
    views = load_pixels(uuid, roots, ImageSpec(size=px, fit=fit))
    if views is not None:
        pairs = zip(*views, strict=True)
        return [np.ascontiguousarray(view.transpose(1, 2, 0)) if present else None for view, present in pairs]

    photos = load_photos(uuid, sources)
    if photos is None:
        return None
    return [None if photo.jpeg is None else simplejpeg.decode_jpeg(photo.jpeg) for photo in photos]


def _load_first(sources: Sequence[Source], load: Callable[[Source], Loaded | None]) -> Loaded | None:
    """Returns the result of the first source that has one; sources that cannot be read are skipped."""
    for source in sources:
        try:
            loaded = load(source)
        except (GeoguesserError, OSError):
            continue
        if loaded is not None:
            return loaded
    return None


def _list_specs(store: Store) -> list[ImageSpec]:
    return [ImageSpec(size=image["size"], fit=image["fit"]) for image in store.manifest["images"].values()]


def _read_packed(uuid: str, store: Store, image: ImageSpec) -> ByteArray:
    """Returns (4, 3, S, S) views of a place, as they were packed."""
    return store.views(image).gather(np.array([store.row_by_id[uuid]]))[0].numpy()


def _encode_packed(uuid: str, store: Store) -> list[SamplePhoto]:
    """Returns packed views in the size nearest to that of photos."""
    nearest = min(_list_specs(store), key=lambda spec: abs(spec.size - PHOTO_PX))
    views = _read_packed(uuid, store, nearest).transpose(0, 2, 3, 1)
    present = store.mask()[store.row_by_id[uuid]]
    return [
        make_sample_photo(view) if is_present else SamplePhoto(None, "left out")
        for view, is_present in zip(views, present, strict=True)
    ]
