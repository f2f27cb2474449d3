"""Parts: what a run's config names, made. The cheap ones at once: a wrong value fails before any long work.

In which order they are put together, and what is done with them, is experiment.py's business.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from geoguesser.commands.configs import HEAD_GROUPS, build, get_signature
from geoguesser.data.datamodule import PlacesData
from geoguesser.data.splits import check_hold_out
from geoguesser.errors import ConfigError, check_bool, check_int, check_mapping
from geoguesser.geo.region import Region
from geoguesser.model.backbone import Backbone
from geoguesser.model.network import GeoNetwork
from geoguesser.system.memo import Memo
from geoguesser.tracking.loggers import CsvRunLogger, RunLogger
from geoguesser.training.callbacks import LastCheckpoint, MetricsCsv, NamedCheckpoint
from geoguesser.training.feature_cache import FeatureCache
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.module import check_late_unlocking
from geoguesser.training.progress import make_progress_callbacks
from geoguesser.training.trainer_checks import check_trainer, warn_unreachable_stages
from geoguesser.training.transfer import load_initial_weights

log = logging.getLogger(__name__)

SECONDS_BETWEEN_WRITES = 10.0  # of checkpoints, where an epoch takes a fraction of one


class RunRequest(NamedTuple):
    """What is asked of a run.

    Attributes:
        config: The resolved config.
        folder: The run folder, which is there.
        group: The sweep's name; None for a run by itself.
        main: Whether this process writes the folder's files.
        overrides: What the command line asked for.
        choices: What was chosen of each config group.
    """

    config: dict[str, Any]
    folder: Path
    group: str | None
    main: bool
    overrides: list[str]
    choices: dict[str, str]


class RunParts:
    """What a resolved config names.

    Args:
        order: What is asked of the run.

    Attributes:
        name: The run's name.
        seed: It draws weights, order and augmentation.
        finetuning: What is unlocked when.
        features: How features of a frozen backbone are made and kept.
        optimizer: Torch's optimizer and base rates.
        schedule: The factor of the base rates.
        image: How views are brought to one size.
        split: Which places are for training, validation and test.
        uncertainty: How many validation places calibrate: `calibration`, `fewest`.
        augment: Changes of training views.
        head_parts: What the head is made of beside data: grid, loss, decoder, where it uses them.
        record: What the run is recorded with, besides its folder.

    Raises:
        ConfigError: A value breaks its rule, or values do not go together.
    """

    def __init__(self, order: RunRequest) -> None:
        self._order, config = order, order.config
        for key in ("lr_find", "compile", "pictures", "dry_run"):
            check_bool(key, config[key])
        self.name = str(config["name"] or order.folder.name)
        self.seed = check_int("seed", config["seed"], low=0, high=2**32 - 1)
        self.finetuning: Finetuning = build(config["finetune"], "finetune")
        self.features: FeatureCache = build(config["features"], "features")
        self.optimizer = build(config["optimizer"], "optimizer")
        self.schedule = build(config["schedule"], "schedule")
        self.image = build(config["image"], "image")
        self.split = build(config["split"], "split")
        self.split.check()
        self.calibration = check_mapping("calibration", config["calibration"], ("fraction", "min_places"))
        check_hold_out(self.calibration["fraction"], self.calibration["min_places"])
        self.augment = build(config["augment"], "augment")
        self.head_parts = {name: build(config[name], name) for name in HEAD_GROUPS if name in config}
        if "grid" in self.head_parts:
            self.head_parts["grid"].check()
        self._check_training()
        silent = config["dry_run"] or not order.main
        self.record: RunLogger = CsvRunLogger() if silent else self._supplied("logger", config["logger"])

    def _check_training(self) -> None:
        """Makes trainer and callbacks once, for the checks; those that train are made when the logger is there."""
        trainer = self.trainer(logger=False, callbacks=[])  # fails early on what Lightning refuses
        check_late_unlocking(self.finetuning, trainer.world_size)
        if self._order.main:
            warn_unreachable_stages(self.finetuning, self.schedule, self._order.config["trainer"]["max_epochs"])
        if self._order.group is not None and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            raise ConfigError.at(
                "trainer.strategy",
                "must not start the command anew in each process of a sweep",
                found=self._order.config["trainer"].get("strategy", "auto"),
                remedy="Use trainer.devices=1, trainer.strategy=ddp_fork on CPUs, or one command per run.",
            )
        if not (self._order.config["callbacks"] or {}).get("checkpoint"):
            raise ConfigError.at(
                "callbacks.checkpoint", "must be there, for the test needs the best checkpoint", found=None
            )
        self.callbacks()
        if self._order.config["lr_find"] and trainer.world_size > 1:
            raise ConfigError.at(
                "lr_find", "must be false with several processes", remedy="Search on one device first."
            )

    def _supplied(self, key: str, node: dict[str, Any]) -> Any:
        """Builds a node with those of the run's own facts that its target has a parameter for."""
        facts: dict[str, Any] = {
            "folder": str(self._order.folder),
            "dirpath": str(self._order.folder / "checkpoints"),
            "config": self._order.config,
            "name": self.name,
            "group": self._order.group,
            "choices": self._order.choices,
            "overrides": self._order.overrides,
        }
        wanted = get_signature(node, key).parameters
        return build(node, key, **{name: fact for name, fact in facts.items() if name in wanted})

    def reading(self) -> list[Any]:
        """All that the data depend on, as they are read and before anything is held out or augmented."""
        return [self._order.config[name] for name in ("region", "data", "image", "split", "features")]

    def data(self, region: Region, memo: Memo) -> PlacesData:
        """The places, none of them read yet, or those that an earlier run of this process read."""
        known: PlacesData | None = memo.get("data", self.reading())
        if known is not None:
            return known.anew(self.augment, self.seed)
        made: PlacesData = build(
            self._order.config["data"],
            "data",
            region=region,
            image=self.image,
            split=self.split,
            augment=self.augment,
            seed=self.seed,
        )
        made.cache = self.features.cache
        return made

    def asked(self, region: Region) -> int | None:
        """How many cells are asked for; None where the grid is not asked by number, or the head has none."""
        return self.head_parts["grid"].asked(region) if "grid" in self.head_parts else None

    def backbone(self) -> Backbone:
        """The backbone, with its weights unless they come from another run."""
        node = dict(self._order.config["backbone"])
        if self._order.config["init_from"] and node.get("weights"):
            raise ConfigError.at("backbone.weights", "must be null with init_from", found=node["weights"])
        if self._order.config["init_from"] or self._order.config["resume"]:
            # The weights come from that run. A backbone of the user may lack these parameters.
            accepted = get_signature(node, "backbone").parameters
            node |= {
                key: value for key, value in {"pretrained": False, "weights": None}.items() if key in accepted
            }
        made: Backbone = build(node, "backbone")
        made.check_size(self.image.size)
        return made

    def network(self, backbone: Backbone, region: Region, data: PlacesData) -> tuple[GeoNetwork, bool]:
        """The network for places whose split is known, and whether its head is trained already (`init_from`)."""
        fusion = build(self._order.config["fusion"], "fusion", feature_size=backbone.feature_size)
        head = build(
            self._order.config["head"],
            "head",
            in_features=fusion.output_size,
            region=region,
            train_coords_deg=data.train_coords_deg,
            **self.head_parts,
        )
        network, trained = GeoNetwork(backbone, fusion, head), False
        if self._order.config["init_from"]:
            line, trained = load_initial_weights(network, self._order.config["init_from"])
            log.info("%s", line)
        return network, trained

    def trainer(self, *, logger: Any, callbacks: list[Any]) -> pl.Trainer:
        """Lightning's trainer."""
        check_trainer(self._order.config["trainer"])
        made: pl.Trainer = build(
            self._order.config["trainer"],
            "trainer",
            logger=logger,
            callbacks=callbacks,
            default_root_dir=str(self._order.folder),
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=sys.stderr.isatty(),
        )
        return made

    def callbacks(self) -> list[Any]:
        """New callbacks: those of every run, and those of the config."""
        made: list[Any] = [
            MetricsCsv(self._order.folder / "metrics.csv"),
            LastCheckpoint(dirpath=str(self._order.folder / "checkpoints")),
            *make_progress_callbacks(),
        ]
        for name, node in self._order.config["callbacks"].items():
            if node is not None:
                made.append(self._supplied(f"callbacks.{name}", node))
        if self.finetuning.embeds_once(self.augment):  # an epoch then takes less time than writing the weights
            for callback in made:
                if isinstance(callback, NamedCheckpoint):
                    callback.min_interval_s = SECONDS_BETWEEN_WRITES
        return made
