"""Files that are written whole or not at all. Imports nothing heavy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically; numbers that JSON does not know (NaN) are an error, not a surprise later."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(fresh, path)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a CSV file atomically; numbers with 7 decimals (1 cm)."""
    fresh = path.with_name(path.name + ".new")
    table.to_csv(fresh, index=False, float_format="%.7f")
    os.replace(fresh, path)
