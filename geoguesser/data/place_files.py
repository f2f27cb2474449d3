"""Files of a place: its folder, the names of its views by heading, and the columns of panorama ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from geoguesser.data.images import SUFFIXES
from geoguesser.data.splits import SPLIT_ALIASES, SPLIT_NAMES
from geoguesser.errors import DataError
from geoguesser.system.received_files import is_plain_name

HEADINGS = (0, 90, 180, 270)
HEADING_BY_NAME = {f"{heading}{suffix}": index for index, heading in enumerate(HEADINGS) for suffix in SUFFIXES}

# A place's files by heading, None where there is no view.
ViewNames = tuple[str | None, str | None, str | None, str | None]
STANDARD_NAMES: ViewNames = ("0.jpg", "90.jpg", "180.jpg", "270.jpg")
NO_VIEWS: ViewNames = (None, None, None, None)

PANORAMA_COLUMNS = ("panorama_id", "pano_id", "panoid", "panoramaid")
# Words that programs write into a column of panorama ids where there is none.
NO_PANORAMA = ("nan", "none", "null", "na", "<na>")


class PlaceFiles(NamedTuple):
    """Folder of a place and the names of its files by heading; None where there is no view."""

    folder: str
    names: ViewNames = STANDARD_NAMES

    def path(self, heading: int) -> str:
        """Returns the path of a view by the index of its heading, from 0 to 3."""
        return os.path.join(self.folder, self.names[heading] or STANDARD_NAMES[heading] or "")


def split_folders(folder: Path) -> list[tuple[Path, str]]:
    """Lists the sub-folders train, val and test (or their other names) of a folder, each with its split."""
    names = {**{name: name for name in SPLIT_NAMES}, **SPLIT_ALIASES}
    return [(folder / word, split) for word, split in names.items() if (folder / word).is_dir()]


def find_image_folders(root: Path) -> list[tuple[Path, str]]:
    """Lists the folders of a root in which place folders may lie, each with its split, or an empty string."""
    images = root / "images"
    folders = [*([(images, "")] if images.is_dir() else []), *split_folders(images)]
    for folder, split in split_folders(root):
        folders.append((folder / "images" if (folder / "images").is_dir() else folder, split))
    return folders


def find_views_folder(root: Path, uuid: str) -> Path | None:
    """Returns the folder of a place's views under a root.

    None if there is none, if the id is no folder name, or if it is a link out of the images folder, which training
    refuses as well.
    """
    if not is_plain_name(uuid):
        return None
    for images, _ in find_image_folders(root):
        folder = images / uuid
        if folder.is_dir() and (not folder.is_symlink() or is_inside(str(folder), find_base(folder))):
            return folder
    return None


def find_place(root: Path, uuid: str) -> PlaceFiles | None:
    """Returns the files of a place under a root; None if it has no folder there.

    Raises:
        DataError: A link leads out of the images folder.
    """
    folder = find_views_folder(root, uuid)
    return None if folder is None else PlaceFiles(str(folder), list_names(str(folder), find_base(folder))[0])


def find_base(folder: Path) -> str:
    """Returns the folder that the links of a place must not leave, without links: the one that holds the place."""
    return os.path.realpath(folder.parent)


def list_names(folder: str, base: str | None = None) -> tuple[ViewNames, list[str]]:
    """Lists the files of a place's folder by heading.

    Links must not leave `base`; None is the folder of the place.

    Returns file names by heading, None for a missing view, and the names of files that share a heading.

    Raises DataError if a link leads out of `base`.
    """
    names: list[str | None] = [None] * len(HEADINGS)
    conflicts: list[str] = []

    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            index = HEADING_BY_NAME.get(entry.name.lower())
            if entry.is_symlink():
                check_inside(entry.path, os.path.realpath(folder) if base is None else base)
            if index is None:
                continue
            if names[index] is not None:
                conflicts += [str(names[index]), entry.name]
            names[index] = entry.name

    views: ViewNames = (names[0], names[1], names[2], names[3])

    # One shared tuple for most places: a table of a million places keeps them all.
    return (STANDARD_NAMES if views == STANDARD_NAMES else views), conflicts


def is_view(name: str) -> bool:
    """Returns whether a file of this name in a place's folder is one of its views."""
    return name.lower() in HEADING_BY_NAME


def check_inside(path: str, base: str) -> None:
    """Raises DataError if a link leads out of `base`, a folder as a path without links."""
    if not is_inside(path, base):
        rule = f"must not lead out of its folder {base}"
        raise DataError.at(path, rule, found=os.path.realpath(path), remedy="Replace the link by the files.")


def is_inside(path: str, base: str) -> bool:
    """Returns whether a path with its links resolved lies in `base`, a folder as a path without links."""
    return os.path.commonpath((os.path.realpath(path), base)) == base
