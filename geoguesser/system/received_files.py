"""Reading of small files that somebody else may have made: bounded, from regular files only, as plain values.

YAML is read without tags of Python and without resolving interpolations, and neither YAML nor JSON can use more
memory or time than its size suggests.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from geoguesser.errors import DataError, first_line

# config.yaml of a run has 10 KB, result.json of a run with 1,000 cells 400 KB.
MAX_YAML_BYTES = 1024**2
MAX_JSON_BYTES = 64 * 1024**2
MAX_DEPTH = 64
# The loader of libyaml, which is not installed everywhere, is several times faster.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_received(file: Path, max_bytes: int, *, follow_link: bool = False) -> bytes:
    """Reads a regular file of limited size.

    `follow_link` permits a symbolic link, as in the caches of model hubs. In a run folder, a link could show the
    contents of any file of this machine.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: It is a link, a pipe, a device or a folder, or it is too large.
    """
    if file.is_symlink() and not follow_link:
        raise DataError.at(
            str(file), "must not be a symbolic link", remedy="Replace it by the file that it names."
        )

    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataError.at(str(file), "must be a regular file")
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DataError.at(str(file), f"must have at most {max_bytes:,} bytes")
    return data


def read_json(file: Path, *, follow_link: bool = False) -> Any:
    """Reads a JSON file. Errors as in `read_received`, and DataError if it is not JSON."""
    data = read_received(file, MAX_JSON_BYTES, follow_link=follow_link)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
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
