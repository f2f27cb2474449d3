"""Position, direction and time of a photo from its EXIF tags and GPano, the XMP vocabulary of photo spheres."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from PIL import ExifTags

from geoguesser.collecting.panorama import RowBand
from geoguesser.data.images import open_image, read_exif
from geoguesser.errors import DataError

# A property as attribute (GPano:Name="value") or as element (<GPano:Name>value<).
# The lengths are bounded, because the time would otherwise grow with the square of the packet's length.
GPANO_PROPERTY = re.compile(
    r"(?<![/\w])GPano:(\w{1,99})(?:\s{0,9}=\s{0,9}[\"']([^\"']{0,999})[\"']|\s{0,9}>([^<]{0,999})<)"
)

# A panorama with more pitch or roll counts as tilted.
MAX_TILT_DEG = 1.0


@dataclass(frozen=True)
class PhotoTags:
    """Tags of a photo.

    Attributes:
        position_deg: Latitude and longitude; None if missing or invalid.
        direction_deg: Compass direction of sight from 0 to 360, for a panorama that of its middle column; or None.
        reference: North of the direction: `true`, `magnetic` or `unstated`.
        taken: Time of the photo by the camera's clock; or None.
        gpano: GPano properties by name; empty for an ordinary photo.
    """

    position_deg: tuple[float, float] | None = None
    direction_deg: float | None = None
    reference: str = "unstated"
    taken: datetime | None = None
    gpano: dict[str, str] = field(default_factory=dict)

    @property
    def is_panorama(self) -> bool:
        return self.gpano.get("ProjectionType", "").strip().lower() == "equirectangular"

    @property
    def is_tilted(self) -> bool:
        angles = (_parse_number(self.gpano.get(name)) for name in ("PosePitchDegrees", "PoseRollDegrees"))
        return any(angle is not None and abs(angle) > MAX_TILT_DEG for angle in angles)


def read_tags(data: bytes) -> PhotoTags:
    """Reads the tags of a JPEG, PNG or WebP file. Damaged tags count as missing."""
    try:
        image = open_image(data)
        exif = read_exif(image)
        gps, camera = exif.get_ifd(ExifTags.IFD.GPSInfo), exif.get_ifd(ExifTags.IFD.Exif)
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    except Exception:
        # Pillow raises many kinds of errors for damaged tags, whose image may be intact.
        return PhotoTags()

    gpano = parse_gpano(packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet))
    direction_deg, reference = _parse_heading(gpano.get("PoseHeadingDegrees")), "true"
    if direction_deg is None:
        direction_deg = _parse_heading(gps.get(ExifTags.GPS.GPSImgDirection))
        letter = _parse_text(gps.get(ExifTags.GPS.GPSImgDirectionRef)).upper()[:1]
        reference = {"T": "true", "M": "magnetic"}.get(letter, "unstated")
    return PhotoTags(_parse_position(gps), direction_deg, reference, _parse_time(camera, exif), gpano)


def parse_gpano(packet: str) -> dict[str, str]:
    """Parses the GPano properties of an XMP packet, written as attributes or as elements."""
    return {name: (attribute or text).strip() for name, attribute, text in GPANO_PROPERTY.findall(packet)}


def find_row_band(tags: PhotoTags, width_px: int, where: str) -> RowBand | None:
    """Computes the rows of the sphere that a panorama holds; None if its tags do not state a cropped area.

    The cropped area is in pixels of the original. If the image was reduced since, it is scaled to `width_px`.

    Raises DataError if columns are missing, or the numbers are invalid. The message names the file as `where`.
    """
    width = _parse_number(tags.gpano.get("CroppedAreaImageWidthPixels"))
    top = _parse_number(tags.gpano.get("CroppedAreaTopPixels")) or 0.0
    full_width = _parse_number(tags.gpano.get("FullPanoWidthPixels"))
    full_height = _parse_number(tags.gpano.get("FullPanoHeightPixels"))
    if width is None or full_width is None or full_height is None:
        return None

    if not (width > 0 and full_width > 0 and full_height > 0):
        raise DataError.at(where, "must have a cropped area of positive numbers", found=tags.gpano)
    if abs(width - full_width) > 1:
        rule = f"must hold all of the horizon, holds {360.0 * width / full_width:.0f} of 360 degrees"
        remedy = "Panoramas may lack rows at the top and bottom, but no columns."
        raise DataError.at(where, rule, found=f"{width:.0f} of {full_width:.0f} columns", remedy=remedy)
    scale = width_px / width
    return RowBand(round(top * scale), round(full_height * scale))


def _parse_position(gps: dict[int, Any]) -> tuple[float, float] | None:
    tags = ExifTags.GPS
    latitude = _parse_angle(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90.0)
    longitude = _parse_angle(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180.0)
    # Cameras that do not know the position write (0, 0).
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):
        return None
    return latitude, longitude


def _parse_angle(value: Any, reference: Any, letters: str, max_deg: float) -> float | None:
    """Parses degrees, minutes and seconds; the second of the two hemisphere `letters` makes the angle negative."""
    letter = _parse_text(reference).upper()[:1]
    try:
        parts = [float(part) for part in value]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if len(parts) != 3 or not letter or letter not in letters or not all(map(math.isfinite, parts)):
        return None

    angle = parts[0] + parts[1] / 60.0 + parts[2] / 3600.0
    if min(parts) < 0 or angle > max_deg:
        return None
    return -angle if letter == letters[1] else angle


def _parse_heading(value: Any) -> float | None:
    """Parses a heading to degrees from 0 to below 360; None if the value is outside 0 to 360."""
    number = _parse_number(value)
    return None if number is None or not 0.0 <= number <= 360.0 else number % 360.0


def _parse_time(camera: dict[int, Any], exif: Any) -> datetime | None:
    text = camera.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    try:
        return datetime.strptime(_parse_text(text), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _parse_text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\x00 ")


def _parse_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
