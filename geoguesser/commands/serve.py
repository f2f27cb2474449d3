"""Serving: one `python -m geoguesser.serve`, from its config to a server that answers."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from geoguesser.commands.configs import current_targets, list_known_keys, to_plain
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_int
from geoguesser.inference.checkpoint import find_checkpoint, read_checkpoint
from geoguesser.inference.ensemble import load_runs
from geoguesser.inference.predictor import choose_device
from geoguesser.inference.saved_model import CONFIG_NAME
from geoguesser.runs.config_history import update_config
from geoguesser.system.text import format_count

if TYPE_CHECKING:  # the app needs the extra geoguesser[serve]
    from geoguesser.app.game_places import GamePlaces
    from geoguesser.app.registry import ServedModel

log = logging.getLogger(__name__)
NEEDED = ("fastapi", "uvicorn", "python_multipart")
LOCAL = ("127.0.0.1", "::1", "localhost")


def run_serve(cfg: DictConfig) -> None:
    """Serves runs until it is stopped by Ctrl-C or SIGTERM.

    Args:
        cfg: The config of conf/serve.yaml.

    Raises:
        GeoguesserError: What the user can mend; nothing is then served.
    """
    check_extra()
    from geoguesser.app.api import make_app
    from geoguesser.app.limits import make_limits
    from geoguesser.app.server import listen, run_until_stopped
    from geoguesser.app.service import Service

    config = to_plain(cfg, list_known_keys("serve"))
    limits = make_limits(config["limits"])
    runs, root, hosts = _runs(config["run"]), _root(config["root"]), _hosts(config["hosts"])
    threads = os.cpu_count() or 1 if config["threads"] is None else check_int("threads", config["threads"], low=1)
    port = check_int("port", config["port"], low=0, high=65535)
    host = config["host"]
    if not isinstance(host, str) or not host:
        raise ConfigError.at("host", "must be an address of this machine", found=host)
    with listen(host, port) as own:
        models = load_models(runs, str(config["device"]))
        if host in LOCAL:
            hosts = [*LOCAL, *(hosts or [])]
        else:
            log.warning(
                "host=%s: everyone who can reach this machine can use the server; there is no password", host
            )
            if hosts is None:
                log.warning("hosts is not given: the server answers to any name")
        app = make_app(Service(models, limits, root=root, threads=threads), hosts=hosts)
        run_until_stopped(app, own, limits)


def check_extra() -> None:
    """Raises ConfigError where the packages of the extra are missing, with how to get them."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"The server needs {', '.join(missing)}. Install geoguesser[serve].")


def load_models(runs: list[str], device: str) -> list[ServedModel]:
    """Loads runs, each as a model of its own.

    Args:
        runs: Run folders, or checkpoint files.
        device: auto, or a device of this machine.

    Raises:
        GeoguesserError: One cannot be loaded, or the device is none.
    """
    from geoguesser.app.registry import ServedModel, make_model_name

    where = choose_device(device)
    models: list[ServedModel] = []
    for run in runs:
        path = Path(run).expanduser()
        ensemble, config = load_runs(str(path), device=where), _config(path)
        name = make_model_name(path, [one.name for one in models])
        places, why = _held_out(path, config)
        model = ServedModel(name, ensemble, _label(path, config), _test(path), places, why)
        game = why or f"{format_count(len(places or []), 'place')} for the game"
        log.info("model %s: %s, %s", name, ensemble.region.name, game)
        models.append(model)
    return models


def _config(run: Path) -> dict[str, Any] | None:
    """A run's config as plain values; None where it has none that can be read."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=True)
    except (OSError, OmegaConfBaseException, YAMLError, UnicodeDecodeError):
        return None
    return update_config(found, current_targets()) if isinstance(found, dict) else None


def _label(run: Path, config: dict[str, Any] | None) -> str:
    """What is to say of a model's data: by its run's config, its export's, or that in its checkpoint."""
    from geoguesser.data.sources.base import DEMO
    from geoguesser.runs.run_images import find_label

    if config is not None:
        return find_label(config)
    if (run / CONFIG_NAME).is_file():
        return DEMO.label if json.loads((run / CONFIG_NAME).read_bytes()).get("synthetic") else ""
    return find_label(read_checkpoint(find_checkpoint(run))["geoguesser"].get("config") or {})


def _held_out(run: Path, config: dict[str, Any] | None) -> tuple[GamePlaces | None, str]:
    """The places for the game, or why there is none."""
    from geoguesser.app.game_places import find_game_places

    if config is None:
        return None, "The model has no run folder with a config.yaml, so it is not known where its photos are."
    try:
        return find_game_places(run, config), ""
    except DataError as error:
        return None, str(error)


def _test(run: Path) -> dict[str, Any]:
    """The figures of the test split; empty where the run has none."""
    try:
        found = json.loads((run / "result.json").read_text(encoding="utf-8"))["test"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _runs(given: Any) -> list[str]:
    runs = [given] if isinstance(given, str) else given
    if not isinstance(runs, list) or not runs or not all(isinstance(run, str) and run for run in runs):
        raise ConfigError.at("run", "must name a run folder, or several: run=[A,B]", found=given)
    return runs


def _root(given: Any) -> Path | None:
    if given is None:
        return None
    root = Path(str(given)).expanduser().resolve()
    if not root.is_dir():
        raise MissingFileError.at(f"root={given}", "must be a folder")
    return root


def _hosts(given: Any) -> list[str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(host, str) and host for host in given):
        raise ConfigError.at("hosts", "must be a list of names: hosts=[maps.example.org]", found=given)
    return given
