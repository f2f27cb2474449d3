"""Command `predict`: predicts the coordinates of places with one or several runs and writes a table."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xxhash
from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.data.place_files import HEADINGS
from geoguesser.data.store.reader import Store, is_store
from geoguesser.errors import ConfigError, DataError, MissingFileError, StoreError, check_choice, check_int
from geoguesser.inference.batch_inference import PredictedBatch, check_store, predict_places, predict_store
from geoguesser.inference.ensemble import Ensemble, load_runs
from geoguesser.inference.inputs import InputPlace, compute_signature, find_places
from geoguesser.inference.output_journal import RowJournal
from geoguesser.inference.output_table import COMPETITION_COLUMNS, list_columns, make_empty_row, make_rows
from geoguesser.inference.predictor import choose_device
from geoguesser.inference.saved_model import find_network_file
from geoguesser.system.files import write_csv
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)

# Places with problems in the log; the table has all of them.
MAX_LOGGED = 10


class PredictSettings(NamedTuple):
    """Checked values of conf/predict.yaml; `min_views` is the minimum number of views of a place."""

    batch_size: int
    min_views: int
    on_bad: str
    is_competition: bool


def run_predict(cfg: DictConfig) -> pd.DataFrame:
    """Predicts all places of `images` and writes `out`.

    Returns:
        The table that was written, in the order of the inputs or of the store.

    Raises:
        GeoguesserError: `out` is then not written; finished places are kept in its journal.
    """
    config = to_plain(cfg, list_known_keys("predict"))
    missing_views = check_choice("missing_views", config["missing_views"], ("mask", "error"))
    settings = PredictSettings(
        batch_size=check_int("batch_size", config["batch_size"], low=1),
        min_views=4 if missing_views == "error" else 1,
        on_bad=check_choice("on_bad", config["on_bad"], ("empty", "prior", "skip", "error")),
        is_competition=check_choice("columns", config["columns"], ("all", "competition")) == "competition",
    )
    device = choose_device(str(config["device"]))
    out = Path(str(config["out"])).expanduser()
    _check_out(out, config["images"])

    # Places, with a signature of each place's images.
    images = config["images"]
    source: Store | list[InputPlace]
    if isinstance(images, str) and is_store(Path(images).expanduser()):
        source = Store.open(Path(images).expanduser())
    else:
        source = find_places(images, None if config["root"] is None else str(config["root"]))
    ensemble = load_runs(config["run"], device=device)
    if isinstance(source, Store):
        check_store(ensemble, source, "images")
        digests = [digest.tobytes().hex() for digest in source.digests()]
        signatures = dict(zip(source.table()["uuid"].tolist(), digests, strict=True))
    else:
        signatures = {place.uuid: compute_signature(place) for place in source}
        if settings.min_views == 4 and settings.on_bad == "error":
            _check_all_views(source)

    # The journal keeps finished places, so that the same command continues after it was stopped.
    key = _make_journal_key(config)
    try:
        journal = RowJournal(out.with_name(f"{out.name}.journal"), key, list_columns(ensemble.grid is not None))
    except OSError as error:
        where = f"out={out}: {out.name}.journal"
        raise StoreError.at(where, f"cannot be written beside it ({error.strerror or error})") from error
    try:
        _fill_journal(journal, ensemble, source, signatures, settings)
    except KeyboardInterrupt:
        counts = (len(journal.rows), len(signatures))
        log.warning("interrupted: %d of %d places are kept; the same command goes on", *counts)
        raise
    finally:
        journal.close(remove=not journal.rows)
    return _write_table(journal, list(signatures), out, settings)


def _check_out(out: Path, images: Any) -> None:
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={out}", "must lie in a folder that exists", found=str(out.parent))
    if out.is_dir() or out.suffix.lower() != ".csv":
        raise ConfigError.at("out", "must be the name of a .csv file", found=str(out))

    inputs = images if isinstance(images, list) else [images]
    if out.exists() and any(out.resolve() == Path(str(path)).expanduser().resolve() for path in inputs):
        raise ConfigError.at("out", "must be another file than images, for it is replaced", found=str(out))


def _make_journal_key(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the values, apart from the images, that rows depend on."""
    runs = [config["run"]] if isinstance(config["run"], str) else config["run"]
    digests = [xxhash.xxh3_128_hexdigest(find_network_file(run).read_bytes()) for run in runs]
    return {"format": 1, "runs": digests} | {name: config[name] for name in ("missing_views", "on_bad")}


def _check_all_views(places: list[InputPlace]) -> None:
    for place in places:
        pairs = zip(HEADINGS, place.files.names, strict=True)
        if missing := [f"{heading}.jpg" for heading, name in pairs if name is None]:
            rule = f"lacks {', '.join(missing)}"
            remedy = "With missing_views=mask fewer views are enough."
            raise DataError.at(place.files.folder, rule, remedy=remedy)


def _fill_journal(
    journal: RowJournal,
    ensemble: Ensemble,
    source: Store | list[InputPlace],
    signatures: dict[str, str],
    settings: PredictSettings,
) -> None:
    """Predicts the places that the journal lacks."""
    uuids = list(signatures)
    remaining = np.flatnonzero([not journal.has(*pair) for pair in signatures.items()])
    done = len(uuids) - len(remaining)
    if done:
        log.info("%d of %d places are done already", done, len(uuids))

    if isinstance(source, Store):
        batches = predict_store(ensemble, source, remaining, batch_size=settings.batch_size)
    else:
        places = [source[row] for row in remaining]
        batches = predict_places(ensemble, places, batch_size=settings.batch_size)
    with tqdm(total=len(uuids), initial=done, desc="predicting", unit=" places", disable=None) as bar:
        for batch in batches:
            batch_uuids = [uuids[row] for row in remaining[batch.rows]]
            for table in _make_tables(batch, batch_uuids, ensemble, settings):
                journal.add(table, [signatures[uuid] for uuid in table["uuid"]])
            bar.update(len(batch_uuids))


def _make_tables(
    batch: PredictedBatch, uuids: list[str], ensemble: Ensemble, settings: PredictSettings
) -> Iterator[pd.DataFrame]:
    """Yields the rows of a batch: those of the predicted places, then one table for each other place."""
    with_cells = ensemble.grid is not None
    views = batch.present.sum(axis=1)
    has_view, is_good = views > 0, views >= settings.min_views
    notes = ["; ".join(problems) for problems in batch.problems]
    for row in np.flatnonzero(~is_good & has_view):
        notes[row] = "; ".join(filter(None, (notes[row], f"has {views[row]} of 4 views")))

    if settings.on_bad == "error" and not is_good.all():
        first = int(np.argmin(is_good))
        raise DataError.at(
            f"place {uuids[first]}",
            f"cannot be answered: {notes[first] or 'has no view'}",
            remedy="To go on without: on_bad=empty, prior or skip.",
        )

    if batch.predictions is not None:
        # The networks predict all places with a view, also those with too few.
        predicted = [uuids[row] for row in np.flatnonzero(has_view)]
        predicted_notes = [notes[row] for row in np.flatnonzero(has_view)]
        table = make_rows(predicted, batch.predictions, views[has_view], predicted_notes, with_cells=with_cells)
        if is_good[has_view].any():
            yield table[is_good[has_view]]

    for row in np.flatnonzero(~is_good):
        if settings.on_bad == "prior":
            prior = ensemble.predict_prior()
            yield make_rows([uuids[row]], prior, views[[row]], [notes[row]], with_cells=with_cells)
        else:
            yield make_empty_row(uuids[row], int(views[row]), notes[row], with_cells=with_cells)


def _write_table(journal: RowJournal, uuids: list[str], out: Path, settings: PredictSettings) -> pd.DataFrame:
    """Writes the table, removes the journal and logs the problems."""
    table = journal.table(uuids)
    # Columns of integers stay integers if some rows are empty.
    integers = [name for name in table if name == "views" or re.fullmatch(r"cell_\d", str(name))]
    table = table.astype(dict.fromkeys(integers, "Int64"))
    bad = table["views"] < settings.min_views
    with_notes = table[table["broken"] != ""]
    if bad.all() and settings.on_bad != "prior":
        journal.close(remove=True)
        rule = "four whole views" if settings.min_views == 4 else "a whole view"
        first = "; ".join(with_notes[["uuid", "broken"]].iloc[0]) if len(with_notes) else "nothing"
        raise DataError.at("images", f"must hold a place with {rule}; of {len(uuids)} none has: {first}")

    if settings.on_bad == "skip":
        table = table[~bad]
    try:
        write_csv(out, table[list(COMPETITION_COLUMNS)] if settings.is_competition else table)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    journal.close(remove=True)

    for uuid, note in zip(with_notes["uuid"][:MAX_LOGGED], with_notes["broken"], strict=False):
        log.warning("%s: %s", uuid, note)
    if (more := len(with_notes) - MAX_LOGGED) > 0:
        log.warning("%s more with broken views: column broken", format_count(more, "place"))

    treatment = {"skip": "left out", "prior": "predicted without views"}.get(settings.on_bad, "left empty")
    log.info("%s written to %s, %d %s", format_count(len(table), "place"), out, int(bad.sum()), treatment)
    fewer = table["views"][table["views"] < 4].value_counts().sort_index(ascending=False)
    if len(fewer):
        log.info("of these %s", ", ".join(f"{count} with {views} of 4 views" for views, count in fewer.items()))
    return table
