"""EmaWeights in real, tiny runs: against the formula, in checkpoints, and over a resume."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from support.toy_run import (
    STAGED,
    TRAIN,
    VAL,
    ToyData,
    is_plain,
    toy_features,
    toy_module,
    toy_network,
    toy_trainer,
)

from geoguesser.errors import CheckpointError
from geoguesser.geo.distance import haversine_km
from geoguesser.inference.predictor import Predictor
from geoguesser.training.callbacks import BestCheckpoint, LastCheckpoint
from geoguesser.training.ema import RAW, EmaWeights
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.optimizer import OptimizerSpec

# Below the warm-up's (1 + t) / (10 + t) from t = 12.5 on, so that runs of 16 steps see both.
DECAY = 0.6
ALL = [{"epoch": 0, "from": "all"}]


class RawSteps(pl.Callback):
    """Keeps the network's tensors before the first and after each optimizer step."""

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.taken:
            self.taken.append(copy.deepcopy(pl_module.network.state_dict()))
        self.before = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self.before:
            self.taken.append(copy.deepcopy(pl_module.network.state_dict()))

    def average(self, decay: float, steps: int | None = None) -> dict[str, torch.Tensor]:
        """Averages each tensor from the first step on, in double precision; integers stay as they are."""
        taken = self.taken if steps is None else self.taken[: steps + 1]
        averages = {name: tensor.double() for name, tensor in taken[0].items()}
        for step, raw in enumerate(taken[1:]):
            d = min(decay, (1 + step) / (10 + step))
            for name, tensor in raw.items():
                floating = tensor.is_floating_point()
                averages[name] = d * averages[name] + (1 - d) * tensor.double() if floating else tensor.double()
        return averages


class ValidationRecorder(pl.Callback):
    """Records the mean error and the step of each validation."""

    def __init__(self) -> None:
        self.errors: list[tuple[float, int]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.errors.append((float(trainer.callback_metrics["val/error_km_mean"]), trainer.global_step))


def staged(stages: list[dict[str, Any]] = STAGED, **more: Any) -> GeoLightningModule:
    module = toy_module(
        stages=stages, batchnorm="train", optimizer=more.pop("optimizer", OptimizerSpec("Adam", lr=3e-3)), **more
    )
    return module.train()


def assert_close(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=2e-6, rtol=2e-6, msg=name)


@pytest.mark.parametrize("stages", [STAGED, ALL])
@pytest.mark.parametrize("more", [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 0.5}])
def test_averages_are_those_of_the_formula(
    stages: list[dict[str, Any]], more: dict[str, Any], tmp_path: Path
) -> None:
    raw, module, data = RawSteps(), staged(stages), ToyData()
    trainer = toy_trainer(tmp_path, epochs=4, callbacks=[EmaWeights(decay=DECAY), raw], **more)
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    assert len(raw.taken) == 1 + 4 * (2 if "accumulate_grad_batches" in more else 4)
    state = module.network.state_dict()
    assert_close(state, raw.average(DECAY))

    # Statistics are averaged as well.
    name = "backbone.model.layer4.0.bn1.running_mean"
    assert not torch.allclose(state[name], raw.taken[-1][name], atol=1e-4)
    assert int(state["backbone.model.layer4.0.bn1.num_batches_tracked"]) > 0


def test_training_itself_does_not_notice(tmp_path: Path) -> None:
    runs = []
    for ema in ([], [EmaWeights(decay=DECAY)]):
        raw = RawSteps()
        trainer = toy_trainer(tmp_path, epochs=4, callbacks=[*ema, raw], num_sanity_val_steps=1)
        trainer.fit(staged(), datamodule=ToyData())
        runs.append(raw.taken)
    for without, averaged in zip(*runs, strict=True):
        assert all(torch.equal(tensor, averaged[name]) for name, tensor in without.items())


def compute_error_km(locator: Predictor, data: ToyData, rows: slice) -> float:
    predicted = locator.predict_coords(data.pixels[rows])
    return float(haversine_km(predicted, data.coords_deg[rows]).mean())


@pytest.mark.parametrize("ema_first", [True, False])
@pytest.mark.parametrize("interval", [1.0, 0.5])
def test_the_best_checkpoint_holds_what_was_validated(ema_first: bool, interval: float, tmp_path: Path) -> None:
    folder, validations = tmp_path / "c", ValidationRecorder()
    ema, best, raw = EmaWeights(decay=DECAY), BestCheckpoint(dirpath=str(folder)), RawSteps()
    callbacks = [ema, best] if ema_first else [best, ema]
    module, data = staged(optimizer=OptimizerSpec("SGD", lr=0.5, backbone_lr=1e-2, momentum=0.9)), ToyData()
    trainer = toy_trainer(
        tmp_path, epochs=4, callbacks=[*callbacks, raw, validations], val_check_interval=interval
    )
    trainer.fit(module, datamodule=data)
    lowest, step = min(validations.errors)
    assert len({round(error, 2) for error, _ in validations.errors}) > 2

    locator = Predictor.load(folder / "best.ckpt")
    rows = slice(TRAIN, TRAIN + VAL)
    assert compute_error_km(locator, data, rows) == pytest.approx(lowest, rel=1e-5)
    assert_close(locator.network.state_dict(), raw.average(DECAY, step))
    raw_network = toy_network()
    raw_network.load_state_dict(raw.taken[step])
    raw_km = compute_error_km(Predictor(raw_network, locator.region, locator.image), data, rows)
    assert raw_km != pytest.approx(lowest, rel=1e-3)
    checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == set(module.state_dict())
    assert all(is_plain(checkpoint[key]) for key in set(checkpoint) - {"loops"})
    for name, tensor in checkpoint[RAW].items():
        assert torch.equal(tensor, raw.taken[step][name])
    metrics = trainer.test(module, datamodule=data, ckpt_path=str(folder / "best.ckpt"), weights_only=True)[0]
    tested = compute_error_km(locator, data, slice(TRAIN + VAL, None))
    assert metrics["test/error_km_mean"] == pytest.approx(tested, rel=1e-5)


def test_a_best_checkpoint_that_waits_to_be_written_stays_as_it_was(tmp_path: Path) -> None:
    best, raw, validations = BestCheckpoint(dirpath=str(tmp_path)), RawSteps(), ValidationRecorder()
    best.min_interval_s = 1e9
    module = toy_module(optimizer=OptimizerSpec("SGD", lr=5.0, momentum=0.9))
    data = ToyData(features=toy_features(module.network))
    module.network.train()
    callbacks = [EmaWeights(decay=DECAY), best, raw, validations]
    toy_trainer(tmp_path, epochs=8, callbacks=callbacks).fit(module, datamodule=data)
    step = min(validations.errors)[1]

    # It waited while training went on.
    assert step < 8 * 4
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert_close(Predictor.load(tmp_path / "best.ckpt").network.state_dict(), raw.average(DECAY, step))
    for name, tensor in checkpoint[RAW].items():
        assert torch.equal(tensor, raw.taken[step][name])


def test_a_run_without_averages_is_not_resumed_with_them(tmp_path: Path) -> None:
    data = ToyData(features=toy_features(toy_network()))
    callbacks = [LastCheckpoint(dirpath=str(tmp_path / "without"))]
    toy_trainer(tmp_path, epochs=1, callbacks=callbacks).fit(toy_module(), datamodule=data)
    trainer = toy_trainer(tmp_path, callbacks=[LastCheckpoint(dirpath=str(tmp_path / "c")), EmaWeights()])
    with pytest.raises(CheckpointError, match=r"made without callbacks\.ema; it cannot be resumed with it"):
        trainer.fit(
            toy_module(), datamodule=data, ckpt_path=str(tmp_path / "without/last.ckpt"), weights_only=True
        )


def test_decay_warms_up() -> None:
    ema = EmaWeights(decay=0.999)
    decays = [ema.decay_after(step) for step in (0, 8, 90, 8_990, 8_991, 100_000)]
    np.testing.assert_allclose(decays, [0.1, 0.5, 0.91, 8_991 / 9_000, 0.999, 0.999], atol=1e-9)
