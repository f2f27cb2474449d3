"""Titles and captions of the pictures that explain a run. docs/report.md has longer explanations."""

from __future__ import annotations

from typing import NamedTuple

from geoguesser.reporting.explanation.maps import MAX_ARCS, Confusion


class PictureText(NamedTuple):
    """Title and caption of a picture."""

    title: str
    caption: str


# Anchor of each section of the page -> its heading.
SECTIONS = {
    "map": "Test places",
    "places": "Best, middle and worst places",
    "errors": "Where the errors are",
    "sureness": "Uncertainty and its calibration",
    "looking": "What the network looks at",
    "network": "The network",
    "missing": "What is missing",
    "config": "Configuration",
}

PICTURE_TEXTS = {
    "extremes": PictureText(
        "Best and worst places",
        "Each row is a place: four views, and a map with the true point (star) and the predicted point (cross).",
    ),
    "posterior": PictureText(
        "Posterior",
        "Darker cells are more probable. The star is the true point, the cross the predicted point. "
        "A prediction between two dark cells is a compromise between them.",
    ),
    "prediction": PictureText(
        "Place and prediction",
        "Below the four views, the star is the true point and the cross the predicted point. The head has no "
        "cells, so there is no posterior.",
    ),
    "quadruplet": PictureText(
        "A place and its four views",
        "Each view is on the side of its heading. The star is the point where the views were taken.",
    ),
    "arrows": PictureText("True to predicted", "Each arrow points from a test place to its predicted point."),
    "fields": PictureText(
        "Error by part of the land",
        "Mean error of the test places in each square, with their number in brackets. Means of one or two places "
        "are not reliable.",
    ),
    "budget": PictureText(
        "Error budget",
        "Contribution of each group of places to the mean error. Long bars show where most can be gained.",
    ),
    "confusion": PictureText(
        "Confused cells",
        "Each arrow points from a true cell to the cell predicted instead; wider arrows are more frequent.",
    ),
    "calibration": PictureText(
        "Calibration",
        "Left: on the dashed line, cells with a probability of 60 % are right in 60 of 100 cases. Right: share of "
        "test places whose true point lies in the set of cells or within the radius.",
    ),
    "coverage": PictureText(
        "Coverage at every level",
        "On the dashed line, the share of test places that are covered equals the nominal level. Bands are 95 % "
        "intervals. A set contains complete cells, so that at low levels it covers more than the nominal level.",
    ),
    "abstention": PictureText(
        "Abstention",
        "Error of the remaining places if those with the largest expected error are refused. A curve that falls "
        "to the right shows that expected errors are informative.",
    ),
    "headings": PictureText(
        "Contribution of each heading",
        "Left: distance by which predictions move if the view of that heading is left out. Right: increase of the "
        "error (below zero, predictions are better without the view). Lines are 95 % intervals of the mean, drawn "
        "for at least 40 places.",
    ),
    "CAM": PictureText(
        "Class activation",
        "Red parts of a view support the predicted cell, blue parts oppose it, relative to the average view. The "
        "activation of a view sums to its bar, its contribution to the score of the cell.",
    ),
    "Grad-CAM": PictureText(
        "Class activation (Grad-CAM)",
        "Dark parts of a view support the predicted cell, to first order, because this network does not average "
        "and weight its last feature map. A view without colour has no such part.",
    ),
    "network": PictureText(
        "From views to a prediction",
        "From top to bottom: parts of the network with their parameter counts and the shapes of their outputs.",
    ),
    "filters": PictureText(
        "Filters of the first layer",
        "Each square is a filter, drawn as the colours it responds to. Grey is a weight of zero; the scale is the "
        "same for all filters.",
    ),
}  # fmt: skip

# Whether the fusion is linear -> meaning of the bars below an activation, in the caption and in the picture.
BARS_CAPTION = {
    True: "Bars: contribution of each view to the score of the cell, relative to the average view.",
    False: "Bars: loss of the cell's score without the view; contributions cannot be separated for this network.",
}
BARS_LEGEND = {
    True: "contribution of each view to the cell's score",
    False: "loss of the cell's score without the view",
}
MOVED_CAPTION = "Kilometres: distance by which the predicted point moves without the view."


def describe_confusion(confusion: Confusion) -> PictureText:
    """Returns title and caption of the picture of a confusion, with its counts."""
    text = PICTURE_TEXTS["confusion"]
    drawn, near = min(MAX_ARCS, len(confusion.pairs)), int(confusion.counts[confusion.near].sum())
    touching = f", {near:,} of them one that touches the true cell" if near else ""
    counts = (
        f"{confusion.wrong:,} of {confusion.places:,} places got a wrong cell{touching}; "
        f"the {drawn:,} most frequent of {len(confusion.pairs):,} pairs are drawn."
    )
    return text._replace(caption=f"{text.caption} {counts}")
