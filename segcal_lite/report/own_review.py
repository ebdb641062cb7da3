"""The list of new cases to review, and sentences on what its order is worth, as a page has them."""

import numpy as np

from .._checks import named
from ..runs.arrays import read_arrays
from .own_tables import ends_of, enumerated, in_words, many, number
from .plotting import LABELS
from .summaries import Cell

PANELS = {"image": "image", "prediction": "predicted", "entropy": "entropy"}  # and their arrays
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
    names.sort(key=lambda name: " " in name)  # first what is of the whole case
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
    """A number of the review list with its interval below it, or that it is beyond a threshold."""
    if name == "oodm":
        return Cell(number(row[name]), "beyond the threshold" if row["is_ood"] else "")
    value, _, interval = _interval(row, name).partition(" (")
    return Cell(value, interval.rstrip(")"))


def panels(path):
    """What the picture of a new case shows, by the arrays that the case has left."""
    found = read_arrays(path) if path.exists() else {"predicted"}
    return [name for name, array in PANELS.items() if array in found]


def panels_in_words(pictures):
    """What all pictures show, in a sentence; nothing without any."""
    told = []
    for name in PANELS:
        n_shown = sum(name in shown for shown in pictures)
        words = "where the model is in doubt (bright)" if name == "entropy" else name
        rest = "" if n_shown == len(pictures) else " (where there is one)"
        told += [words + rest] if n_shown else []
    return f"The pictures show one slice of each: {enumerated(told)}." if told else ""


def list_in_short(evaluation):
    """Which new cases the list has first, or why there is none, in a sentence."""
    review, n_left_out = evaluation.review, (evaluation.left_out.group == "new").sum()
    if review.empty and n_left_out:
        none = f"None of the {many(n_left_out, 'new case')} could"
        none = "The new case could not" if n_left_out == 1 else none
        return f"{none} be read: see what was left out."
    if review.empty:
        return "No cases without labels were given (--new), so there is no list."
    if review.score.isna().all():
        return f"The review list has {many(len(review), 'new case')} in order of their names."
    names = enumerated(review.sort_values("rank").case.head(3))
    listed = f"the review list puts {many(len(review), 'new case')} in order"
    return f"First {names}; {listed}, the most doubtful first."


def why_no_order(evaluation):
    """Why no order of doubt was tried on the labelled cases, in a sentence."""
    rows = evaluation.summary
    n_present = rows.n_cases[(rows.metric == "dice") & (rows.interval == "mean")]
    if not n_present.any():
        return "No label holds a segment, so no order could be tried on the labelled cases."
    return "Nothing here measures doubt, so no order was tried on the labelled cases."


def left_alone(evaluation, score):
    """What a look at the most doubtful fifth would spare, in a list."""
    curve = evaluation.risk_coverage
    curve = curve[(curve.score == score) & curve.risk.notna()].sort_values("coverage")
    if len(curve) < 2:
        return []
    some, whole = curve.iloc[:-1], curve.iloc[-1]  # a person looks at one case at least, at none
    chosen = some.loc[(some.coverage - 0.8).abs().idxmin()]
    looked = 100 * (1 - chosen.coverage)
    return [
        f"If a person looks at the most doubtful {looked:.0f} %, the others have a mean Dice of "
        f"{number(1 - chosen.risk)}; all cases together have {number(1 - whole.risk)}."
    ]


def area(row):
    """AURC of one score beside random and oracle order, in a sentence."""
    aurc, random, oracle = (row[name] for name in ("aurc", "random", "oracle"))
    text = f"Ordered by {in_words(row['score'])} the AURC is {number(aurc)}, in random order "
    text += f"{number(random)}, in the best possible order {number(oracle)}"
    ends = ends_of(row["lo"], row["hi"])
    text += f"; against random order {number(row['difference'])}{f' ({ends})' if ends else ''}"
    return f"{text}: {row['verdict']}."


def errors_of_forecast(evaluation):
    """How far the expected Dice of a new patient is off, in a list."""
    fits = evaluation.entropy_fit[evaluation.entropy_fit.error.notna()]
    told = [f"{row.segment} {number(row.error)}" for row in fits.itertuples()]
    text = "For patients who were left out of the fit, the expected Dice is off on average by"
    return [f"{text} {', '.join(told)}."] if told else []


def far_from_training(evaluation):
    """Which new cases lie beyond the threshold of OODM, in a list."""
    rows = evaluation.oodm
    if rows.empty:
        return []
    threshold, n_training = rows.threshold.iloc[0], (rows.group == "training").sum()
    told, n_beyond = [], dict.fromkeys(("new", "labelled"), 0)
    for group in n_beyond:
        of = rows[rows.group == group]
        beyond = of.case[of.is_ood.astype(bool)]
        n_beyond[group] = len(beyond)
        if len(of):
            names = f" ({named(beyond)})" if len(beyond) else ""
            told.append(f"{len(beyond)} of {many(len(of), f'{group} case')}{names}")
    text = f"{' and '.join(told)} lie farther from the {n_training:,} training cases (OODM) than "
    sentences = [f"{text}the threshold of {threshold:.3g}{_meaning(**n_beyond)}."]
    seen = rows.case[(rows.group != "training") & (rows.oodm == 0)]
    if len(seen):
        text = f"The signature of {many(len(seen), 'case')} ({named(seen)}) is a training case's"
        sentences.append(f"{text}: scores of images that a network was trained on prove nothing.")
    return sentences


def _meaning(new, labelled):
    """What it means that so many new and labelled cases are unlike the training cases."""
    if new and labelled:
        why = "what is expected of the new ones rests on the labelled ones among them"
    elif new:
        why = "no labelled case is like these, and what is expected of them may not hold"
    return f": the network has seen no such images; {why}" if new else ""
