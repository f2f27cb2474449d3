"""Row journal: rows of a table that is not finished yet, kept on disk by batches: a kill costs one batch.

A line of JSON per row; the first says what the rows depend on. A line that a kill tore is cut off.
"""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)


class RowJournal:
    """Rows that are done, by id.

    Args:
        file: Where they are kept.
        key: What they depend on: rows that were written under another key do not count, and are dropped.
        columns: Of the table; `uuid` is one.

    Attributes:
        rows: Id -> the signature that it was written with, and its values by column.
    """

    def __init__(self, file: Path, key: dict[str, Any], columns: list[str]) -> None:
        self.file, self.columns = file, columns
        self._head = {"key": key, "columns": columns}
        self.rows: dict[str, tuple[str, list[Any]]] = {}
        whole = self._read() if file.is_file() else 0
        self._out = file.open("r+b" if whole else "wb")
        if whole:
            self._out.truncate(whole)
            self._out.seek(whole)
        else:
            self._write([json.dumps(self._head)])

    def _read(self) -> int:
        """Takes in what was written; gives how many bytes of it are whole, 0 where it is of another key."""
        data = self.file.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        try:
            found = json.loads(lines[0])
        except (IndexError, ValueError):
            found = None
        if found != json.loads(json.dumps(self._head)):
            if lines:
                log.warning("%s is of other runs or settings: begun anew", self.file)
            return 0
        for line in lines[1:]:
            signature, *values = json.loads(line)
            self.rows[str(values[self.columns.index("uuid")])] = (signature, values)
        return whole

    def has(self, uuid: str, signature: str) -> bool:
        """Whether a row of this id was written for these very inputs."""
        return uuid in self.rows and self.rows[uuid][0] == signature

    def add(self, table: pd.DataFrame, signatures: list[str]) -> None:
        """Writes rows; when this returns they are on the disk.

        Args:
            table: With the journal's columns.
            signatures: Of each row's inputs.
        """
        lines = []
        for signature, values in zip(signatures, table[self.columns].itertuples(index=False), strict=True):
            plain = [_plain(value) for value in values]
            self.rows[str(plain[self.columns.index("uuid")])] = (signature, plain)
            lines.append(json.dumps([signature, *plain]))
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines).encode())
        self._out.flush()
        os.fsync(self._out.fileno())

    def table(self, uuids: list[str]) -> pd.DataFrame:
        """The rows of these ids, in their order; those without one are left out."""
        return pd.DataFrame([self.rows[uuid][1] for uuid in uuids if uuid in self.rows], columns=self.columns)

    def close(self, *, remove: bool) -> None:
        """Ends the writing; with `remove` the table is finished and the file goes."""
        self._out.close()
        if remove:
            self.file.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is not known is null."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value
