"""Tags: what a photo says of itself, by EXIF and by the XMP of photo spheres (GPano). Reads, never writes.

Where it was taken, which way it looks and when; nothing else is taken from the tags.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from geoguesser.collecting.panorama import Band
from geoguesser.data.images import FORMATS
from geoguesser.errors import DataError

_GPANO = re.compile(r"(?<![/\w])GPano:(\w+)(?:\s*=\s*[\"']([^\"']*)[\"']|\s*>([^<]*)<)")
LEVEL_DEG = 1.0  # a pose that is tilted by more is worth a line


@dataclass(frozen=True)
class Tags:
    """What one photo says of itself.

    Attributes:
        position_deg: Latitude and longitude; None where there is none that makes sense.
        direction_deg: Compass direction of sight from 0 to 360, of a panorama that of its middle column; or None.
        reference: Of the direction: `true` or `magnetic` north, or `unstated`.
        taken: When, by the camera's clock; or None.
        sphere: What GPano says, by name; empty for an ordinary photo.
    """

    position_deg: tuple[float, float] | None = None
    direction_deg: float | None = None
    reference: str = "unstated"
    taken: datetime | None = None
    sphere: dict[str, str] = field(default_factory=dict)

    @property
    def is_sphere(self) -> bool:
        """Whether it calls itself an equirectangular panorama."""
        return self.sphere.get("ProjectionType", "").strip().lower() == "equirectangular"

    @property
    def tilted(self) -> bool:
        """Whether the pose of a panorama is off level by more than a degree."""
        pose = (_number(self.sphere.get(name)) for name in ("PosePitchDegrees", "PoseRollDegrees"))
        return any(angle is not None and abs(angle) > LEVEL_DEG for angle in pose)


def read_tags(data: bytes) -> Tags:
    """Reads the tags of a JPEG, PNG or WebP; damaged ones are as if they were not there."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        exif = image.getexif()
        gps, camera = exif.get_ifd(ExifTags.IFD.GPSInfo), exif.get_ifd(ExifTags.IFD.Exif)
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    except Exception:  # Pillow raises many things over damaged tags; the picture may be whole all the same
        return Tags()
    sphere = read_sphere(packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet))
    heading = _turn(_number(sphere.get("PoseHeadingDegrees")))
    direction, reference = _direction(gps)
    if heading is not None:
        direction, reference = heading, "true"
    return Tags(_position(gps), direction, reference, _taken(camera, exif), sphere)


def read_sphere(packet: str) -> dict[str, str]:
    """The GPano properties of an XMP packet, whether written as attributes or as elements."""
    return {name: (one or other).strip() for name, one, other in _GPANO.findall(packet)}


def band_of(tags: Tags, width_px: int, where: str) -> Band | None:
    """The rows of the sphere that a panorama holds by its cropped area; None where it does not say.

    The area counts the pixels as they were taken: a picture that was made smaller since, to `width_px`, is scaled.

    Raises:
        DataError: Not all columns are there, or the numbers make no sense.
    """
    names = ("CroppedAreaImageWidthPixels", "CroppedAreaTopPixels", "FullPanoWidthPixels", "FullPanoHeightPixels")
    found = [_number(tags.sphere.get(name)) for name in names]
    if found[0] is None or found[2] is None or found[3] is None:
        return None
    width, top, full_width, full_height = (0.0 if one is None else one for one in found)
    if not (width > 0 and full_width > 0 and full_height > 0):
        raise DataError.at(where, "must have a cropped area of positive numbers", found=tags.sphere)
    if abs(width - full_width) > 1:
        raise DataError.at(
            where,
            f"must hold all of the horizon, holds {360.0 * width / full_width:.0f} of 360 degrees",
            found=f"{width:.0f} of {full_width:.0f} columns",
            remedy="Partial panoramas are cut only where rows are missing, never columns.",
        )
    scale = width_px / width
    return Band(round(top * scale), round(full_height * scale))


def _position(gps: dict[int, Any]) -> tuple[float, float] | None:
    """Nothing without both hemispheres; nor the exact (0, 0), which cameras write when they do not know."""
    tags = ExifTags.GPS
    lat = _degrees(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90.0)
    lon = _degrees(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180.0)
    return None if lat is None or lon is None or (lat, lon) == (0.0, 0.0) else (lat, lon)


def _degrees(value: Any, reference: Any, letters: str, most: float) -> float | None:
    """Degrees, minutes and seconds with a letter; the second letter of `letters` is negative."""
    letter = _text(reference).upper()[:1]
    try:
        parts = [float(part) for part in value]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if len(parts) != 3 or not letter or letter not in letters or not all(map(math.isfinite, parts)):
        return None
    angle = parts[0] + parts[1] / 60.0 + parts[2] / 3600.0
    if min(parts) < 0 or angle > most:
        return None
    return -angle if letter == letters[1] else angle


def _direction(gps: dict[int, Any]) -> tuple[float | None, str]:
    value = _turn(_number(gps.get(ExifTags.GPS.GPSImgDirection)))
    letter = _text(gps.get(ExifTags.GPS.GPSImgDirectionRef)).upper()[:1]
    return value, {"T": "true", "M": "magnetic"}.get(letter, "unstated")


def _turn(value: float | None) -> float | None:
    """A heading from 0 to below 360; None for what is out of 0 to 360."""
    return None if value is None or not 0.0 <= value <= 360.0 else value % 360.0


def _taken(camera: dict[int, Any], exif: Any) -> datetime | None:
    written = camera.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    try:
        return datetime.strptime(_text(written), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\x00 ")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
