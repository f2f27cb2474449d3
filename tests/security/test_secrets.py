"""Secrets of the environment and of the command line reach no file and no log."""

from __future__ import annotations

import html
import json
import logging
import os
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY, command
from omegaconf import OmegaConf

from geoguesser.runs.config_keys import redact_config, remove_secrets
from geoguesser.system.files import write_csv, write_json, write_text
from geoguesser.system.log_filters import filter_logs
from geoguesser.system.received_files import read_yaml
from geoguesser.system.secret_values import redact

TOKEN = "planted/secret+value"


@pytest.fixture(autouse=True)
def token(monkeypatch) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", TOKEN)


def test_values_of_secret_variables_are_redacted_in_every_encoding(monkeypatch):
    assert redact(f"a {TOKEN} b planted%2Fsecret%2Bvalue c") == "a *** b *** c"

    # Paths of key files, short values and other variables are no secrets.
    monkeypatch.setenv("PLANTED_KEY_FILE", "/home/alice/key.json")
    monkeypatch.setenv("PLANTED_KEYS", "true")
    monkeypatch.setenv("PLANTED_NAME", "ordinary words")
    assert redact("/home/alice/key.json true ordinary words") == "/home/alice/key.json true ordinary words"


def test_written_files_and_log_lines_hold_no_secret(tmp_path: Path, caplog):
    write_text(tmp_path / "a.html", f"<p>{TOKEN}</p>")
    write_json(tmp_path / "a.json", {"a": TOKEN})
    write_csv(tmp_path / "a.csv", pd.DataFrame({"a": [TOKEN], "b": [1.5]}))
    assert [file.read_text() for file in sorted(tmp_path.iterdir())] == [
        "a,b\n***,1.5000000\n", "<p>***</p>", '{\n  "a": "***"\n}\n'
    ]  # fmt: skip

    handler = logging.StreamHandler(stream := __import__("io").StringIO())
    logging.getLogger().addHandler(handler)
    try:
        filter_logs()
        logging.getLogger("geoguesser.x").warning("sent %s", TOKEN)
    finally:
        logging.getLogger().removeHandler(handler)
    assert stream.getvalue() == "sent ***\n"


def test_keys_and_overrides_with_secret_names_are_hidden():
    overrides = ["+logger.api_key=abc", "++a.token='x y'", "seed=3", "key", "data.roots=[key=3]"]
    assert remove_secrets({"token": "abc", "list": overrides}) == {
        "token": "(secret)",
        "list": ["+logger.api_key=(secret)", "++a.token=(secret)", "seed=3", "key", "data.roots=[key=3]"],
    }


def test_secrets_in_mappings_and_joined_overrides_are_hidden():
    overrides = ["+split={shares: [1], api_key: abc, x: 1}", "+a=1,+split.token=abc,seed=2"]
    assert remove_secrets(overrides) == [
        "+split={shares: [1], api_key:(secret)",
        "+a=1,+split.token=(secret)",
    ]


def test_redacted_values_are_quoted_in_yaml(tmp_path: Path):
    """`name: ***` is an alias of YAML, so that neither compare nor report could read the run."""
    public = remove_secrets({"seed": 3, "name": TOKEN, "list": [f"name={TOKEN}"]})
    write_text(tmp_path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(public)))
    assert read_yaml(tmp_path / "config.yaml") == {"seed": 3, "name": "***", "list": ["name=***"]}


def test_checkpoints_and_wandb_get_no_secret_of_the_environment():
    assert redact_config({"name": TOKEN, "split": {"column": TOKEN}}) == {
        "name": "***",
        "split": {"column": "***"},
    }


def test_secrets_of_several_lines_and_those_that_begin_as_paths_are_redacted(monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", 'first line\nsecond <&"line')
    monkeypatch.setenv("PLANTED_SECRET", "/abcdEFGH1234secret")
    monkeypatch.setenv("PLANTED_PASSWORD_PATH", "/no/such/folder")
    text = json.dumps(os.environ["PLANTED_KEY"]) + html.escape(os.environ["PLANTED_KEY"]) + 'a\n  second <&"line'
    assert redact(text) == '"***"***a\n  ***'
    assert redact("/abcdEFGH1234secret /no/such/folder") == "*** /no/such/folder"


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["run", "sweep"])
def test_a_secret_of_the_command_line_stays_in_no_file_of_the_folder(tmp_path: Path, sweep: bool):
    """Secrets given with +key= stayed in .hydra/, and an interpolation wrote one into config.yaml."""
    words = ["+split.api_key=planted-on-the-line", "name=${oc.env:PLANTED_TOKEN}", "dry_run=true"]
    if sweep:
        words = ["--multirun", *words, "seed=1", f"hydra.sweep.dir={tmp_path / 'out'}"]
    else:
        words += [f"hydra.run.dir={tmp_path / 'out'}"]
    ended = command("geoguesser.train", *words, *TINY, cwd=tmp_path)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len([file for file in files if file.parent.name == ".hydra"]) == 3

    hidden = 0
    for file in files:
        text = file.read_text()
        hidden += "(secret)" in text
        assert "planted-on-the-line" not in text, file
        assert TOKEN not in text, file
    assert hidden >= 3
    assert TOKEN not in ended.stdout + ended.stderr
