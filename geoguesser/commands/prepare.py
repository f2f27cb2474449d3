"""Command `python -m geoguesser.prepare`: from its config to a store and its report."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.commands.configs import conf_dir, format_override, instantiate_node, list_known_keys, to_plain
from geoguesser.data.augment import Augment
from geoguesser.data.images import ImageSpec
from geoguesser.data.prepare import prepare_store
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.errors import ConfigError, DataError, StoreError, check_bool
from geoguesser.reporting.dataset.report import DataReport
from geoguesser.system.files import refuse_links, write_csv

log = logging.getLogger(__name__)


def run_prepare(cfg: DictConfig) -> PreparedDataset:
    """Checks, merges, splits and packs a dataset; with `check_only=true` it writes no store.

    Args:
        cfg: Config of conf/prepare.yaml.

    Raises:
        GeoguesserError: The config or the data break a rule. findings.csv is written nevertheless.
    """
    start = time.perf_counter()
    config = to_plain(cfg, list_known_keys("prepare"))

    check_only = check_bool("check_only", config["check_only"])
    pictures = check_bool("pictures", config["pictures"])
    out, report = _check_folder("out", config["out"]), _check_folder("report", config["report"])
    if out is None and not check_only:
        raise ConfigError.at(
            "out", "must name the store's folder", found=None, remedy="Or look only: check_only=true."
        )

    if out is not None:
        refuse_links(out)

    image: ImageSpec = instantiate_node(config["image"], "image")
    specs = _make_specs(image, config["sizes"])
    split = instantiate_node(config["split"], "split")
    split.check()
    data = instantiate_node(
        config["data"],
        "data",
        region=instantiate_node(config["region"], "region"),
        image=image,
        split=split,
        augment=Augment(),
        seed=0,
    )
    if not isinstance(data, PlacesDataModule):
        raise ConfigError.at("data", "must be places or demo: a store is prepared already", found=data.source.name)

    target = report or (None if check_only else out)
    try:
        prepared = prepare_store(data, specs, None if check_only else out, look=out)
    except DataError:
        _save_findings(target, data)
        raise

    # The report is written before anything is printed, so that a closed pipe cannot prevent it.
    page, path = DataReport(prepared, data, out=None if check_only else out), None
    if target is not None:
        try:
            path = page.write(target, pictures=pictures)
        except OSError as error:
            raise StoreError.at(str(target), f"takes no report ({error.strerror or error})") from error

    page.show()
    if path is not None:
        log.info("report: %s", path)
    log.info("%.0f s in all", time.perf_counter() - start)
    if not check_only:
        log.info("train with: %s", _format_next_command(config, image, str(out)))
    return prepared


def _save_findings(target: Path | None, data: PlacesDataModule) -> None:
    """Writes all findings, of which the error message lists a few. A failure is only logged."""
    table = data.findings.to_table()
    if target is None or table.empty:
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_csv(target / "findings.csv", table, for_people=True)
        log.info("all %d findings: %s", len(table), target / "findings.csv")
    except OSError as error:
        log.warning("%s takes no findings.csv (%s)", target, error.strerror or error)


def _format_next_command(config: dict[str, Any], image: ImageSpec, out: str) -> str:
    """Returns the shell command that trains from the store."""
    arguments = ["data=store", format_override("data.path", out)]
    presets = {path.stem for path in (Path(conf_dir()) / "image").glob("*.yaml")}
    arguments.append(f"image=px{image.size}" if f"px{image.size}" in presets else f"image.size={image.size}")
    if image.fit != "crop":
        arguments.append(f"image.fit={image.fit}")

    # The default region needs no argument.
    region = {key: value for key, value in config["region"].items() if value is not None}
    choice = str(region.pop("_target_")).rsplit(".", 1)[-1]
    if region != {"code": "HRV", "crs": "EPSG:3765"}:
        arguments += [
            f"region={choice}",
            *(format_override(f"region.{key}", value) for key, value in region.items()),
        ]
    return shlex.join(["python", "-m", "geoguesser.train", *arguments])


def _check_folder(key: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not str(value).strip():
        raise ConfigError.at(key, "must name a folder", found=value)
    path = Path(str(value)).expanduser()
    if path.exists() and not path.is_dir():
        raise ConfigError.at(key, "must be a folder, not a file", found=str(value))
    return path


def _make_specs(image: ImageSpec, sizes: Any) -> list[ImageSpec]:
    """Returns the specs to pack, that of `image.size` first."""
    if sizes is None:
        return [image]
    if not isinstance(sizes, list):
        raise ConfigError.at(
            "sizes", "must be a list of sizes in pixels", found=sizes, remedy="For example sizes=[112,224]."
        )

    specs = {image.size: image}
    for size in sizes:
        try:
            specs.setdefault(size, ImageSpec(size=size, fit=image.fit))
        except ConfigError as error:
            raise ConfigError(str(error).replace("image.size", "sizes", 1)) from None
    return list(specs.values())
