"""Synthetic photos with EXIF and XMP metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image


def save_photo(
    path: Path,
    image: Image.Image,
    *,
    position: tuple[float, float] | None = None,
    direction: float | None = None,
    reference: str | None = "T",
    taken: str | None = None,
    orientation: int | None = None,
    gps: dict[int, Any] | None = None,
    xmp: str | None = None,
) -> Path:
    """Saves an image with EXIF; `position` is latitude and longitude in degrees, `gps` adds or replaces tags."""
    tags: dict[int, Any] = {}
    if position is not None:
        for first, value, letters in ((1, position[0], "NS"), (3, position[1], "EW")):
            whole, rest = divmod(abs(value) * 60, 60)
            minutes, seconds = divmod(rest, 1)
            tags |= {first: letters[value < 0], first + 1: (whole, minutes, seconds * 60)}
    if direction is not None:
        tags[ExifTags.GPS.GPSImgDirection] = direction
        if reference is not None:
            tags[ExifTags.GPS.GPSImgDirectionRef] = reference
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Secret Camera 42"
    if tags := tags | (gps or {}):
        exif[ExifTags.IFD.GPSInfo] = tags
    if taken is not None:
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: taken}
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {} if xmp is None else {"xmp": xmp.encode()}
    image.save(path, exif=exif, quality=95, **more)
    return path


def read_pixels(path: Path) -> np.ndarray:
    """Returns an image file as an (H, W, 3) array of floats."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=float)


def make_panorama(height: int = 512) -> Image.Image:
    """Makes a panorama whose colour is the direction.

    Red, green and blue are the components right, ahead and up relative to the middle column, -1 to 1 scaled to
    0 to 255.
    """
    longitude = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    latitude = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    right = np.cos(latitude)[:, None] * np.sin(longitude)
    ahead = np.cos(latitude)[:, None] * np.cos(longitude)
    up = np.broadcast_to(np.sin(latitude)[:, None], right.shape)
    return Image.fromarray(np.rint(127.5 + 127.5 * np.stack((right, ahead, up), axis=-1)).astype(np.uint8))


def make_gpano(**properties: object) -> str:
    """Makes an XMP packet as cameras write it, with properties both as attributes and as elements."""
    attributes = elements = ""
    for number, (name, value) in enumerate({"ProjectionType": "equirectangular", **properties}.items()):
        if number % 2:
            elements += f"<GPano:{name}>{value}</GPano:{name}>"
        else:
            attributes += f' GPano:{name}="{value}"'
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
        f"{attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
