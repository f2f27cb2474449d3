"""Redaction of the files that Hydra itself writes: .hydra/ of a run, and multirun.yaml of a sweep."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from geoguesser.runs.config_keys import remove_secrets
from geoguesser.system.files import write_text
from geoguesser.system.received_files import read_yaml


def redact_hydra_files(folder: Path, *, in_sweep: bool) -> None:
    """Replaces secret values in Hydra's files of a run folder and, if it is a job's, of its sweep folder."""
    sweep_files = folder.parent.glob("multirun.yaml") if in_sweep else ()
    for file in (*folder.glob(".hydra/*.yaml"), *sweep_files):
        recorded = read_yaml(file)
        public = remove_secrets(recorded)
        if public != recorded:
            write_text(file, OmegaConf.to_yaml(OmegaConf.create(public)))
