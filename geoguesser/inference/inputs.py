"""Inputs: what somebody hands in to be located. Place folders, single photos, or a CSV file of paths; no truth.

Nothing is opened here but folders and the CSV file: which views there are is found, not whether they are whole.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from geoguesser.arrays import ByteArray
from geoguesser.data.images import SUFFIXES, ImageSpec
from geoguesser.data.place_files import HEADINGS, NO_VIEWS, PlaceFiles, find_image_folders, is_view, list_names
from geoguesser.data.views import choose_prefetch, decode_place
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.inference.input_table import read_input_table
from geoguesser.system.cpu import cores
from geoguesser.system.parallel import map_in_order

log = logging.getLogger(__name__)
OTHER_SUFFIXES = (".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif")  # pictures, but none that are read
UNUSED = "not used: "  # begins a note that tells of no mistake
FORMS = (
    "a folder of place folders (each with 1 to 4 of 0.jpg, 90.jpg, 180.jpg, 270.jpg), a place folder, photos "
    "(JPEG, PNG or WebP), or a CSV file of paths"
)


class InputPlace(NamedTuple):
    """A place to be located.

    Attributes:
        uuid: Its id: the name of its folder or photo, or what the CSV file says.
        files: Its views; names may be whole paths.
        notes: What is wrong with it already.
    """

    uuid: str
    files: PlaceFiles
    notes: tuple[str, ...] = ()

    @property
    def views(self) -> int:
        """How many there are."""
        return sum(name is not None for name in self.files.names)


class LoadedPlace(NamedTuple):
    """The views of one asked place, read.

    Attributes:
        images: For each spec (4, 3, S, S); zeros where there is no whole view.
        there: (4,) which are whole.
        broken: What is wrong, by file.
    """

    images: list[ByteArray]
    there: npt.NDArray[np.bool_]
    broken: list[str]


def find_places(images: Any, root: str | None = None) -> list[InputPlace]:
    """Finds the places that are handed in, in order.

    Args:
        images: A path or a list of paths: a folder of place folders and photos, a dataset's root, one place's
            folder, a photo, a CSV file, or a pattern with `*`. A photo by itself is a place with one view, taken
            for heading 0.
        root: The folder that a CSV file's paths start from and must not leave; None for the file's own.

    Raises:
        ConfigError: Nothing is named.
        MissingFileError: What is named is not there.
        DataError: It holds no place, two places have one id, or a CSV file breaks a rule.
    """
    given = [images] if isinstance(images, str | Path) else images
    if not isinstance(given, list) or not given or not all(isinstance(one, str | Path) and one for one in given):
        raise ConfigError.at("images", f"must name {FORMS}", found=images)
    places: list[InputPlace] = []
    photos: list[Path] = []
    for word in given:
        for path in _matches(str(word)):
            found, loose = _found_at(path, str(word), root)
            places += found
            photos += loose
    places += _photos(photos)
    if not places:
        raise DataError.at(f"images={given[0]}", f"must hold a place: {FORMS}")
    counts = Counter(one.uuid for one in places)
    twice = next((uuid for uuid, count in counts.items() if count > 1), None)
    if twice is not None:
        where = " and ".join(one.files.folder for one in places if one.uuid == twice)
        raise DataError.at(
            "images", f"must give each place an id of its own; {twice} is that of {where}",
            remedy="Rename one, or predict them one after the other.",
        )  # fmt: skip
    return places


def _matches(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(path))) if glob.has_magic(word) else []  # noqa: PTH207  # Path.glob takes no whole paths
    if not found:
        raise MissingFileError.at(f"images={word}", "must be there", remedy=f"It can be {FORMS}.")
    return [Path(one) for one in found]


def _found_at(path: Path, word: str, root: str | None) -> tuple[list[InputPlace], list[Path]]:
    """The places at a path, and the photos there that are places of their own."""
    if path.is_dir():
        return _in_folder(path)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return [], [path]
    if suffix == ".csv":
        return [_listed(uuid, files) for uuid, files in read_input_table(path, root)], []
    raise DataError.at(f"images={word}", f"must be {FORMS}", found=path.name)


def _in_folder(path: Path) -> tuple[list[InputPlace], list[Path]]:
    if (path / "data.csv").is_file() and (folders := find_image_folders(path)):
        return [one for folder, _ in folders for one in _place_folders(folder)], []
    there = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
    files = [one for one in there if one.suffix.lower() in SUFFIXES]
    views = [one.name for one in files if is_view(one.name)]
    if views and len(views) < len(files):
        other = next(one.name for one in files if one.name not in views)
        raise DataError.at(
            f"images={path}", f"must be one place or a folder of photos, and holds {views[0]} beside {other}",
            remedy=f"For photos: \"images='{path}/*'\". For one place take the others away.",
        )  # fmt: skip
    if views:
        return [_asked(path)], []
    unread = [one.name for one in there if one.suffix.lower() in OTHER_SUFFIXES]
    if unread:
        log.warning("%s: %d pictures are no JPEG, PNG or WebP and left out: %s", path, len(unread), _some(unread))
    return _place_folders(path), files


def _place_folders(path: Path) -> list[InputPlace]:
    with os.scandir(path) as entries:
        names = sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
    return [_asked(path / name) for name in names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", .." if len(names) > 5 else "")


def _asked(folder: Path) -> InputPlace:
    """One place folder; two files for one heading are no view, for nobody knows which is meant."""
    try:
        names, doubled = list_names(str(folder))
    except (DataError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return InputPlace(folder.name, PlaceFiles(str(folder), NO_VIEWS), (str(reason),))
    unused = sorted(
        one.name
        for one in folder.iterdir()
        if one.suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES) and not is_view(one.name)
    )
    notes = () if names != NO_VIEWS else ("holds no view",)
    if unused and None in names:
        notes = (*notes, f"{UNUSED}{_some(unused)}")
    if not doubled:
        return InputPlace(folder.name, PlaceFiles(str(folder), names), notes)
    unclear = {Path(one).stem for one in doubled}
    kept = [None if name is not None and Path(name).stem in unclear else name for name in names]
    note = f"two files for one heading: {', '.join(sorted(set(doubled)))}"
    return InputPlace(folder.name, PlaceFiles(str(folder), (kept[0], kept[1], kept[2], kept[3])), (*notes, note))


def _listed(uuid: str, files: PlaceFiles) -> InputPlace:
    return InputPlace(uuid, files, () if files.names != NO_VIEWS else ("no view is named",))


def _photos(paths: list[Path]) -> list[InputPlace]:
    """Each photo is a place; its id is the file's name, with its suffix only where others have the same stem."""
    stems = Counter(path.stem for path in paths)
    return [
        InputPlace(
            path.stem if stems[path.stem] == 1 else path.name,
            PlaceFiles(str(path.parent), (path.name, None, None, None)),
        )
        for path in paths
    ]


def signature(asked: InputPlace) -> str:
    """What tells a place's files from others: names, sizes and times, not bytes, for those must be read."""
    parts = []
    for heading, name in enumerate(asked.files.names):
        if name is None:
            continue
        try:
            found = os.stat(asked.files.path(heading))
            parts.append(f"{heading} {name} {found.st_size} {found.st_mtime_ns}")
        except OSError as error:
            parts.append(f"{heading} {name} {error.strerror}")
    return xxhash.xxh3_64_hexdigest("\n".join((asked.uuid, asked.files.folder, *parts, *asked.notes)).encode())


def load_place(asked: InputPlace, specs: Sequence[ImageSpec]) -> LoadedPlace:
    """Reads a place's views once and decodes each for every spec; what is broken is named, not raised."""
    place = decode_place(asked.files, specs)
    broken = list(asked.notes)
    for heading, error in place.errors.items():
        path = asked.files.path(heading)
        broken.append(str(error).replace(path, Path(path).name).removesuffix("."))
    return LoadedPlace(place.images, place.present, broken)


def load_in_order(places: Sequence[InputPlace], specs: Sequence[ImageSpec]) -> Iterator[LoadedPlace]:
    """Reads places on all cores and yields them in their order; a bounded number is in flight."""
    return map_in_order(
        lambda one: load_place(one, specs), places, threads=cores(), ahead=choose_prefetch(specs), name="read"
    )


def missing_headings(asked: InputPlace) -> list[int]:
    """The headings that a place has no view of."""
    return [heading for heading, name in zip(HEADINGS, asked.files.names, strict=True) if name is None]
