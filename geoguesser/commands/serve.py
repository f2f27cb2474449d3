"""Command `serve`: the web page and the API for trained runs."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.commands.recorded_config import list_current_targets
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_bool, check_int
from geoguesser.inference.checkpoint import find_checkpoint, read_checkpoint
from geoguesser.inference.ensemble import load_runs
from geoguesser.inference.predictor import choose_device
from geoguesser.inference.saved_model import CONFIG_NAME
from geoguesser.runs.config_history import update_config
from geoguesser.system.received_files import read_json, read_yaml
from geoguesser.system.text import format_count

# The app needs the extra geoguesser[serve], so that its modules are imported only after `check_extra`.
if TYPE_CHECKING:
    from geoguesser.app.game_places import GamePlaces
    from geoguesser.app.registry import ServedModel

log = logging.getLogger(__name__)
# No error in km and no number of places is larger; others are not shown.
MAX_METRIC = 1e9
REQUIRED_PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def run_serve(cfg: DictConfig) -> None:
    """Serves runs until Ctrl-C or SIGTERM.

    Raises:
        GeoguesserError: If a value is invalid, the port is taken or a run cannot be loaded.
    """
    check_extra()
    from geoguesser.app.access import TOKEN_VARIABLE, Access
    from geoguesser.app.api import make_app
    from geoguesser.app.limits import make_limits
    from geoguesser.app.middleware import LOCAL_HOSTS
    from geoguesser.app.server import is_local, listen, run_until_stopped
    from geoguesser.app.service import Service

    config = to_plain(cfg, list_known_keys("serve"))
    limits = make_limits(config["limits"])
    runs, root, hosts = _check_runs(config["run"]), _check_root(config["root"]), _check_hosts(config["hosts"])
    threads = os.cpu_count() or 1 if config["threads"] is None else check_int("threads", config["threads"], low=1)
    port = check_int("port", config["port"], low=0, high=65535)
    host = config["host"]
    if not isinstance(host, str) or not host:
        raise ConfigError.at("host", "must be an address of this machine", found=host)

    allow_anonymous = check_bool("allow_anonymous", config["allow_anonymous"])
    token = _find_token(config["token"])

    with listen(host, port) as listener:
        if is_local(listener):
            hosts = [*LOCAL_HOSTS, host, *(hosts or [])]
        elif token is None and not allow_anonymous:
            raise ConfigError.at(
                "token",
                f"must be given, because other machines can reach host={host}",
                remedy=f"Set the environment variable {TOKEN_VARIABLE}, or allow_anonymous=true for everyone.",
            )

        models = load_models(runs, str(config["device"]))
        _describe_access(host, local=is_local(listener), has_token=token is not None, any_name=hosts is None)
        access = None if token is None else Access(token)
        app = make_app(Service(models, limits, root=root, threads=threads), hosts=hosts, access=access)
        run_until_stopped(app, listener, limits)


def check_extra() -> None:
    """Raises ConfigError if packages of the extra `serve` are not installed."""
    missing = [name for name in REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"The server needs {', '.join(missing)}. Install geoguesser[serve].")


def load_models(runs: list[str], device: str) -> list[ServedModel]:
    """Loads runs (run folders, exported folders or checkpoint files), each as a separate model."""
    from geoguesser.app.registry import ServedModel, make_model_name

    torch_device = choose_device(device)
    models: list[ServedModel] = []
    for run in runs:
        path = Path(run).expanduser()
        ensemble, config = load_runs(str(path), device=torch_device), _load_config(path)
        name = make_model_name(path, [model.name for model in models])
        places, no_game = _find_game_places(path, config)
        label, metrics = _find_label(path, config), _load_test_metrics(path)
        models.append(ServedModel(name, ensemble, label, metrics, places, no_game))

        game = no_game or f"{format_count(len(places or []), 'place')} for the game"
        log.info("model %s: %s, %s", name, ensemble.region.name, game)
    return models


def _load_config(run: Path) -> dict[str, Any] | None:
    """Loads the config of a run folder as plain values; None if there is none or it cannot be read."""
    try:
        config = read_yaml(run / "config.yaml")
    except (OSError, DataError):
        return None
    return update_config(config, list_current_targets()) if isinstance(config, dict) else None


def _find_label(run: Path, config: dict[str, Any] | None) -> str:
    """Finds the label of a model's training data in its run's config, its export or its checkpoint."""
    from geoguesser.data.sources.base import DEMO
    from geoguesser.runs.run_images import find_label

    if config is not None:
        return find_label(config)
    if (run / CONFIG_NAME).is_file():
        return DEMO.label if read_json(run / CONFIG_NAME, follow_link=True).get("synthetic") else ""
    return find_label(read_checkpoint(find_checkpoint(run))["geoguesser"].get("config") or {})


def _find_game_places(run: Path, config: dict[str, Any] | None) -> tuple[GamePlaces | None, str]:
    """Finds the places for the game, or the reason why there is none."""
    from geoguesser.app.game_places import find_game_places

    if config is None:
        return None, "The model has no run folder with a config.yaml, so that its photos cannot be found."
    try:
        return find_game_places(run, config), ""
    except DataError as error:
        return None, str(error)


def _load_test_metrics(run: Path) -> dict[str, Any]:
    """Loads the metrics of the test split from result.json; empty if there are none."""
    try:
        metrics = read_json(run / "result.json")["test"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    numbers = metrics.items() if isinstance(metrics, dict) else ()
    return {key: value for key, value in numbers if isinstance(value, int | float) and 0 <= value < MAX_METRIC}


def _find_token(value: Any) -> str | None:
    """Returns the token of the config, otherwise that of the environment; None if neither has one."""
    from geoguesser.app.access import TOKEN_VARIABLE, check_token

    if value is not None:
        return check_token("token", value)
    token = os.environ.get(TOKEN_VARIABLE)
    return check_token(TOKEN_VARIABLE, token) if token else None


def _describe_access(host: str, *, local: bool, has_token: bool, any_name: bool) -> None:
    """Logs who can reach and use the server."""
    users = "with the token" if has_token else "without a token"
    if local:
        log.info("Only this machine can reach the server, %s.", users)
        return

    log.warning("host=%s: every machine that can reach this one can use the server %s", host, users)
    if has_token:
        log.warning("the token and photos are sent without encryption; docs/serve.md shows a proxy that adds it")
    elif any_name:
        log.warning("hosts is not given: the server accepts every name in the Host header")


def _check_runs(value: Any) -> list[str]:
    runs = [value] if isinstance(value, str) else value
    if not isinstance(runs, list) or not runs or not all(isinstance(run, str) and run for run in runs):
        raise ConfigError.at("run", "must name a run folder, or several: run=[A,B]", found=value)
    return runs


def _check_root(value: Any) -> Path | None:
    if value is None:
        return None
    root = Path(str(value)).expanduser().resolve()
    if not root.is_dir():
        raise MissingFileError.at(f"root={value}", "must be a folder")
    return root


def _check_hosts(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(host, str) and host for host in value):
        raise ConfigError.at("hosts", "must be a list of names: hosts=[maps.example.org]", found=value)
    return value
