"""Data source: a CSV table that names the four photos of each place."""

import shutil
from pathlib import Path
from typing import Unpack

import pandas as pd

from geoguesser.data.sources.base import SourceKind
from geoguesser.data.sources.places import FileSettings, PlacesDataModule
from geoguesser.errors import MissingFileError

HEADINGS = {"north": 0, "east": 90, "south": 180, "west": 270}


class TableDataModule(PlacesDataModule):
    """Places of a table with the columns id, lat, lon, north, east, south and west.

    Args:
        table: CSV file. Paths of photos are relative to its folder.
        folder: Folder for copies of the photos, in the layout of `data=places`.
        settings: Settings of `PlacesDataModule`.
    """

    source = SourceKind(name="table", description="Photos that a table names", folder_keys=("table", "folder"))

    def __init__(self, *, table: str, folder: str, **settings: Unpack[FileSettings]):
        file = Path(table).expanduser()
        if not file.is_file():
            raise MissingFileError.at("data.table", "must be a CSV file", found=table)
        copy_photos(file, Path(folder).expanduser())
        super().__init__(roots=[folder], **settings)


def copy_photos(file, root):
    """Copies the photos that are new or newer than their copies; the table comes last."""
    table = pd.read_csv(file, dtype={"id": str})
    for row in table.to_dict("records"):
        place = root / "images" / row["id"]
        place.mkdir(parents=True, exist_ok=True)
        for column, heading in HEADINGS.items():
            photo, copy = file.parent / row[column], place / f"{heading}.jpg"
            if not copy.exists() or copy.stat().st_mtime < photo.stat().st_mtime:
                shutil.copyfile(photo, copy)

    columns = {"id": "uuid", "lat": "latitude", "lon": "longitude"}
    table.rename(columns=columns)[list(columns.values())].to_csv(root / "data.csv", index=False)
