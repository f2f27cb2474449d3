"""The export command: from its config to a folder of verified files."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.table import Table

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.data.sources.base import DEMO
from geoguesser.errors import (
    ConfigError,
    MissingFileError,
    StoreError,
    check_bool,
    check_choice,
    check_int,
    check_mapping,
    check_number,
)
from geoguesser.exporting import programs
from geoguesser.exporting.hub import check_push, push_folder
from geoguesser.exporting.model_card import CARD_MARK, render_model_card
from geoguesser.exporting.run_facts import RunFacts, make_card, read_facts
from geoguesser.exporting.traceable import ExportableNetwork
from geoguesser.inference.checkpoint import find_checkpoint, read_checkpoint
from geoguesser.inference.inputs import find_places, load_in_order
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import CONFIG_NAME, WEIGHTS_NAME, write_model_folder
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.text import format_count
from geoguesser.system.versions import __version__

log = logging.getLogger(__name__)

FORMATS = ("portable", "torch", "onnx")
CARD = "README.md"

# File name -> description in the model card. An export replaces files of these names only.
FILES = {
    WEIGHTS_NAME: "all tensors: weights, cells, boundary",
    CONFIG_NAME: "plain values: how views are read, region, grid, decoder, calibration, versions",
    "model.pt2": "a program of torch.export",
    "model.onnx": "the same for ONNX Runtime",
    CARD: "this card",
}
MAX_CHECK_PLACES = 64  # of `verify_on`


class ExportSettings(NamedTuple):
    """Checked values of the config."""

    out: Path
    formats: list[str]
    license: str | None
    posterior: float
    km: float
    steps: int
    push: str | None
    private: bool
    extensions: list[str]


def run_export(cfg: DictConfig) -> Path:
    """Exports a run as a folder by conf/export.yaml, and pushes the folder if the config asks for it.

    All files are written and checked in a folder beside `out`. If anything fails, `out` stays as it was.
    """
    config = to_plain(cfg, list_known_keys("export"))
    settings = _read_settings(config)
    _check_out(settings.out)

    checkpoint = find_checkpoint(str(config["run"]))
    predictor = Predictor.load(checkpoint)
    run_config = read_checkpoint(checkpoint)["geoguesser"].get("config")
    facts = read_facts(checkpoint, run_config, predictor.region)

    probes: list[programs.Probe] = []
    if set(settings.formats) - {"portable"}:
        probes = programs.make_probes(predictor.image.size) + _load_probes(config["verify_on"], predictor)

    settings.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{settings.out.name}-", dir=settings.out.parent))
    try:
        _write_files(temporary, predictor, facts, settings, probes)
        _move_files(temporary, settings.out)
    except OSError as error:
        raise StoreError.at(f"out={settings.out}", f"cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

    names = sorted(file.name for file in settings.out.iterdir())
    log.info("written to %s: %s", settings.out, ", ".join(names))
    if settings.push is not None:
        log.info("pushed to %s", push_folder(settings.out, settings.push, private=settings.private))
    return settings.out


def _read_settings(config: dict[str, Any]) -> ExportSettings:
    formats = config["formats"]
    if not isinstance(formats, list) or not formats:
        raise ConfigError.at("formats", f"must hold some of {', '.join(FORMATS)}", found=formats)
    for name in formats:
        check_choice("formats", name, FORMATS)
    if "onnx" in formats:
        programs.check_onnx()

    tolerance = check_mapping("tolerance", config["tolerance"], ("posterior", "km"))
    push = None if config["push"] is None else str(config["push"])
    if push is not None:
        check_push(push)
    return ExportSettings(
        out=Path(str(config["out"])).expanduser(),
        formats=formats,
        license=_check_license(config["license"]),
        posterior=check_number("tolerance.posterior", tolerance["posterior"], low=0.0),
        km=check_number("tolerance.km", tolerance["km"], low=0.0),
        steps=check_int("median_steps", config["median_steps"], low=1, high=10_000),
        push=push,
        private=check_bool("push_private", config["push_private"]),
        extensions=config["extensions"] or [],
    )


def _check_license(value: Any) -> str | None:
    """Returns the licence as text. It becomes a line of the card's front matter and must not contain YAML."""
    if value is None:
        return None
    text = str(value)
    if not text.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ConfigError.at("license", "must be a licence's short name, such as cc-by-4.0", found=text)
    return text


def _check_out(out: Path) -> None:
    """Refuses a folder with other contents than an earlier export."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError.at(f"out={out}", "must be a folder")

    others = sorted(file.name for file in out.iterdir() if file.name not in FILES)
    card = out / CARD
    if card.exists() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        others.append(CARD)
    if others:
        raise ConfigError.at(f"out={out}", "must be new, empty, or an earlier export", found=others[0])


def _load_probes(verify_on: Any, predictor: Predictor) -> list[programs.Probe]:
    """Loads the user's places to try programs on: of the first `MAX_CHECK_PLACES`, those with a readable view."""
    if verify_on is None:
        return []

    places = find_places(verify_on)[:MAX_CHECK_PLACES]
    probes = [
        programs.Probe(torch.from_numpy(place.images[0][None]), torch.from_numpy(place.present[None]))
        for place in load_in_order(places, [predictor.image])
        if place.present.any()
    ]
    if not probes:
        raise MissingFileError.at("verify_on", "must hold a place with a readable view")
    log.info("programs are also compared on %s of verify_on", format_count(len(probes), "place"))
    return probes


def _write_files(
    folder: Path, predictor: Predictor, facts: RunFacts, settings: ExportSettings, probes: list[programs.Probe]
) -> None:
    if "portable" in settings.formats:
        about: dict[str, Any] = {"license": settings.license, "synthetic": facts.data is DEMO}
        if settings.extensions:
            about["extensions"] = settings.extensions
        write_model_folder(predictor, folder, about)
    checks = _write_programs(folder, predictor, settings, probes) if probes else []

    names = {CARD, *(file.name for file in folder.iterdir())}
    files = {name: description for name, description in FILES.items() if name in names}
    card = make_card(predictor, facts, settings.license, files, checks)
    (folder / CARD).write_text(render_model_card(card), encoding="utf-8")


def _write_programs(
    folder: Path, predictor: Predictor, settings: ExportSettings, probes: list[programs.Probe]
) -> list[dict[str, str]]:
    """Writes programs, opens each again, and returns a table of their differences from torch.

    Raises CheckpointError if a program differs by more than the tolerance.
    """
    calibration = predictor.uncertainty
    temperature = calibration.temperature if calibration is not None else None
    network = ExportableNetwork(predictor.network, temperature=temperature, steps=settings.steps)
    record = _make_record(predictor, network, settings)

    log.info("tracing the network: about half a minute")
    program = programs.export_program(network, predictor.image.size)
    differences: dict[str, programs.OutputDifference] = {}
    if "torch" in settings.formats:
        file = folder / "model.pt2"
        programs.write_torch(program, file, record)
        differences[file.name] = programs.compute_difference(programs.open_torch(file), network, probes)
    if "onnx" in settings.formats:
        file = folder / "model.onnx"
        programs.write_onnx(program, file, record, network.outputs)
        differences[file.name] = programs.compute_difference(programs.open_onnx(file), network, probes)

    # The table is printed before a program is refused.
    title = f"Against torch; allowed: {settings.posterior:g} in a probability, {settings.km * 1000.0:g} m"
    table = Table("file", "places", "probability", "points", title=title, title_justify="left")
    rows = []
    for name, difference in differences.items():
        probability = "" if difference.posterior is None else f"{difference.posterior:.1e}"
        texts = (name, str(difference.places), probability, f"{difference.km * 1000.0:.2f} m")
        rows.append(dict(zip(("file", "places", "posterior", "points"), texts, strict=True)))
        table.add_row(*texts)
    TextConsole().print(table)

    for name, difference in differences.items():
        programs.require_close(difference, name, posterior=settings.posterior, km=settings.km)
    return rows


def _make_record(predictor: Predictor, network: ExportableNetwork, settings: ExportSettings) -> dict[str, Any]:
    head = predictor.network.head.state()
    return {
        "version": __version__,
        "region": predictor.region.name,
        "views": {"size": predictor.image.size, "fit": predictor.image.fit, "headings": [0, 90, 180, 270]},
        "outputs": list(network.outputs),
        "head": head["kind"],
        "decoder": head.get("decoder"),
        "temperature": network.temperature,
        "median_steps": settings.steps,
        "moved_to_land": False,
        "license": settings.license,
    }


def _move_files(temporary: Path, out: Path) -> None:
    """Moves the finished files to `out`, in place of those of an earlier export."""
    if not out.exists():
        # mkdtemp makes a folder that only its owner can read.
        temporary.chmod(0o755)
        temporary.rename(out)
        return

    for name in FILES:
        (out / name).unlink(missing_ok=True)
    for file in sorted(temporary.iterdir()):
        os.replace(file, out / file.name)
