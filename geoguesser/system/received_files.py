"""Files and names that somebody else may have made: regular files of a bounded size, names that are no paths.

YAML and JSON become plain values, and neither can use more memory or time than its size suggests. Functions raise
ValueError (or OSError) with the rest of a sentence, which the caller completes with the file, or a DataError.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import yaml

from geoguesser.errors import DataError, first_line

# config.yaml of a run has 10 KB, result.json of a run with 1,000 cells 400 KB.
MAX_YAML_BYTES = 2**20
MAX_JSON_BYTES = 2**26
# The loader of libyaml, which is not installed everywhere, is several times faster.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Levels of lists and mappings. Our own files have less than 12; a GeoJSON has 7, and more with nested collections.
MAX_DEPTH = 32
MAX_NAME_BYTES = 255


def is_plain_name(name: object) -> bool:
    """Returns whether a value is the name of a file or folder that cannot lead out of the folder it is used in."""
    if not isinstance(name, str) or name in ("", ".", "..") or not set("/\\\0").isdisjoint(name):
        return False
    # On Windows `C:name` lies on another drive. A text with lone surrogates is the name of no file.
    with suppress(UnicodeEncodeError):
        return os.path.basename(name) == name and len(os.fsencode(name)) <= MAX_NAME_BYTES
    return False


def check_plain_name(name: object) -> str:
    """Returns a name that is about to become a part of a path, whatever file it comes from."""
    if not is_plain_name(name):
        raise ValueError(f"must be the plain name of a file or folder, got {str(name)[:80]!r}")
    return str(name)


def open_regular(path: str | Path, max_bytes: int) -> IO[bytes]:
    """Opens a regular file of at most `max_bytes`.

    Other files are refused: a device has no end, and opening a pipe waits until somebody writes.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    status = os.fstat(stream.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
        return stream
    stream.close()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("must be a regular file")
    raise ValueError(f"must have at most {max_bytes:,} bytes, got {status.st_size:,}")


def check_regular(path: str | Path, max_bytes: int) -> int:
    """Checks a file, as `open_regular` does, for a library that opens it by path; returns its size in bytes."""
    with open_regular(path, max_bytes) as stream:
        return os.fstat(stream.fileno()).st_size


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Reads a regular file of at most `max_bytes`."""
    with open_regular(path, max_bytes) as stream:
        return stream.read()


def refuse_link(file: Path) -> Path:
    """Returns the path of a file; raises DataError if it is a symbolic link."""
    if file.is_symlink():
        remedy = "Replace it by the file that it names."
        raise DataError.at(str(file), "must not be a symbolic link", remedy=remedy)
    return file


def read_received(file: Path, max_bytes: int, *, follow_link: bool = False) -> bytes:
    """Reads a regular file of limited size, with complete messages.

    `follow_link` permits a symbolic link, as in the caches of model hubs. In a run folder, a link could show the
    contents of any file of this machine.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: It is a link, a pipe, a device or a folder, or it is too large.
    """
    if not follow_link:
        refuse_link(file)
    try:
        return read_regular(file, max_bytes)
    except ValueError as error:
        raise DataError.at(str(file), str(error)) from error


def read_json(file: Path, *, follow_link: bool = False) -> Any:
    """Reads a JSON file. Errors as in `read_received`, and DataError if it is not JSON."""
    data = read_received(file, MAX_JSON_BYTES, follow_link=follow_link)
    try:
        return parse_json(data)
    except ValueError as error:
        raise DataError.at(str(file), f"must be JSON ({first_line(error)})") from error


def read_yaml(file: Path) -> Any:
    """Reads a YAML file as plain values; interpolations such as `${oc.env:NAME}` stay text.

    Errors as in `read_received`, and DataError if the file is not YAML, has aliases, or is nested deeply.
    """
    data = read_received(file, MAX_YAML_BYTES)

    depth = 0
    try:
        # The parser yields events without recursion and before any value is made.
        for event in yaml.parse(data, Loader=YAML_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                # This package writes none. Nested aliases make billions of values from a few lines.
                raise DataError.at(str(file), "must have no YAML aliases", found=f"*{event.anchor}")
            if depth > MAX_DEPTH:
                raise DataError.at(str(file), f"must be nested at most {MAX_DEPTH} levels deep")

        return yaml.load(data, Loader=YAML_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError.at(str(file), f"must be YAML ({first_line(error)})") from error


def parse_json(data: str | bytes) -> Any:
    """Parses JSON of at most MAX_DEPTH levels. NaN and infinity, which JSON lacks, are refused."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(f"must be nested at most {MAX_DEPTH} levels deep") from error
    check_nesting(value, MAX_DEPTH)
    return value


def check_nesting(value: Any, max_depth: int, max_values: int | None = None) -> None:
    """Refuses values that are nested too deeply, or too many; one that occurs several times counts as several."""
    level, count = [value], 0
    for _ in range(max_depth):
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict | list | tuple):
                children.extend(item.values() if isinstance(item, dict) else item)
            if max_values is not None and count + len(children) > max_values:
                raise ValueError(f"holds more than {max_values:,} values")

        if not children:
            return
        level, count = children, count + len(children)
    raise ValueError(f"must be nested at most {max_depth} levels deep")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"holds {name}, which is no JSON")
