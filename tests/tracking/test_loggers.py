"""TensorBoard's logger; W&B's logger is tested in test_wandb_run.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pytorch_lightning.loggers import TensorBoardLogger
from support.toy_run import ToyData, toy_features, toy_module, toy_network, toy_trainer

from geoguesser.tracking.loggers import TensorBoardRunLogger


def test_tensorboard_writes_the_curves_into_the_run_folder(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_logger = TensorBoardRunLogger(folder=str(tmp_path))
    logger = run_logger.make_lightning_logger()
    assert isinstance(logger, TensorBoardLogger)

    network = toy_network()
    trainer = toy_trainer(tmp_path, epochs=3, logger=logger, log_every_n_steps=1)
    trainer.fit(toy_module(network=network), datamodule=ToyData(features=toy_features(network)))
    run_logger.log_results({}, [], pd.DataFrame())
    assert run_logger.finish("done") == f"See the curves: tensorboard --logdir {tmp_path}/tensorboard"
    logger.finalize("success")

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    errors = [event.value for event in events.Scalars("val/error_km_mean")]
    assert len(errors) == 3
    assert errors[-1] == pytest.approx(float(trainer.callback_metrics["val/error_km_mean"]), rel=1e-5)
    assert len(events.Scalars("train/loss")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}
