"""Three questions on somebody's predictions, answered from the tables of their evaluation.

The sentences are for a reader who is no statistician: a number comes with its interval, and where
the data are too few to conclude anything, that is the answer.
"""

from typing import NamedTuple

from ..statistics import ROUNDING
from .own_review import (
    area,
    errors_of_forecast,
    far_from_training,
    left_alone,
    list_in_short,
    why_no_order,
)
from .own_tables import (
    METRICS,
    POINTS,
    REGIONS,
    capital,
    in_words,
    many,
    number,
    with_interval,
)
from .verdicts import LEAST_TEST_CASES, POOR_DICE

NAMED = "95 % interval {}"  # of the first interval that is read; others stand in brackets alone
LEANING = {
    True: "They are too high: the model is over-confident.",
    False: "They are too low: the model is under-confident.",
}
RULES = (
    f"Nothing is concluded from fewer than {LEAST_TEST_CASES} patients, from a model with a mean "
    f"Dice below {POOR_DICE} in a segment, where no label holds a segment, or where there is no "
    "interval. Only the order of review is judged of such a model, too: to find poor segmentations "
    "is what it is for. The numbers are told all the same; they describe these cases and no others."
)
WORTH = {  # of an order, by its verdict against random order
    "better": "On the labelled cases, {} finds poor segmentations better than chance.",
    "worse": "On the labelled cases, {} finds poor segmentations worse than chance.",
    "undecided": "On the labelled cases, {} is not shown to be better than chance.",
    "no conclusion": "Whether {} is worth anything cannot be concluded: {}.",
}
NO_PROBABILITIES = (
    "A hard label says to which segment a voxel belongs, not how sure the model is; without that, "
    "calibration and entropy do not exist. Predict again and save the probabilities "
    "(nnU-Net: --save_probabilities)."
)


class Answer(NamedTuple):
    """A question, its answer in one sentence, and the sentences that it rests on."""

    question: str
    short: str
    sentences: list


def three_answers(evaluation):
    """Can I trust its probabilities, what corrects them, and which cases should a person see?"""
    return [trust(evaluation), correction(evaluation), doubtful_cases(evaluation)]


def trust(evaluation):
    """Answer the first question from ECE, NLL, reliability and the ensemble's differences."""
    question, ece = "Can I trust its probabilities?", evaluation.level("ece")
    if ece is None:
        short = "That cannot be said: there are only hard labels, no probabilities."
        return Answer(question, short, [NO_PROBABILITIES, *_overlap(evaluation)])
    where, told = REGIONS[evaluation.region], with_interval("ece", ece, "mean", NAMED, POINTS)
    words, sentences = _reliability(evaluation)
    short = capital(f"{where} they are off by {told} on average. {words}".strip())
    reasons = evaluation.doubts()
    if reasons:
        short = f"No conclusion: {'; '.join(reasons)}."
        n = len(evaluation.ece_of_cases())
        seen = "In this case" if n == 1 else f"In these {many(n, 'case')}"
        sentences = [f"{seen}, and perhaps in no other, the ECE {where} is {told}.", *sentences]
    sentences += _case_by_case(evaluation)
    nll = evaluation.level("nll")
    if nll is not None:
        sentences.append(f"The NLL there is {with_interval('nll', nll, 'mean')}.")
    sentences += _compared(
        evaluation, "The ensemble against one of its members alone", "ensemble", "baseline"
    )
    return Answer(question, short, [*sentences, *_overlap(evaluation)])


def correction(evaluation):
    """Answer the second question from the paired differences of both corrections."""
    question = "What corrects them?"
    if evaluation.level("ece") is None:
        return Answer(question, "Nothing can: hard labels hold no probabilities to correct.", [])
    methods = [
        method
        for method in ("temperature", "vector_scaling")
        if evaluation.level("nll", method) is not None
    ]
    if not methods:
        short = "No correction was fitted in this evaluation."
        if evaluation.correction:
            short = "That cannot be told from one patient, to whom all corrections were fitted."
        return Answer(question, short, [])
    sentences = [_before_and_after(evaluation, method) for method in methods]
    sentences += _compared(
        evaluation, "Vector scaling against temperature scaling", "vector_scaling", "temperature"
    )
    sentences += _temperatures(evaluation)
    rows = {method: evaluation.difference("nll", method) for method in methods}
    best = _best_correction(evaluation, rows)
    if best is not None:
        sentences.append(
            f"The option --write-corrected {best} has probabilities so corrected written as NIfTI."
        )
    return Answer(question, _recommended(evaluation, rows, best), sentences)


def doubtful_cases(evaluation):
    """Answer the third question from the review list, and from how its order did where labels are.

    The first score of `aurc` is the one that the list is ordered by.
    """
    question, short = "Which cases should a person look at?", list_in_short(evaluation)
    if evaluation.aurc.empty:
        return Answer(question, short, [why_no_order(evaluation)])
    first, *others = evaluation.aurc.to_dict("records")
    shown = [first, *(row for row in others if row["score"] == "oodm")]
    order = f"ordering by {in_words(first['score'])}"
    worth = WORTH.get(first["verdict"], WORTH["undecided"]).format(order, first["why"])
    sentences = [*left_alone(evaluation, first["score"]), *map(area, shown)]
    sentences += [*errors_of_forecast(evaluation), *far_from_training(evaluation)]
    return Answer(question, f"{short} {worth}", sentences)


def _reliability(evaluation):
    """Whether confidence is too high or too low, in a sentence; and the numbers behind it."""
    rows = evaluation.reliability
    rows = rows[(rows.method == evaluation.method) & (rows.region == evaluation.region)]
    rows = rows[rows["count"] > 0]
    if rows.empty:
        return "", []
    share, gap = rows["count"] / rows["count"].sum(), rows.confidence - rows.accuracy
    confidence, accuracy = (100 * (share * rows[name]).sum() for name in ("confidence", "accuracy"))
    whole = (
        f"Over all cases together {evaluation.judged} says {number(confidence)} % on average "
        f"and is right in {number(accuracy)} % of the voxels."
    )
    error = share * gap.abs()
    if error.sum() < ROUNDING:
        return "", [whole]
    lean = (share * gap).sum() / error.sum()
    words = LEANING[lean > 0] if abs(lean) > 0.5 else "Some are too high, others too low."
    worst = rows.loc[error.idxmax()]
    part = (
        f"The largest part of the error comes from the {worst['count']:,.0f} voxels to which it "
        f"gives {number(100 * worst.lower)} to {number(100 * worst.upper)} %: it says "
        f"{number(100 * worst.confidence)} % there, and {number(100 * worst.accuracy)} % are right."
    )
    return words, [whole, part]


def _case_by_case(evaluation):
    """The lowest and the highest ECE of a case, in a list."""
    ece = evaluation.ece_of_cases()
    if len(ece) < 2:
        return []
    least, most = ((f"{number(100 * ece.iloc[i])} % ({ece.index[i]})") for i in (0, -1))
    return [f"Case by case the ECE runs from {least} to {most}."]


def _compared(evaluation, what, method, against):
    """ECE and NLL of one method against another, in a list."""
    found = []
    for metric in ("ece", "nll"):
        row = evaluation.difference(metric, method, against)
        if row is not None:
            found.append(
                f"{METRICS[metric][0]} {with_interval(metric, row, 'difference')}: {row['verdict']}"
            )
    return [f"{what}: {'; '.join(found)}."] if found else []


def _overlap(evaluation):
    """Mean Dice of each segment, in a list."""
    rows = {name: evaluation.level("dice", None, "whole", name) for name in evaluation.segments}
    told = [
        f"{name} {with_interval('dice', row, 'mean')}"
        for name, row in rows.items()
        if row is not None and row.n_cases
    ]
    text = f"How well it segments, mean Dice: {'; '.join(told)}.{evaluation.unplaced}"
    return [text] if told else []


def _before_and_after(evaluation, method):
    """What a correction does to ECE and NLL, in a sentence."""
    told = [_change(evaluation, metric, method) for metric in ("ece", "nll")]
    told = "; ".join(filter(None, told)) or "not compared"
    return capital(f"{evaluation.name_of(method)}: {told}.")


def _change(evaluation, metric, method, brackets="{}"):
    """What a correction does to one metric; nothing where it was not compared."""
    row, after = evaluation.difference(metric, method), evaluation.level(metric, method)
    before = evaluation.level(metric)
    if row is None or after is None or before is None:
        return ""
    name, factor, unit = METRICS[metric]
    ends = f"from {number(factor * before['mean'])} to {number(factor * after['mean'])}{unit}"
    return f"{name} {ends}, {with_interval(metric, row, 'difference', brackets)}: {row['verdict']}"


def _best_correction(evaluation, rows):
    """Which correction to take, by its difference of the NLL; None if none is better."""
    better = [m for m, row in rows.items() if row is not None and row["verdict"] == "better"]
    if len(better) < 2:
        return next(iter(better), None)
    rival = evaluation.difference("nll", "vector_scaling", "temperature")
    return better[rival is not None and rival["verdict"] == "better"]


def _recommended(evaluation, rows, best):
    """Which correction to take, and what it does, in a sentence."""
    if best is None:
        open_ones = [row for row in rows.values() if row is not None]
        if open_ones and all(row["verdict"] == "no conclusion" for row in open_ones):
            return f"That cannot be concluded: {open_ones[0]['why']}."
        return "Nothing that was tried, as far as these cases tell: leave them as they are."
    reason = ", one number that leaves the segmentation as it is" if best == "temperature" else ""
    told = _change(evaluation, "nll", best, NAMED), _change(evaluation, "ece", best)
    return capital(f"{evaluation.name_of(best)}{reason}: {'; '.join(filter(None, told))}.")


def _temperatures(evaluation):
    """The fitted temperature, what it means, and how it varies between folds, in a list."""
    found, is_off = evaluation.correction, evaluation.level("ece")["mean"] > ROUNDING
    temperature = found.get("of all", {}).get("temperature")
    if temperature is None:
        return []
    folds = [
        fold.get("temperature", temperature)
        for fold in found.get("without the patient of", {}).values()
    ]
    text = f"Fitted to all cases the temperature is {number(temperature)}"
    if is_off and temperature != 1:
        text += f": the probabilities were too {'high' if temperature > 1 else 'low'}"
    if folds:
        text += f"; fitted without a part of them, {number(min(folds))} to {number(max(folds))}"
    return [f"{text}."]
