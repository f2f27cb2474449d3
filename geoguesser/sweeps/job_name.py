"""Names of jobs: a hash of the config values that change results.

Jobs that differ only in their names, loggers, pictures or number of worker processes are the same job. So are jobs
that differ in choices that the head does not use, because a resolved config omits them. Paths of data count.

A sweep folder may hold jobs of earlier versions, whose names come from other keys, defaults and module paths. A
job takes the name of the folder whose recorded config means the same, if there is one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geoguesser.commands.configs import resolve_run_config
from geoguesser.errors import ConfigError, DataError
from geoguesser.runs.config_history import normalise_config
from geoguesser.runs.config_keys import KEYS_WITHOUT_EFFECT
from geoguesser.sweeps.folder import read_state
from geoguesser.system.received_files import read_yaml

# Hexadecimal digits: two of 10,000 different jobs collide in one of 20,000 sweeps.
NAME_LENGTH = 10

# Recorded config -> its modification time and size, and the name of the job that it describes. Jobs of one process
# share it, so that a sweep of 1,000 jobs reads each file once.
_recorded: dict[Path, tuple[tuple[int, int], str | None]] = {}


def result_config(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a resolved config that changes results."""
    result = {key: value for key, value in config.items() if key not in KEYS_WITHOUT_EFFECT[""]}
    for group, names in KEYS_WITHOUT_EFFECT.items():
        if group and isinstance(result.get(group), dict):
            result[group] = {key: value for key, value in result[group].items() if key not in names}
    return result


def make_job_name(config: dict[str, Any]) -> str:
    """Returns the name of a job: `NAME_LENGTH` hexadecimal digits of SHA-256 over the part that changes results.

    It is the same for a composed config and for the config.yaml that any version wrote of it, unless that hides a
    secret: such a job is recognised by its folder's name only. The order of keys does not matter.
    """
    text = json.dumps(result_config(normalise_config(config)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH]


def find_job_name(cfg: DictConfig) -> str:
    """Returns the name of the job that a composed config describes, even if the job will be refused."""
    task = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        return make_job_name(resolve_run_config(task))
    except (ConfigError, OmegaConfBaseException):
        return make_job_name({"refused": OmegaConf.to_container(task)})


def find_job(sweep: Path, name: str) -> str | None:
    """Returns the job folder of a sweep whose recorded config describes the job with this name, or None.

    Among several, a finished one comes first, then the one with the job's own name.
    """
    folders = [file.parent for file in sweep.glob("*/config.yaml") if _recorded_name(file) == name]
    folders.sort(key=lambda folder: (read_state(folder) != "done", folder.name != name, folder.name))
    return folders[0].name if folders else None


def _recorded_name(file: Path) -> str | None:
    """Returns the name of the job that a config.yaml describes; None for a file that is no config."""
    try:
        stat = file.stat()
        version = (stat.st_mtime_ns, stat.st_size)
        if file not in _recorded or _recorded[file][0] != version:
            config = read_yaml(file)
            _recorded[file] = version, make_job_name(config) if isinstance(config, dict) else None
    except (OSError, DataError):
        # Unreadable, or removed meanwhile.
        return None
    return _recorded[file][1]


def _job_name(*, _root_: DictConfig) -> str:
    """Returns the folder's name; Hydra calls this in the process of the job."""
    name = find_job_name(_root_)
    sweep = OmegaConf.select(_root_, "hydra.sweep.dir", default=None)
    return (sweep and find_job(Path(str(sweep)).absolute(), name)) or name


def register_resolver() -> None:
    """Registers `${job_name:}`, the only resolver of this package, with OmegaConf."""
    OmegaConf.register_new_resolver("job_name", _job_name, replace=True)
