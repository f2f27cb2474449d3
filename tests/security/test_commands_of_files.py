"""Each command refuses files from elsewhere in one line: a table of commands and kinds of files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from geoguesser.collecting.database import DATABASE_NAME, Database

V0_1 = Path(__file__).parent.parent / "compat" / "v0_1"
TRAIN = ["data.places=60", "data.px=56", "image.size=32", "backbone.name=test_convnext", "backbone.source=hub",
         "backbone.pretrained=false", "trainer=cpu", "logger=csv", "pictures=false"]  # fmt: skip


def make_vrt(folder: Path) -> Path:
    path = folder / "land.geojson"
    path.write_text('<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource>')
    return path


def make_bomb(folder: Path) -> Path:
    path = folder / "bomb.parquet"
    table = pa.table({"latitude": np.zeros(2**25), "longitude": np.zeros(2**25)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=2**25)
    return path


def make_journal(folder: Path) -> Path:
    with Database(folder / "out") as database:
        row = "INSERT INTO places VALUES (1, 'google', 'p', 'x', 45, 15, '', '', '{}', 1, 'wanted', '')"
        database.write(lambda db: db.execute(row))
        database.write(lambda db: db.execute("INSERT INTO points VALUES (1, 45, 15, 'found', '', 1)"))
        database.write(lambda db: db.execute("INSERT INTO views VALUES (1, 0, 3)"))
    db = sqlite3.connect(folder / "out" / DATABASE_NAME)
    db.execute("UPDATE places SET uuid = '../../../marker'")
    db.commit()
    db.close()
    return folder / "out"


def make_store(folder: Path) -> Path:
    store = shutil.copytree(V0_1 / "store", folder / "store")
    manifest = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(manifest | {"table": "../marker"}))
    return store


def make_run(folder: Path) -> Path:
    run = shutil.copytree(V0_1 / "run", folder / "run")
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    content["geoguesser"]["network"]["backbone"]["name"] = "hf-hub:somebody/model"
    torch.save(content, run / "checkpoints/best.ckpt")
    return run


def make_wide_csv(folder: Path) -> Path:
    (folder / "root/images").mkdir(parents=True)
    (folder / "root/data.csv").write_text("uuid,latitude,longitude," + "a," * 10**6 + "\nx,45,15\n")
    return folder / "root"


def make_paths(folder: Path) -> Path:
    shutil.copytree(V0_1 / "places/images", folder / "outside")
    (folder / "root/images").mkdir(parents=True)
    pd.DataFrame({"uuid": [".."], "latitude": [45.0], "longitude": [15.0]}).to_csv(folder / "root/data.csv")
    return folder / "root"


KEYS = ["provider=google", "provider.accept_terms=true", "pictures=false", "budget.money=1",
        "provider.base_url=http://127.0.0.1:9/"]  # fmt: skip
CASES: list[tuple[str, Callable[[Path], Path], list[str], str]] = [
    ("train", make_vrt, ["region=custom", "region.boundary={}", *TRAIN], "none of these formats"),
    ("prepare", make_vrt, ["region=custom", "region.boundary={}", f"data.roots=[{V0_1 / 'places'}]", "out=s"],
     "none of these formats"),
    ("collect", make_vrt, ["step=plan", "strategy.near={}", "out=o", *KEYS], "none of these formats"),
    ("collect", make_journal, ["step=download", "out={}", *KEYS], "must name places and headings"),
    ("evaluate", make_bomb, ["predictions={}", f"truth={V0_1 / 'places/data.csv'}"], "bytes in memory"),
    ("train", make_store, ["data=store", "data.path={}", *TRAIN[2:]], "is not the manifest of a store"),
    ("evaluate", make_store, [f"run={V0_1 / 'run'}", "data.path={}"], "is not the manifest of a store"),
    ("predict", make_store, [f"run={V0_1 / 'run'}", "images={}", "out=p.csv"], "is not the manifest of a store"),
    ("predict", make_run, ["run={}", f"images={V0_1 / 'places'}", "out=p.csv"], "backbone.name must be a model"),
    ("export", make_run, ["run={}", "out=e"], "backbone.name must be a model"),
    ("serve", make_run, ["run={}", "port=0"], "backbone.name must be a model"),
    ("train", make_wide_csv, ["data=places", "data.roots=[{}]", *TRAIN[2:]], "at most 1,000 columns"),
    ("prepare", make_wide_csv, ["data.roots=[{}]", "out=s"], "at most 1,000 columns"),
    ("train", make_paths, ["data=places", "data.roots=[{}]", *TRAIN[2:]], "must be the plain name of a folder"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "make", "words", "rule"), CASES, ids=[f"{case[0]}-{case[1].__name__}" for case in CASES]
)
def test_a_command_refuses_a_file(
    tmp_path: Path, command: str, make: Callable[[Path], Path], words: list[str], rule: str
) -> None:
    path = make(tmp_path)
    (tmp_path / "cwd").mkdir()
    call = [sys.executable, "-m", f"geoguesser.{command}", *(word.replace("{}", str(path)) for word in words)]
    done = subprocess.run(
        call,
        cwd=tmp_path / "cwd",
        env=os.environ | {"GOOGLE_MAPS_API_KEY": "AIzaSyTESTKEY-not-a-real-one-0123456789ab"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert rule in output
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*marker*"))
