"""From the scores of your own model to the tables that answer for it: pure functions.

The scores are long: ``case, patient, method, member, n_members, region, segment, metric, value``,
with an empty segment where all are together. The methods are ``baseline`` (each member),
``ensemble`` where there are several members, ``temperature`` and ``vector_scaling``, which correct
the ensemble, or the one member.

The unit of every mean, interval and test is the patient: scans of one patient are averaged first.
Counts (``n_voxels``, ``n_true``, ...) are in no mean over patients, and stay in the scores.
"""

import pandas as pd

from ... import statistics
from ...report import review
from ...report.summaries import patient_means, summarise
from ...report.verdicts import dice_of_present, is_absent, verdict
from .correction import METHODS as CORRECTIONS

CALIBRATION = ("nll", "brier", "ece", "mce", "ece_class")
SEGMENTATION = ("dice", "hd95_mm", "assd_mm")  # an entropy is neither better nor worse
GROUP = ["region", "segment", "metric"]
OF_DIFFERENCE = ["difference", "lo", "hi", "p", "n_cases", "verdict", "why"]
MOST_DRAWN = 4_000_000  # patients in all resamples together: 32 MB, and seconds for 1,000 patients
OF_LINE = ["slope", "intercept", "n", "n_missing", "n_clipped", "error", "held", "n_patients"]


def own_tables(scores, seed=0):
    """Return all tables by name: the files below ``tables`` that are called so.

    Parameters
    ----------
    scores : pandas.DataFrame
        As this module's docstring has it.
    seed : int
        Of resampling.

    Returns
    -------
    dict of pandas.DataFrame
        ``summary``, ``differences``, ``entropy_dice``, ``entropy_fit``, ``risk_coverage`` and
        ``aurc``.
    """
    pairs, doubts = entropy_and_dice(scores), risks_and_doubts(scores)
    return {
        "summary": summary(scores, seed),
        "differences": differences(scores, seed),
        "entropy_dice": pairs,
        "entropy_fit": entropy_fit(pairs, seed),
        "risk_coverage": risk_coverage(doubts),
        "aurc": aurc(doubts, seed),
    }


def resamples_for(n_patients):
    """How many resamples to draw: 10,000 up to 400 patients, then fewer, at least 2,000.

    With so many patients chance moves the bounds by a few per cent of the interval at most.

    >>> [resamples_for(n) for n in (50, 400, 1000, 5000)]
    [10000, 10000, 4000, 2000]
    """
    most, least = statistics.N_RESAMPLES, statistics.MIN_RESAMPLES
    return min(most, max(least, MOST_DRAWN // max(n_patients, 1)))


def summary(scores, seed=0):
    """Return mean and both intervals over patients of each method, region, segment and metric.

    Columns as from `report.summaries.summarise`; ``n_cases`` and ``n_missing`` count patients. The
    baseline is the mean of the members that there are: two or five folds say next to nothing of how
    others would vary.
    """
    by = ["method", *GROUP]
    means = (
        _patient_means(scores).groupby([*by, "patient"], sort=False, as_index=False).value.mean()
    )
    n_resamples = resamples_for(means.patient.nunique())
    return summarise(means, by, case="patient", n_resamples=n_resamples, seed=seed)


def differences(scores, seed=0):
    """Return paired differences over patients, with intervals, p-values and verdicts.

    The ensemble stands against the mean of its members, what is corrected against what it
    corrects, and vector scaling against the temperature; of a temperature, which leaves every arg
    max, calibration alone. A row has ``method, against, region, segment, metric, difference, lo,
    hi, p, n_cases, verdict, why``; n_cases counts the patients that both have a number for. Nothing
    is concluded where the ensemble, or the one member, has a poor mean Dice in a segment, or where
    no label holds one.
    """
    means = _patient_means(scores)  # of all: the counts tell which segments are absent
    means = means[means.metric.isin([*CALIBRATION, *SEGMENTATION])]
    wide = means.pivot_table("value", [*GROUP, "patient"], "method", sort=False)
    whole = "ensemble" if "ensemble" in wide else "baseline"
    compared = [("ensemble", "baseline")] if whole == "ensemble" else []
    compared += [(method, whole) for method in CORRECTIONS if method in wide]
    compared += [CORRECTIONS[::-1]] if {*CORRECTIONS} <= {*wide} else []
    dice, rows = _mean_dice(means, whole), []
    for method, against in compared:
        both = wide[[method, against]].dropna()
        for group, values in both.groupby(GROUP, sort=False):
            if "temperature" in (method, against) and group[-1] in SEGMENTATION:
                continue
            row = {"method": method, "against": against, **dict(zip(GROUP, group, strict=True))}
            found = _difference(values[method], values[against], row["metric"], dice, seed)
            rows.append(row | found)
    return pd.DataFrame(rows, columns=["method", "against", *GROUP, *OF_DIFFERENCE])


def entropy_and_dice(scores):
    """Return ``case, patient, segment, segment_entropy, dice``: a row a case and segment.

    Of the ensemble, or of the one member. The entropy is NaN where nothing was predicted.
    """
    rows = _of_whole(scores)
    rows = rows[rows.metric.isin(["segment_entropy", "dice"]) & (rows.segment != "")]
    rows = rows[rows["member"] == 0]  # hard labels have several
    keys = ["case", "patient", "segment"]
    pairs = rows.pivot(index=keys, columns="metric", values="value")
    pairs = pairs.reindex(columns=["segment_entropy", "dice"]).reset_index()
    return pairs.rename_axis(columns=None)


def entropy_fit(pairs, seed=0):
    """Return of each segment the line of logit Dice on entropy (`review.fit_dice`), and its r.

    Logit Dice is ``intercept + slope`` times the entropy; ``r, lo, hi`` are of both; ``error`` is
    that of a new patient's Dice, and ``held`` the share of scans within the interval of 95 % that
    the other patients give.
    """
    rows = []
    for segment, one in pairs.groupby("segment", sort=False):
        line = review.fit_dice(one.segment_entropy, one.dice, one.patient)
        logit_dice, _ = statistics.logit(one.dice)
        n_resamples = resamples_for(one.patient.nunique())
        x_and_y = one.segment_entropy, logit_dice, one.patient
        r = review.pearson_interval(*x_and_y, n_resamples=n_resamples, seed=seed)
        rows.append({"segment": segment, **dict(zip(["r", "lo", "hi"], r, strict=True))})
        rows[-1] |= {name: getattr(line, name) for name in OF_LINE}
    return pd.DataFrame(rows, columns=["segment", "r", "lo", "hi", *OF_LINE])


def risks_and_doubts(scores):
    """Return, by case, ``patient``, ``risk`` and each score of doubt: what orders are judged by.

    The risk is 1 - mean Dice over the segments that the truth holds; a case without any is left
    out. The scores are the mean ``segment_entropy`` over the segments that were predicted, the
    ``uncertainty``, the ``disagreement`` of members, 1 - their mean pairwise Dice over the segments
    that one of them predicts (NaN, the most doubtful, where there is none), and the ``oodm`` if all
    cases have signatures.
    """
    rows = _of_whole(scores)
    present = dice_of_present(rows[(rows.segment != "") | (rows.metric != "dice")])
    found = rows.groupby("case", sort=False).patient.first().to_frame()
    found["risk"] = 1 - present.groupby("case").value.mean()
    metrics = rows.groupby(["case", "metric"]).value.mean().unstack()  # NaN are left out
    for name in ("segment_entropy", "uncertainty"):
        if name in metrics:
            found[name] = metrics[name]
    if "pairwise_dice" in metrics:
        found["disagreement"] = 1 - metrics.pairwise_dice
    if "oodm" in metrics and metrics.oodm.notna().all():
        found["oodm"] = metrics.oodm
    return found.dropna(subset="risk")


def risk_coverage(doubts):
    """Return ``score, coverage, risk`` of each score, and of the oracle's and random order."""
    if doubts.empty:
        return pd.DataFrame(columns=["score", "coverage", "risk"])
    orders = dict(doubts.drop(columns=["patient", "risk"]))
    orders |= {"oracle": doubts.risk, "random": 0 * doubts.risk}
    tables = []
    for name, score in orders.items():
        coverage, risk = review.risk_coverage(doubts.risk, score)
        tables.append(pd.DataFrame({"score": name, "coverage": coverage, "risk": risk}))
    return pd.concat(tables, ignore_index=True)


def aurc(doubts, seed=0):
    """Return the AURC of each score beside random and oracle order, with interval and verdict.

    Also of a model that segments poorly: it is then that an order is of use.
    """
    rows, n_patients = [], doubts.patient.nunique()
    n_resamples = resamples_for(n_patients)
    orders = dict(doubts.drop(columns=["patient", "risk"])) if n_patients else {}
    for name, score in orders.items():
        found = review.order_of_review(doubts.risk, score, doubts.patient, n_resamples, seed=seed)
        row = {"score": name, **found._asdict(), "n_cases": len(doubts)}
        said = verdict(found.lo, found.hi, n_patients, words=("better", "worse"), unit="patient")
        rows.append(row | _verdict_columns(said))
    columns = ["score", *review.OrderOfReview._fields, "n_cases", "verdict", "why"]
    return pd.DataFrame(rows, columns=columns)


def _patient_means(scores):
    """Scores but for counts, the scans of one patient averaged; what is missing stays NaN.

    Of a segment that the truth does not hold overlap and distances are missing.
    """
    is_missing = is_absent(scores) & scores.metric.isin(SEGMENTATION)
    scores = scores.assign(value=scores.value.mask(is_missing))
    scores = scores[~scores.metric.str.startswith("n_")].fillna({"segment": ""})
    return patient_means(scores, ["method", *GROUP, "member"])


def _of_whole(scores):
    """Scores of whole cases by the ensemble, or by the one member."""
    method = "ensemble" if "ensemble" in set(scores.method) else "baseline"
    rows = scores[(scores.method == method) & (scores.region == "whole")]
    return rows.fillna({"segment": ""})


def _mean_dice(means, whole):
    """Mean Dice of what is judged, by segment, over patients whose label holds it; NaN of none."""
    rows = means[(means.method == whole) & (means.metric == "dice") & (means.segment != "")]
    return rows.groupby("segment", sort=False).value.mean().to_dict()


def _difference(values, others, metric, dice, seed):
    """The paired difference of two methods on the same patients, in columns."""
    words = ("worse", "better") if metric == "dice" else ("better", "worse")
    n_resamples = resamples_for(len(values))
    difference, lo, hi = statistics.paired_interval(values, others, n_resamples, seed=seed)
    p = statistics.paired_p_value(values, others, n_resamples, seed)
    row = {"difference": difference, "lo": lo, "hi": hi, "p": p, "n_cases": len(values)}
    said = verdict(lo, hi, len(values), words=words, dice=dice, unit="patient")
    return row | _verdict_columns(said)


def _verdict_columns(said):
    """A verdict in two columns: what stands before the first colon, and why."""
    return dict(zip(("verdict", "why"), said.partition(": ")[::2], strict=True))
