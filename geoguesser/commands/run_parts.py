"""Objects that a training config names. The cheap ones are built at once, so that a wrong value fails early."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from geoguesser.commands.configs import HEAD_GROUPS, check_keys, get_signature, instantiate_node
from geoguesser.data.datamodule import PlacesData
from geoguesser.data.splits import check_calibration
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

# Time between checkpoints if an epoch takes a fraction of a second.
MIN_WRITE_INTERVAL_S = 10.0
# Parts of a run that a data source takes besides the region.
DATA_PARTS = ("image", "split", "augment", "seed")


class RunRequest(NamedTuple):
    """Resolved config and surroundings of a run.

    Attributes:
        folder: Run folder, which exists.
        group: Name of the sweep; None for a single run.
        is_main: True for the process that writes the folder's files.
    """

    config: dict[str, Any]
    folder: Path
    group: str | None
    is_main: bool
    overrides: list[str]
    choices: dict[str, str]


class RunParts:
    """Objects that a resolved config names, with the names of their config groups.

    Attributes:
        seed: Seed of weights, order and augmentation.
        calibration: `fraction` and `min_places` of the calibration places.
        head_parts: The head's grid, loss and decoder, as far as it uses them.
        run_logger: Experiment tracker.

    Raises:
        ConfigError: A setting is invalid, or settings contradict each other.
    """

    def __init__(self, request: RunRequest) -> None:
        self._request = request
        self._config = config = request.config
        for key in ("lr_find", "compile", "pictures", "dry_run"):
            check_bool(key, config[key])

        self.name = str(config["name"] or request.folder.name)
        self.seed = check_int("seed", config["seed"], low=0, high=2**32 - 1)
        self.calibration = check_mapping("calibration", config["calibration"], ("fraction", "min_places"))
        check_calibration(self.calibration["fraction"], self.calibration["min_places"])

        self.finetuning: Finetuning = instantiate_node(config["finetune"], "finetune")
        self.features: FeatureCache = instantiate_node(config["features"], "features")
        self.optimizer = instantiate_node(config["optimizer"], "optimizer")
        self.schedule = instantiate_node(config["schedule"], "schedule")
        self.image = instantiate_node(config["image"], "image")
        self.augment = instantiate_node(config["augment"], "augment")
        self.split = instantiate_node(config["split"], "split")
        self.split.check()
        self.head_parts = {name: instantiate_node(config[name], name) for name in HEAD_GROUPS if name in config}
        if "grid" in self.head_parts:
            self.head_parts["grid"].check()

        # The logger removes the folders of a data source, which must be loaded for that.
        check_keys(config["data"], "data", dict.fromkeys((*DATA_PARTS, "region")))
        self._check_training()
        is_silent = config["dry_run"] or not request.is_main
        self.run_logger: RunLogger = (
            CsvRunLogger() if is_silent else self._build_for_run("logger", config["logger"])
        )

    def _check_training(self) -> None:
        """Builds trainer and callbacks once for the checks; those of the training need the run's logger."""
        config = self._config
        trainer = self.make_trainer(logger=False, callbacks=[])
        check_late_unlocking(self.finetuning, trainer.world_size)
        if self._request.is_main:
            warn_unreachable_stages(self.finetuning, self.schedule, config["trainer"]["max_epochs"])

        if self._request.group is not None and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            raise ConfigError.at(
                "trainer.strategy",
                "must not start the command anew in each process of a sweep",
                found=config["trainer"].get("strategy", "auto"),
                remedy="Use trainer.devices=1, trainer.strategy=ddp_fork on CPUs, or one command per run.",
            )
        if not (config["callbacks"] or {}).get("checkpoint"):
            rule = "must be there, for the test needs the best checkpoint"
            raise ConfigError.at("callbacks.checkpoint", rule, found=None)
        self.make_callbacks()
        if config["lr_find"] and trainer.world_size > 1:
            rule, remedy = "must be false with several processes", "Search on one device first."
            raise ConfigError.at("lr_find", rule, remedy=remedy)

    def _build_for_run(self, key: str, node: dict[str, Any]) -> Any:
        """Builds a node with those facts about the run that its target has parameters for."""
        facts: dict[str, Any] = {
            "folder": str(self._request.folder),
            "dirpath": str(self._request.folder / "checkpoints"),
            "config": self._config,
            "name": self.name,
            "group": self._request.group,
            "choices": self._request.choices,
            "overrides": self._request.overrides,
        }
        parameters = get_signature(node, key).parameters
        return instantiate_node(node, key, **{name: fact for name, fact in facts.items() if name in parameters})

    def data_key(self) -> list[Any]:
        """Returns all that the data depend on before calibration places are held out and views augmented."""
        return [self._config[name] for name in ("region", "data", "image", "split", "features")]

    def get_data(self, region: Region, memo: Memo) -> PlacesData:
        """Returns the data that an earlier run of this process read, or new data that are not yet read."""
        earlier: PlacesData | None = memo.get("data", self.data_key())
        if earlier is not None:
            return earlier.for_run(self.augment, self.seed)

        parts = {name: getattr(self, name) for name in DATA_PARTS}
        data: PlacesData = instantiate_node(self._config["data"], "data", region=region, **parts)
        data.cache = self.features.cache
        return data

    def requested_cells(self, region: Region) -> int | None:
        """Returns the number of cells that the config requests; None for heads and grids without such a number."""
        return self.head_parts["grid"].requested_cells(region) if "grid" in self.head_parts else None

    def make_backbone(self) -> Backbone:
        """Makes the backbone, without loading weights that another run replaces."""
        node = dict(self._config["backbone"])
        if self._config["init_from"] and node.get("weights"):
            raise ConfigError.at("backbone.weights", "must be null with init_from", found=node["weights"])
        if self._config["init_from"] or self._config["resume"]:
            # The weights come from that run. A backbone of the user may lack these parameters.
            accepted = get_signature(node, "backbone").parameters
            node |= {
                key: value for key, value in {"pretrained": False, "weights": None}.items() if key in accepted
            }

        backbone: Backbone = instantiate_node(node, "backbone")
        backbone.check_size(self.image.size)
        return backbone

    def make_network(self, backbone: Backbone, region: Region, data: PlacesData) -> tuple[GeoNetwork, bool]:
        """Makes the network for data whose split is known; True if `init_from` gave it a trained head."""
        fusion = instantiate_node(self._config["fusion"], "fusion", feature_size=backbone.feature_size)
        head = instantiate_node(
            self._config["head"],
            "head",
            in_features=fusion.output_size,
            region=region,
            train_coords_deg=data.train_coords_deg,
            **self.head_parts,
        )
        network = GeoNetwork(backbone, fusion, head)
        if not self._config["init_from"]:
            return network, False

        description, head_is_trained = load_initial_weights(network, self._config["init_from"])
        log.info("%s", description)
        return network, head_is_trained

    def make_trainer(self, *, logger: Any, callbacks: list[Any]) -> pl.Trainer:
        check_trainer(self._config["trainer"])
        trainer: pl.Trainer = instantiate_node(
            self._config["trainer"],
            "trainer",
            logger=logger,
            callbacks=callbacks,
            default_root_dir=str(self._request.folder),
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=sys.stderr.isatty(),
        )
        return trainer

    def make_callbacks(self) -> list[Any]:
        """Makes new callbacks: those of all runs, then those of the config."""
        folder = self._request.folder
        callbacks: list[Any] = [
            MetricsCsv(folder / "metrics.csv"),
            LastCheckpoint(dirpath=str(folder / "checkpoints")),
            *make_progress_callbacks(),
        ]
        for name, node in self._config["callbacks"].items():
            if node is not None:
                callbacks.append(self._build_for_run(f"callbacks.{name}", node))

        # An epoch on cached features takes less time than writing the weights.
        if self.finetuning.embeds_once(self.augment):
            for callback in callbacks:
                if isinstance(callback, NamedCheckpoint):
                    callback.min_interval_s = MIN_WRITE_INTERVAL_S
        return callbacks
