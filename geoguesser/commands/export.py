"""Exporting: one `python -m geoguesser.export`, from its config to a folder of files that were checked."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from geoguesser.commands.configs import list_known_keys, to_plain
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
from geoguesser.exporting.hub import check_push, push_folder
from geoguesser.exporting.model_card import MARK, render_model_card
from geoguesser.exporting.programs import (
    OutputDifference,
    Probe,
    check_onnx,
    compute_difference,
    export_program,
    make_probes,
    open_onnx,
    open_torch,
    require_close,
    write_onnx,
    write_torch,
)
from geoguesser.exporting.run_facts import RunFacts, make_card, read_facts
from geoguesser.exporting.traceable import ExportableNetwork
from geoguesser.inference.checkpoint import find_checkpoint, read_checkpoint
from geoguesser.inference.inputs import find_places, load_in_order
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import CONFIG_NAME, WEIGHTS_NAME, write_model_folder
from geoguesser.system.text import format_count
from geoguesser.system.versions import __version__

log = logging.getLogger(__name__)
FORMATS = ("portable", "torch", "onnx")
CARD = "README.md"
FILES = {
    WEIGHTS_NAME: "all tensors: weights, cells, boundary",
    CONFIG_NAME: "plain values: how views are read, region, grid, decoder, calibration, versions",
    "model.pt2": "a program of torch.export",
    "model.onnx": "the same for ONNX Runtime",
    CARD: "this card",
}
MAX_CHECKED = 64  # places of `check_on`


class ExportSettings(NamedTuple):
    """What the config says, checked."""

    out: Path
    formats: list[str]
    license: str | None
    posterior: float
    km: float
    steps: int
    push: str | None
    private: bool


def run_export(cfg: DictConfig) -> Path:
    """Writes the folder of a run, and pushes it where that is asked for.

    All is written and checked beside `out` first; `out` is as before where anything fails.

    Args:
        cfg: The config of conf/export.yaml.

    Returns:
        The folder.

    Raises:
        GeoguesserError: What the user can mend.
    """
    config = to_plain(cfg, list_known_keys("export"))
    settings = _settings(config)
    _check_out(settings.out)
    file = find_checkpoint(str(config["run"]))
    locator = Predictor.load(file)
    facts = read_facts(file, read_checkpoint(file)["geoguesser"].get("config"), locator.region)
    programs = [name for name in settings.formats if name != "portable"]
    tried = make_probes(locator.image.size) + _own_probes(config["check_on"], locator) if programs else []
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{settings.out.name}-", dir=settings.out.parent))
    try:
        _fill(fresh, locator, facts, settings, tried)
        _replace(fresh, settings.out)
    except OSError as error:
        raise StoreError.at(f"out={settings.out}", f"cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    log.info("written to %s: %s", settings.out, ", ".join(sorted(one.name for one in settings.out.iterdir())))
    if settings.push is not None:
        log.info("pushed to %s", push_folder(settings.out, settings.push, private=settings.private))
    return settings.out


def _settings(config: dict[str, Any]) -> ExportSettings:
    formats = config["formats"]
    if not isinstance(formats, list) or not formats:
        raise ConfigError.at("formats", f"must hold some of {', '.join(FORMATS)}", found=formats)
    for name in formats:
        check_choice("formats", name, FORMATS)
    if "onnx" in formats:
        check_onnx()
    tolerance = check_mapping("tolerance", config["tolerance"], ("posterior", "km"))
    if config["push"] is not None:
        check_push(str(config["push"]))
    return ExportSettings(
        out=Path(str(config["out"])).expanduser(),
        formats=formats,
        license=_license(config["license"]),
        posterior=check_number("tolerance.posterior", tolerance["posterior"], low=0.0),
        km=check_number("tolerance.km", tolerance["km"], low=0.0),
        steps=check_int("median_steps", config["median_steps"], low=1, high=10_000),
        push=None if config["push"] is None else str(config["push"]),
        private=check_bool("push_private", config["push_private"]),
    )


def _license(value: Any) -> str | None:
    """One line of a card's front matter, so it holds no more than a name."""
    if value is None:
        return None
    text = str(value)
    if not text.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ConfigError.at("license", "must be a licence's short name, such as cc-by-4.0", found=text)
    return text


def _check_out(out: Path) -> None:
    """Refuses a folder that holds anything but an earlier export."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError.at(f"out={out}", "must be a folder")
    others = sorted(one.name for one in out.iterdir() if one.name not in FILES)
    card = out / CARD
    ours = not card.exists() or MARK in card.read_text(encoding="utf-8", errors="replace")
    if others or not ours:
        found = others[0] if others else CARD
        raise ConfigError.at(f"out={out}", "must be new, empty, or an earlier export", found=found)


def _own_probes(check_on: Any, locator: Predictor) -> list[Probe]:
    """Places of the user's to try programs on: the first of them that have a view."""
    if check_on is None:
        return []
    asked = find_places(check_on)[:MAX_CHECKED]
    seen = [one for one in load_in_order(asked, [locator.image]) if one.present.any()]
    if not seen:
        raise MissingFileError.at("check_on", "must hold a place with a whole view")
    parts = [(torch.from_numpy(one.images[0][None]), torch.from_numpy(one.present[None])) for one in seen]
    log.info("programs are also compared on %s of check_on", format_count(len(parts), "place"))
    return [Probe(images, mask) for images, mask in parts]


def _fill(folder: Path, locator: Predictor, facts: RunFacts, settings: ExportSettings, tried: list[Probe]) -> None:
    """Writes all files into a folder."""
    if "portable" in settings.formats:
        about = {"license": settings.license, "synthetic": facts.data == "demo"}
        write_model_folder(locator, folder, about)
    checks = _programs(folder, locator, settings, tried) if tried else []
    names = [one.name for one in folder.iterdir()]
    files = {name: what for name, what in FILES.items() if name in names or name == CARD}
    card = make_card(locator, facts, settings.license, files, [_shown(name, found) for name, found in checks])
    (folder / CARD).write_text(render_model_card(card), encoding="utf-8")


def _programs(
    folder: Path, locator: Predictor, settings: ExportSettings, tried: list[Probe]
) -> list[tuple[str, OutputDifference]]:
    """Writes programs, opens each again and compares it with torch."""
    uncertainty = locator.uncertainty
    temperature = uncertainty.temperature if uncertainty is not None else None
    network = ExportableNetwork(locator.network, temperature=temperature, steps=settings.steps)
    record = _record(locator, network, settings)
    log.info("tracing the network: about half a minute")
    program = export_program(network, locator.image.size)
    checks = []
    if "torch" in settings.formats:
        file = folder / "model.pt2"
        write_torch(program, file, record)
        checks.append((file.name, compute_difference(open_torch(file), network, tried)))
    if "onnx" in settings.formats:
        file = folder / "model.onnx"
        write_onnx(program, file, record, network.outputs)
        checks.append((file.name, compute_difference(open_onnx(file), network, tried)))
    _show(checks, settings)
    for name, found in checks:
        require_close(found, name, posterior=settings.posterior, km=settings.km)
    return checks


def _record(locator: Predictor, network: ExportableNetwork, settings: ExportSettings) -> dict[str, Any]:
    """What a program says of itself."""
    head = locator.network.head.state()
    return {
        "version": __version__,
        "region": locator.region.name,
        "views": {"size": locator.image.size, "fit": locator.image.fit, "headings": [0, 90, 180, 270]},
        "outputs": list(network.outputs),
        "head": head["kind"],
        "decoder": head.get("decoder"),
        "temperature": network.temperature,
        "median_steps": settings.steps,
        "moved_to_land": False,
        "license": settings.license,
    }


def _shown(name: str, found: OutputDifference) -> dict[str, str]:
    return {
        "file": name,
        "places": str(found.places),
        "posterior": "" if found.posterior is None else f"{found.posterior:.1e}",
        "points": f"{found.km * 1000.0:.2f} m",
    }


def _show(checks: list[tuple[str, OutputDifference]], settings: ExportSettings) -> None:
    title = f"Against torch; allowed: {settings.posterior:g} in a probability, {settings.km * 1000.0:g} m"
    table = Table("file", "places", "probability", "points", title=title, title_justify="left")
    for name, found in checks:
        table.add_row(*_shown(name, found).values())
    Console(soft_wrap=True, highlight=False).print(table)


def _replace(fresh: Path, out: Path) -> None:
    """Puts the finished files in place of those of an earlier export."""
    if not out.exists():
        fresh.chmod(0o755)  # a temporary folder is its owner's alone
        fresh.rename(out)
        return
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    for one in sorted(fresh.iterdir()):
        os.replace(one, out / one.name)
