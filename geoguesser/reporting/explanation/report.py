"""Report that explains a run: pictures, values of the map, and the page."""

from __future__ import annotations

from pathlib import Path

from geoguesser.reporting.explanation.gallery import Gallery, draw_gallery
from geoguesser.reporting.explanation.map_data import make_map_data
from geoguesser.reporting.explanation.page import render_explanation
from geoguesser.reporting.explanation.subject import Subject
from geoguesser.runs.run_images import find_label
from geoguesser.system.files import write_text


def write_report(subject: Subject, out: Path, *, thumbnails: int, neighbours: bool) -> Gallery:
    """Draws the pictures into the run's folder and writes the page; `neighbours` is that of `draw_gallery`."""
    label, name = find_label(subject.run.config), str(subject.run.config.get("name") or subject.run.name)
    # The title of the pictures that the run drew.
    title = ", ".join(filter(None, (subject.region.name, label, name)))
    gallery = draw_gallery(subject, subject.run.folder / "pictures", title=title, neighbours=neighbours)
    data = make_map_data(subject, thumbnails=thumbnails)
    write_text(out, render_explanation(subject, gallery, data, title=title, label=label))
    return gallery
