"""What a report says of its pictures: a name, and a sentence on how to read each. docs/report.md says more."""

from __future__ import annotations

from typing import NamedTuple

from geoguesser.reporting.explanation.maps import MAX_ARCS, Confusion


class PictureText(NamedTuple):
    """A picture's name and how to read it."""

    title: str
    caption: str


SECTIONS = {  # anchor -> heading
    "map": "Test places",
    "places": "Best, worst, and in between",
    "errors": "Where the errors are",
    "sureness": "How sure, and how rightly",
    "looking": "What the network looks at",
    "network": "The network",
    "missing": "What is missing",
    "config": "Configuration",
}

PICTURE_TEXTS = {
    "extremes": PictureText(
        "Best and worst places",
        "Each row is a place: its four views, and where it is (star) and where the model puts it (cross).",
    ),
    "posterior": PictureText(
        "Posterior",
        "The darker a cell, the more probable; star: where the place is, cross: the answer. "
        "An answer between two dark cells is a compromise of both.",
    ),
    "answer": PictureText(
        "Place and answer",
        "Above the four views; star: where the place is, cross: the answer. The head has no cells, so there is no "
        "posterior.",
    ),
    "quadruplet": PictureText(
        "A place and its four views",
        "Each view stands on the side that it looks to; the star is where they were taken.",
    ),
    "arrows": PictureText("True to predicted", "Each arrow goes from a test place to its predicted point."),
    "fields": PictureText(
        "Error by part of the land",
        "Mean error of the test places in each square, and in brackets how many these are; a square of one or two "
        "says little.",
    ),
    "budget": PictureText(
        "Error budget",
        "What each group of places adds to the mean error: long bars are where there is most to gain.",
    ),
    "confusion": PictureText(
        "Cells taken for others",
        "Each arrow goes from a true cell to the one that was answered instead; the wider, the more often.",
    ),
    "calibration": PictureText(
        "Calibration",
        "Left: on the dashed line, cells called 60 % probable are right in 60 of 100 cases. Right: how often sets "
        "and radii hold the true place.",
    ),
    "coverage": PictureText(
        "Coverage at every level",
        "On the dashed line, what is promised to hold the place in so many of 100 cases does. Shades are 95 % "
        "intervals. Cells come whole, so below the share of right first cells a set holds more than promised.",
    ),
    "abstention": PictureText(
        "Abstention",
        "The error of the places that still get an answer, when those of largest expected error get none: the "
        "lower to the right, the better the model knows where it errs.",
    ),
    "headings": PictureText(
        "What each heading contributes",
        "Left: how far answers move when the view to that side is left out. Right: by how much the error grows "
        "(below zero: without it answers are better). Lines are 95 % intervals of the mean, where there are 40 "
        "places or more.",
    ),
    "CAM": PictureText(
        "Class activation",
        "Red parts of a view speak for the answered cell, blue ones against it, measured against the average "
        "view; a view's colours sum to its bar, what it adds to the cell's score.",
    ),
    "Grad-CAM": PictureText(
        "Class activation (Grad-CAM)",
        "Dark parts of a view speak for the answered cell, to first order: this network's last map is not simply "
        "averaged and weighed. A view without colour has nothing that does.",
    ),
    "network": PictureText(
        "From views to an answer",
        "From top to bottom, with the parameters of each part and the shape of what leaves it.",
    ),
    "filters": PictureText(
        "Filters of the first layer",
        "Each square is a filter as the colours that it answers to; grey is a weight of zero, all on one scale.",
    ),
}  # fmt: skip

BARS_CAPTION = {  # whether the fusion is linear -> what the bars below an activation are
    True: "Bars: what each view adds to the cell's score against the average view.",
    False: "Bars: what the cell's score loses without that view, for what it adds cannot be told apart.",
}
BARS_LEGEND = {True: "what each view adds to the cell's score", False: "what the cell's score loses without it"}
MOVED_CAPTION = "Kilometres: how far the answer moves without that view."


def describe_confusion(found: Confusion) -> PictureText:
    """The words of the confusion's picture, with its counts."""
    words, drawn = PICTURE_TEXTS["confusion"], min(MAX_ARCS, len(found.pairs))
    near = int(found.counts[found.near].sum())
    counts = (
        f"{found.wrong:,} of {found.places:,} places got another cell"
        + (f", {near:,} of these one that touches" if near else "")
        + f"; the {drawn:,} most frequent of {len(found.pairs):,} pairs are drawn."
    )
    return words._replace(caption=f"{words.caption} {counts}")
