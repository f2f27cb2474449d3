"""Journal of finished rows of a table, written in batches, so that a killed process loses one batch at most.

The file has a line of JSON per row. Its first line records the settings that the rows depend on. An incomplete
last line is dropped.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoguesser.errors import first_line
from geoguesser.system.files import flush_to_disk
from geoguesser.system.received_files import parse_json

log = logging.getLogger(__name__)


class RowJournal:
    """Finished rows by id.

    Args:
        file: Path of the journal.
        key: Settings that the rows depend on; rows written under another key are dropped.
        columns: Columns of the table, `uuid` among them.

    Attributes:
        rows: Id -> signature of the row's inputs, and its values by column.
    """

    def __init__(self, file: Path, key: dict[str, Any], columns: list[str]) -> None:
        self.file, self.columns = file, columns
        self.rows: dict[str, tuple[str, list[Any]]] = {}
        self._header = {"key": key, "columns": columns}

        # A link would empty or extend a file elsewhere.
        if file.is_symlink():
            file.unlink()
        size = self._read() if file.is_file() else 0
        self._stream = file.open("r+b" if size else "wb")
        if size:
            self._stream.truncate(size)
            self._stream.seek(size)
        else:
            self._write([json.dumps(self._header)])

    def _read(self) -> int:
        """Reads the rows and returns the number of valid bytes; 0 for a journal with another key."""
        data = self.file.read_bytes()
        size = data.rfind(b"\n") + 1
        lines = data[:size].splitlines()
        try:
            header = parse_json(lines[0])
        except (IndexError, ValueError):
            header = None

        # The key may hold tuples, which JSON reads back as lists.
        if header != json.loads(json.dumps(self._header)):
            if lines:
                log.warning("%s belongs to other runs or settings: starting again", self.file)
            return 0

        try:
            for line in lines[1:]:
                signature, *values = parse_json(line)
                self.rows[str(values[self.columns.index("uuid")])] = (signature, values)
        except (ValueError, TypeError, IndexError) as error:
            log.warning("%s is damaged (%s): starting again", self.file, first_line(error))
            self.rows.clear()
            return 0
        return size

    def has(self, uuid: str, signature: str) -> bool:
        """Returns True if the journal holds a row with this id for the same inputs."""
        return uuid in self.rows and self.rows[uuid][0] == signature

    def add(self, table: pd.DataFrame, signatures: list[str]) -> None:
        """Writes rows with the signatures of their inputs; they are on the disk when this returns."""
        lines = []
        for signature, values in zip(signatures, table[self.columns].itertuples(index=False), strict=True):
            plain = [_to_json(value) for value in values]
            self.rows[str(plain[self.columns.index("uuid")])] = (signature, plain)
            lines.append(json.dumps([signature, *plain]))
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines).encode())
        flush_to_disk(self._stream)

    def table(self, uuids: list[str]) -> pd.DataFrame:
        """Returns the rows with these ids, in their order; ids without a row are left out."""
        return pd.DataFrame([self.rows[uuid][1] for uuid in uuids if uuid in self.rows], columns=self.columns)

    def close(self, *, remove: bool) -> None:
        """Closes the file; `remove` deletes it, because the table is finished."""
        self._stream.close()
        if remove:
            self.file.unlink(missing_ok=True)


def _to_json(value: Any) -> Any:
    """Converts NumPy scalars to Python's, and NaN to None."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
