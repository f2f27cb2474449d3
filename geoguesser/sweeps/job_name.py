"""Which jobs are the same: a name for all of a config that changes results, and for nothing else.

Jobs with one name are one job, whatever they are called, wherever they are logged and drawn, and however many
processes read their images. Choices that the head does not use are gone from a resolved config, so they do not
count either. Paths that a job reads from do: other data are another job.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geoguesser.commands.configs import resolve
from geoguesser.errors import ConfigError
from geoguesser.runs.config_keys import WITHOUT_EFFECT

LENGTH = 10  # hexadecimal digits: among 10,000 jobs two different ones meet once in 20,000 sweeps


def result_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that changes results.

    Args:
        config: What `geoguesser.commands.configs.resolve` gave.
    """
    kept = {key: value for key, value in config.items() if key not in WITHOUT_EFFECT[""]}
    for group, names in WITHOUT_EFFECT.items():
        if group and isinstance(kept.get(group), dict):
            kept[group] = {key: value for key, value in kept[group].items() if key not in names}
    return kept


def make_job_name(config: dict[str, Any]) -> str:
    """The name of a job: `LENGTH` hexadecimal digits of SHA-256 over what counts.

    Args:
        config: Plain values; the order of keys is nothing.
    """
    text = json.dumps(result_config(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def find_job_name(cfg: DictConfig) -> str:
    """The name of the job that a composed config describes; one that is refused later has a name as well.

    Args:
        cfg: As Hydra composed it, with or without its own node `hydra`.
    """
    task = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        return make_job_name(resolve(task))
    except (ConfigError, OmegaConfBaseException):
        return make_job_name({"refused": OmegaConf.to_container(task)})


def _job_name(*, _root_: DictConfig) -> str:
    return find_job_name(_root_)


def register_resolver() -> None:
    """Makes `${job_name:}` known to OmegaConf: the one resolver of this project."""
    OmegaConf.register_new_resolver("job_name", _job_name, replace=True)
