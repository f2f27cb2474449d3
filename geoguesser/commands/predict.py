"""Prediction: one `python -m geoguesser.predict`, from its config to the table that a competition asks for."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xxhash
from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.data.store.reader import Store, is_store
from geoguesser.errors import ConfigError, DataError, MissingFileError, StoreError, check_choice, check_int
from geoguesser.inference.batch_inference import PredictedBatch, check_store, predict_places, predict_store
from geoguesser.inference.ensemble import Ensemble, load_runs
from geoguesser.inference.inputs import InputPlace, compute_signature, find_places, list_missing_headings
from geoguesser.inference.output_journal import RowJournal
from geoguesser.inference.output_table import COMPETITION_COLUMNS, list_columns, make_empty_row, make_rows
from geoguesser.inference.predictor import choose_device
from geoguesser.inference.saved_model import find_network_file
from geoguesser.system.files import write_csv
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)
MAX_LOGGED = 10  # of what is broken, in the log; all of it is in the table


class PredictSettings(NamedTuple):
    """What the config says beside the inputs."""

    batch_size: int
    whole: bool  # a place needs all four views
    on_bad: str
    short: bool  # a competition's columns alone


def run_predict(cfg: DictConfig) -> pd.DataFrame:
    """Predicts all places of `images` and writes `out`.

    Args:
        cfg: The config of conf/predict.yaml.

    Returns:
        The table that was written: in the order of the inputs, or of the store.

    Raises:
        GeoguesserError: What the user can mend; `out` is then not written, and what was done is kept.
    """
    config = to_plain(cfg, list_known_keys("predict"))
    settings = PredictSettings(
        batch_size=check_int("batch_size", config["batch_size"], low=1),
        whole=check_choice("missing_views", config["missing_views"], ("mask", "error")) == "error",
        on_bad=check_choice("on_bad", config["on_bad"], ("empty", "prior", "skip", "error")),
        short=check_choice("columns", config["columns"], ("all", "competition")) == "competition",
    )
    device = choose_device(str(config["device"]))
    out = Path(str(config["out"])).expanduser()
    _check_out(out, config["images"])
    source = _source(config["images"], config["root"])
    ensemble = load_runs(config["run"], device=device)
    if isinstance(source, Store):
        check_store(ensemble, source, "images")
        ids = source.table()["uuid"].tolist()
        signs = [digest.tobytes().hex() for digest in source.digests()]
    else:
        ids, signs = [one.uuid for one in source], [compute_signature(one) for one in source]
        if settings.whole and settings.on_bad == "error":
            _check_whole(source)
    key = _key(config)
    try:
        journal = RowJournal(out.with_name(f"{out.name}.journal"), key, list_columns(ensemble.grid is not None))
    except OSError as error:
        where = f"out={out}: {out.name}.journal"
        raise StoreError.at(where, f"cannot be written beside it ({error.strerror or error})") from error
    try:
        _fill(journal, ensemble, source, (ids, signs), settings)
    except KeyboardInterrupt:
        log.warning("interrupted: %d of %d places are kept; the same command goes on", len(journal.rows), len(ids))
        raise
    finally:
        journal.close(remove=not journal.rows)
    return _finish(journal, ids, out, settings)


def _check_out(out: Path, images: Any) -> None:
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={out}", "must lie in a folder that exists", found=str(out.parent))
    if out.is_dir() or out.suffix.lower() != ".csv":
        raise ConfigError.at("out", "must be the name of a .csv file", found=str(out))
    given = images if isinstance(images, list) else [images]
    if out.exists() and any(out.resolve() == Path(str(one)).expanduser().resolve() for one in given):
        raise ConfigError.at("out", "must be another file than images, for it is replaced", found=str(out))


def _source(images: Any, root: Any) -> Store | list[InputPlace]:
    if isinstance(images, str) and is_store(Path(images).expanduser()):
        return Store.open(Path(images).expanduser())
    return find_places(images, None if root is None else str(root))


def _key(config: dict[str, Any]) -> dict[str, Any]:
    """What rows depend on beside their images."""
    runs = [config["run"]] if isinstance(config["run"], str) else config["run"]
    digests = [xxhash.xxh3_128_hexdigest(find_network_file(run).read_bytes()) for run in runs]
    return {"format": 1, "runs": digests} | {name: config[name] for name in ("missing_views", "on_bad")}


def _check_whole(places: list[InputPlace]) -> None:
    for one in places:
        lacks = list_missing_headings(one)
        if lacks:
            names = ", ".join(f"{heading}.jpg" for heading in lacks)
            raise DataError.at(
                one.files.folder, f"lacks {names}", remedy="With missing_views=mask fewer views are enough."
            )


def _fill(
    journal: RowJournal,
    ensemble: Ensemble,
    source: Store | list[InputPlace],
    named: tuple[list[str], list[str]],
    settings: PredictSettings,
) -> None:
    """Answers what the journal lacks."""
    ids, signs = named
    pairs = enumerate(zip(ids, signs, strict=True))
    wanted = np.array([row for row, pair in pairs if not journal.has(*pair)], dtype=np.int64)
    done = len(ids) - len(wanted)
    if done:
        log.info("%d of %d places are done already", done, len(ids))
    if isinstance(source, Store):
        batches = predict_store(ensemble, source, wanted, batch_size=settings.batch_size)
    else:
        batches = predict_places(ensemble, [source[row] for row in wanted], batch_size=settings.batch_size)
    with tqdm(total=len(ids), initial=done, desc="predicting", unit=" places", disable=None) as bar:
        for batch in batches:
            own = wanted[batch.rows]
            sign_of = {ids[row]: signs[row] for row in own}
            for table in _rows(batch, list(sign_of), ensemble, settings):
                journal.add(table, [sign_of[uuid] for uuid in table["uuid"]])
            bar.update(len(own))


def _rows(
    batch: PredictedBatch, uuids: list[str], ensemble: Ensemble, settings: PredictSettings
) -> Iterator[pd.DataFrame]:
    """The rows of a batch: of the places that were answered, then of each that was not."""
    with_cells = ensemble.grid is not None
    views = batch.there.sum(axis=1)
    notes = ["; ".join(one) for one in batch.broken]
    seen = views > 0
    good = views == 4 if settings.whole else seen
    for row in np.flatnonzero(~good & (views > 0)):
        notes[row] = "; ".join(filter(None, (notes[row], f"has {views[row]} of 4 views")))
    if settings.on_bad == "error" and not good.all():
        first = int(np.argmin(good))
        reason = notes[first] or "has no view"
        raise DataError.at(
            f"place {uuids[first]}", f"cannot be answered: {reason}",
            remedy="To go on without: on_bad=empty, prior or skip.",
        )  # fmt: skip
    if batch.answers is not None:
        told = [uuid for uuid, one in zip(uuids, seen, strict=True) if one]
        noted = [note for note, one in zip(notes, seen, strict=True) if one]
        table = make_rows(told, batch.answers, views[seen], noted, with_cells=with_cells)
        if good[seen].any():
            yield table[good[seen]]
    for row in np.flatnonzero(~good):
        if settings.on_bad == "prior":
            yield make_rows(
                [uuids[row]], ensemble.predict_prior(), views[[row]], [notes[row]], with_cells=with_cells
            )
        else:
            yield make_empty_row(uuids[row], int(views[row]), notes[row], with_cells=with_cells)


def _finish(journal: RowJournal, ids: list[str], out: Path, settings: PredictSettings) -> pd.DataFrame:
    """Writes the table, and says what was wrong."""
    table = journal.table(ids)
    whole = {name: "Int64" for name in table if name == "views" or re.fullmatch(r"cell_\d", str(name))}
    table = table.astype(whole)  # a column of whole numbers stays one where some are blank
    bad = table["views"] < (4 if settings.whole else 1)
    noted = table[table["broken"] != ""]
    if settings.on_bad == "skip":
        table = table[~bad]
    if bad.all() and settings.on_bad != "prior":
        journal.close(remove=True)
        rule = "four whole views" if settings.whole else "a whole view"
        first = "; ".join(noted[["uuid", "broken"]].iloc[0]) if len(noted) else "nothing"
        raise DataError.at("images", f"must hold a place with {rule}; of {len(ids)} none has: {first}")
    try:
        write_csv(out, table[list(COMPETITION_COLUMNS)] if settings.short else table)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    journal.close(remove=True)
    for uuid, note in zip(noted["uuid"][:MAX_LOGGED], noted["broken"], strict=False):
        log.warning("%s: %s", uuid, note)
    if len(noted) > MAX_LOGGED:
        log.warning("%s more with broken views: column broken", format_count(len(noted) - MAX_LOGGED, "place"))
    fewer = Counter(table["views"][table["views"] < 4].astype(int).tolist())
    parts = [f"{count} with {views} of 4 views" for views, count in sorted(fewer.items(), reverse=True)]
    word = {"skip": "left out", "prior": "predicted without views"}.get(settings.on_bad, "left empty")
    log.info("%s written to %s, %d %s", format_count(len(table), "place"), out, int(bad.sum()), word)
    if parts:
        log.info("of these %s", ", ".join(parts))
    return table
