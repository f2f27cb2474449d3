"""Loggers: what leaves the machine, and what the plain ones write."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pytorch_lightning.loggers import TensorBoardLogger
from training.toy_run import ToyData, toy_features, toy_module, toy_network, toy_trainer

from geoguesser.errors import ConfigError
from geoguesser.training.loggers import CsvRecord, TensorBoardRecord, WandbRecord, public, summary_of


def test_public_drops_paths_and_secrets_at_every_depth() -> None:
    config = {
        "seed": 3,
        "data": {"roots": ["/home/ann/places"], "batch_size": 32, "note": "/home/ann/x", "more": ["~/y", "z", 1]},
        "region": {"boundary": "mine.geojson", "code": "HRV"},
        "backbone": {"name": "resnet18", "weights": "w.pth"},
        "resume": "outputs/1",
        "init_from": None,
        "logger": {"project": "p", "entity": "ann"},
        "hydra": {"run": 1},
        "api_key": "abc",
        "nested": [
            {"Token": "abc", "kept": True},
            ("/tmp/a", {"MY_PASSWORD": 1, "credentials": 2, "clientSecret": 3}),
        ],
        "none": None,
    }
    assert public(config) == {
        "seed": 3,
        "data": {"batch_size": 32, "note": "(a path)", "more": ["(a path)", "z", 1]},
        "region": {"code": "HRV"},
        "backbone": {"name": "resnet18"},
        "nested": [{"kept": True}, ["(a path)", {}]],
        "none": None,
    }
    assert config["api_key"] == "abc"  # the config itself is left alone


def test_the_summary_leaves_out_what_is_not_known() -> None:
    result = {
        "test": {"places": 3, "error_km_mean": 5.0, "cell_top1": None, "share_within_km": {"25": 0.5}},
        "baseline": {"best_constant": {"error_km_mean": 9.0}, "ridge": None},
    }
    assert summary_of(result) == {
        "test/error_km_mean": 5.0,
        "test/share_within_25_km": 0.5,
        "baseline/best_constant_km": 9.0,
    }


def test_csv_records_nothing_besides_the_run_folder() -> None:
    record = CsvRecord()
    assert record.lightning() is False
    record.results({}, [], pd.DataFrame())
    assert record.finish(True) is None
    assert record.finish(False) is None


def test_tensorboard_writes_the_curves_into_the_run_folder(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = TensorBoardRecord(folder=str(tmp_path))
    logger = record.lightning()
    assert isinstance(logger, TensorBoardLogger)
    network = toy_network()
    trainer = toy_trainer(tmp_path, epochs=3, logger=logger, log_every_n_steps=1)
    trainer.fit(toy_module(network=network), datamodule=ToyData(features=toy_features(network)))
    record.results({}, [], pd.DataFrame())
    assert record.finish(True) == f"See the curves: tensorboard --logdir {tmp_path}/tensorboard"
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [event.value for event in events.Scalars("val/error_km_mean")]
    assert len(found) == 3
    assert found[-1] == pytest.approx(float(trainer.callback_metrics["val/error_km_mean"]), rel=1e-5)
    assert len(events.Scalars("train/loss")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}


def test_unknown_modes_of_wandb_are_refused_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        WandbRecord(folder=str(tmp_path), config={}, name="a", group=None, mode="on")
    assert str(caught.value) == ("logger.mode must be one of offline, online, disabled, shared, dryrun, got 'on'.")
    assert list(tmp_path.iterdir()) == []
