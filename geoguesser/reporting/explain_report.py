"""A report from its parts: pictures, values for the map, the page."""

from __future__ import annotations

from pathlib import Path

from geoguesser.reporting.explain_data import data_of
from geoguesser.reporting.explain_page import explain_page
from geoguesser.reporting.explain_pictures import Gallery, draw_all
from geoguesser.reporting.explain_subject import Subject
from geoguesser.reporting.page import write_page
from geoguesser.reporting.run_views import label_of


def title_of(subject: Subject, label: str) -> str:
    """As the run's own pictures: region, data, name."""
    name = str(subject.run.config.get("name") or subject.run.name)
    return ", ".join(part for part in (subject.region.name, label, name) if part)


def write_report(subject: Subject, out: Path, *, thumbnails: int, neighbours: bool) -> Gallery:
    """Draws the pictures into the run's folder and writes the page.

    Args:
        subject: The run and its places.
        out: The page.
        thumbnails: Of how many places views are embedded.
        neighbours: Whether cells that touch count as confused.
    """
    label = label_of(subject.run.config)
    title = title_of(subject, label)
    gallery = draw_all(subject, subject.run.folder / "pictures", title=title, neighbours=neighbours)
    data = data_of(subject, thumbnails=thumbnails)
    write_page(out, explain_page(subject, gallery, data, title=title, label=label))
    return gallery
