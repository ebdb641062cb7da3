"""The list of new cases to review, the most doubtful first, as a page shows it."""

import numpy as np

from .own_tables import number
from .plotting import LABELS
from .summaries import Cell

MOST_ROWS = 50  # of a table on the page; the others are in its file
WORDS = LABELS | {
    "dice": "Dice",
    "assd_mm": "ASSD (mm)",
    "ece_class": "ECE of the class (%)",
    "segment_entropy": "entropy (nats)",
    "volume_ml": "volume (ml)",
    "expected_dice": "expected Dice",
    "pairwise_dice": "Dice between members",
    "oodm": "distance (OODM)",
}


def expected_in_words(row):
    """The expected Dice of each segment of a case, with its interval, in a sentence."""
    names = [name for name in row if name.endswith(" expected_dice")]
    told = [f"{name.removesuffix(' expected_dice')} {_interval(row, name)}" for name in names]
    return "; ".join(told)


def _interval(row, name):
    """A number of the review list with its interval."""
    expected = name.replace(" volume_ml", " expected_ml")  # the volume that the truth may have
    lo, hi = row.get(f"{expected} lo", np.nan), row.get(f"{expected} hi", np.nan)
    ends = f" ({number(lo)} to {number(hi)})" if np.isfinite([lo, hi]).all() else ""
    return number(row[name]) + ends


def review_table(evaluation):
    """The review list as a table: names of its numbers, intervals below them."""
    review = evaluation.review.sort_values("rank")
    shown = ("score", "pairwise_dice", "oodm", "expected_dice", "volume_ml")
    names = [name for name in review.columns if name.rsplit(" ", 1)[-1] in shown]
    names = [name for name in names if review[name].notna().any()]
    rows = [
        (f"{row['rank']:.0f}. {row['case']}", [_cell(row, name) for name in names])
        for row in review.head(MOST_ROWS).to_dict("records")
    ]
    return [_in_words(name) for name in names], [("", rows)] if rows else []


def _in_words(name):
    """A column of the review list in words."""
    *segment, metric = name.rsplit(" ", 1)
    return " ".join([*segment, WORDS.get(metric, metric.replace("_", " "))])


def _cell(row, name):
    """A number of the review list with its interval below it."""
    value, _, interval = _interval(row, name).partition(" (")
    return Cell(value, interval.rstrip(")"))
