"""Places to predict: place folders, single photos, or a CSV file of paths, without true coordinates.

Only folders and the CSV file are read to find the places; images are opened later.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import xxhash

from geoguesser.arrays import BoolArray, ByteArray
from geoguesser.data.images import SUFFIXES, ImageSpec
from geoguesser.data.place_files import NO_VIEWS, PlaceFiles, ViewNames, find_image_folders, is_view, list_names
from geoguesser.data.views import choose_prefetch, decode_place
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.inference.input_table import read_input_table
from geoguesser.system.cpu import count_cores
from geoguesser.system.parallel import map_in_order

log = logging.getLogger(__name__)

# Suffixes of image files that this package does not read.
OTHER_SUFFIXES = (".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif")
# Prefix of notes that report no problem.
UNUSED_NOTE = "not used: "
INPUT_FORMS = (
    "a folder of place folders (each with 1 to 4 of 0.jpg, 90.jpg, 180.jpg, 270.jpg), a place folder, photos "
    "(JPEG, PNG or WebP), or a CSV file of paths"
)


class InputPlace(NamedTuple):
    """Place to predict, with its id, its views and the problems found without opening images."""

    uuid: str
    files: PlaceFiles
    notes: tuple[str, ...] = ()

    @property
    def views(self) -> int:
        return sum(name is not None for name in self.files.names)


class LoadedPlace(NamedTuple):
    """Decoded views of a place, with the problems by file.

    `images` holds (4, 3, S, S) for each image specification, with zeros for a view that is absent or broken, and
    `present` is (4,), true for views that were decoded.
    """

    images: list[ByteArray]
    present: BoolArray
    problems: list[str]


def find_places(images: Any, root: str | None = None) -> list[InputPlace]:
    """Finds the places to predict, in order.

    Args:
        images: A path or a list of paths: a folder of place folders and photos, the root of a data set, the folder
            of a place, a photo, a CSV file, or a pattern with `*`. A single photo is a place with one view, taken
            as that at heading 0.
        root: Folder that paths of a CSV file are relative to and must not leave; None for the folder of the file.

    Raises:
        ConfigError: The value is no path or list of paths.
        MissingFileError: A path does not exist.
        DataError: There is no place, two places have the same id, or a CSV file breaks a rule.
    """
    words = [images] if isinstance(images, str | Path) else images
    is_list = isinstance(words, list) and all(isinstance(word, str | Path) and word for word in words)
    if not is_list or not words:
        raise ConfigError.at("images", f"must name {INPUT_FORMS}", found=images)

    parts = [_find_at(path, str(word), root) for word in words for path in _match_paths(str(word))]
    places = [place for part, _ in parts for place in part]
    photos = [photo for _, part in parts for photo in part]

    # The id of a photo is the file's stem, or the complete name if others have the same stem.
    stems = Counter(photo.stem for photo in photos)
    for photo in photos:
        uuid = photo.stem if stems[photo.stem] == 1 else photo.name
        places.append(InputPlace(uuid, PlaceFiles(str(photo.parent), (photo.name, None, None, None))))
    if not places:
        raise DataError.at(f"images={words[0]}", f"must hold a place: {INPUT_FORMS}")

    (duplicate, count), *_ = Counter(place.uuid for place in places).most_common(1)
    if count > 1:
        folders = " and ".join(place.files.folder for place in places if place.uuid == duplicate)
        rule = f"must give each place an id of its own; {duplicate} is that of {folders}"
        raise DataError.at("images", rule, remedy="Rename one, or predict them one after the other.")
    return places


def _match_paths(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.exists():
        return [path]

    # Path.glob takes no absolute patterns.
    matches = sorted(glob.glob(str(path))) if glob.has_magic(word) else []  # noqa: PTH207
    if not matches:
        raise MissingFileError.at(f"images={word}", "must be there", remedy=f"It can be {INPUT_FORMS}.")
    return [Path(match) for match in matches]


def _find_at(path: Path, word: str, root: str | None) -> tuple[list[InputPlace], list[Path]]:
    """Returns the places at a path, and the photos there that are places of their own."""
    if path.is_dir():
        return _find_in_folder(path)

    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return [], [path]
    if suffix == ".csv":
        notes = {NO_VIEWS: ("no view is named",)}
        rows = read_input_table(path, root)
        return [InputPlace(uuid, files, notes.get(files.names, ())) for uuid, files in rows], []
    raise DataError.at(f"images={word}", f"must be {INPUT_FORMS}", found=path.name)


def _find_in_folder(path: Path) -> tuple[list[InputPlace], list[Path]]:
    # The root of a data set: its images lie in subfolders that its table does not name.
    if (path / "data.csv").is_file() and (folders := find_image_folders(path)):
        return [place for folder, _ in folders for place in _list_place_folders(folder)], []

    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    photos = [file for file in files if file.suffix.lower() in SUFFIXES]
    views = [file.name for file in photos if is_view(file.name)]
    if views and len(views) < len(photos):
        other = next(file.name for file in photos if file.name not in views)
        rule = f"must be one place or a folder of photos, and holds {views[0]} beside {other}"
        remedy = f"For photos: \"images='{path}/*'\". For one place take the others away."
        raise DataError.at(f"images={path}", rule, remedy=remedy)
    if views:
        return [_read_place_folder(path)], []

    if unread := [file.name for file in files if file.suffix.lower() in OTHER_SUFFIXES]:
        names = _shorten(unread)
        log.warning("%s: %d images are no JPEG, PNG or WebP and left out: %s", path, len(unread), names)
    return _list_place_folders(path), photos


def _list_place_folders(path: Path) -> list[InputPlace]:
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return [_read_place_folder(path / name) for name in names]


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", .." if len(names) > 5 else "")


def _read_place_folder(folder: Path) -> InputPlace:
    """Lists the views of a place folder; a heading with two files is left out, because it is ambiguous."""
    try:
        names, ambiguous = list_names(str(folder))
    except (DataError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return InputPlace(folder.name, PlaceFiles(str(folder), NO_VIEWS), (str(reason),))

    notes: tuple[str, ...] = () if names != NO_VIEWS else ("holds no view",)
    unused = sorted(
        file.name
        for file in folder.iterdir()
        if file.suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES) and not is_view(file.name)
    )
    if unused and None in names:
        notes = (*notes, f"{UNUSED_NOTE}{_shorten(unused)}")

    if ambiguous:
        stems = {Path(name).stem for name in ambiguous}
        names = cast(ViewNames, tuple(name if name and Path(name).stem not in stems else None for name in names))
        notes = (*notes, f"two files for one heading: {', '.join(sorted(set(ambiguous)))}")
    return InputPlace(folder.name, PlaceFiles(str(folder), names), notes)


def compute_signature(place: InputPlace) -> str:
    """Returns a hash of the names, sizes and modification times of a place's files, without reading them."""
    parts = []
    for position, name in enumerate(place.files.names):
        if name is None:
            continue
        try:
            stat = os.stat(place.files.path(position))
            parts.append(f"{position} {name} {stat.st_size} {stat.st_mtime_ns}")
        except OSError as error:
            parts.append(f"{position} {name} {error.strerror}")
    return xxhash.xxh3_64_hexdigest("\n".join((place.uuid, place.files.folder, *parts, *place.notes)).encode())


def load_place(place: InputPlace, specs: Sequence[ImageSpec]) -> LoadedPlace:
    """Reads each view of a place once and decodes it for all specifications; broken views are reported."""
    decoded = decode_place(place.files, specs)
    problems = list(place.notes)
    for position, error in decoded.errors.items():
        path = place.files.path(position)
        problems.append(str(error).replace(path, Path(path).name).removesuffix("."))
    return LoadedPlace(decoded.images, decoded.present, problems)


def load_in_order(places: Sequence[InputPlace], specs: Sequence[ImageSpec]) -> Iterator[LoadedPlace]:
    """Loads places on all cores and yields them in order; a bounded number is in memory."""
    load, ahead = partial(load_place, specs=specs), choose_prefetch(specs)
    return map_in_order(load, places, threads=count_cores(), ahead=ahead, name="read")
