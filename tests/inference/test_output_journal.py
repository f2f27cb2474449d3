"""Row journal: finished rows survive a kill at any byte, for the same key and inputs only."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.inference.output_journal import RowJournal

COLUMNS = ["uuid", "value", "flag"]
KEY = {"runs": ["a"], "format": 1}


def make_table(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def test_rows_are_restored_exactly(tmp_path: Path):
    first = RowJournal(tmp_path / "j", KEY, COLUMNS)
    first.add(make_table(("x", 0.1 + 0.2, True), ("y", math.nan, False)), ["s", "t"])
    first.add(pd.DataFrame([{"uuid": "z", "value": np.float32(0.5), "flag": None}]), ["u"])
    first.close(remove=False)
    reopened = RowJournal(tmp_path / "j", KEY, COLUMNS)
    assert reopened.rows["x"] == ("s", ["x", 0.1 + 0.2, True])
    assert reopened.rows["y"] == ("t", ["y", None, False])
    assert reopened.has("z", "u")
    assert not reopened.has("z", "other")
    assert not reopened.has("w", "u")
    assert reopened.table(["z", "missing", "x"])["uuid"].tolist() == ["z", "x"]
    reopened.close(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_another_key_starts_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for key, columns in ((KEY, COLUMNS), ({"runs": ["b"]}, COLUMNS), ({"runs": ["b"]}, COLUMNS[:2])):
        journal = RowJournal(tmp_path / "j", key, columns)
        assert journal.rows == {}
        journal.add(make_table(("x", 1.0, True)), ["s"])
        journal.close(remove=False)
    assert caplog.text.count("belongs to other runs or settings") == 2
    (tmp_path / "j").write_bytes(b"not json\n")
    restarted = RowJournal(tmp_path / "j", KEY, COLUMNS)
    assert restarted.rows == {}
    restarted.close(remove=True)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400), tail=st.binary(max_size=5))
def test_a_kill_at_any_byte_loses_rows_but_never_the_file(cut: int, tail: bytes, tmp_path_factory):
    file = tmp_path_factory.mktemp("j") / "j"
    journal = RowJournal(file, KEY, COLUMNS)
    names = [f"p{number}" for number in range(8)]
    journal.add(make_table(*((name, 1.5, True) for name in names)), ["s"] * 8)
    journal.close(remove=False)
    file.write_bytes(file.read_bytes()[:cut] + tail.replace(b"\n", b" "))
    reopened = RowJournal(file, KEY, COLUMNS)
    names_left = list(reopened.rows)
    assert names_left == names[: len(names_left)]
    reopened.add(make_table(("new", 2.0, False)), ["t"])
    reopened.close(remove=False)
    last = RowJournal(file, KEY, COLUMNS)
    assert list(last.rows) == [*names_left, "new"]
    last.close(remove=False)
