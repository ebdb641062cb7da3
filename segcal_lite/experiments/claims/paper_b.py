"""What the tables of a run say about the claims of paper B.

Joint, dedicated and fine-tuned networks are compared on the same test cases, set by set. Detectors
are judged by the score that each gives to each case of a trial. Each network was trained once:
intervals are of patients, and say nothing about the next training.

B3 was mended after its tables had been seen: of phantoms it compared chains of three sets with the
joint network of eight, not with that of the same three, and was undecided either way.
"""

from functools import partial

import numpy as np
import pandas as pd

from ...detection import auc_difference, auc_interval, flagged_patients
from ...report.summaries import with_patients
from ...report.verdicts import POOR_DICE, share_interval
from ...statistics import bootstrap_statistic, mean_interval
from ...training.plans import AND, THEN
from .rules import Part
from .statements import ABOVE, MARGIN

TRAININGS = ("joint", "dedicated")
ERRORS = ("ece_box", "mce_box")
FARTHER = (  # B6: a nearer and a farther unseen set
    ("cp_older", "cp_younger"),  # B's fetuses, of a network that knows newborns
    ("cortical_plate_spina_bifida", "glioma"),  # the organ that it knows, ill; another organ
    ("cortical_plate_spina_bifida", "mandible"),  # another modality, too
    ("left_ventricle_abnormal_rv", "cortical_plate_spina_bifida"),  # a disease; an organ
    ("left_ventricle_healthy", "cortical_plate_spina_bifida"),  # no disease; an organ
    ("glioma_other_sites", "cortical_plate_spina_bifida"),  # other hospitals; an organ
)


def parts_of_b(joint=None, transfer=None, detection=None):
    """Return the parts of each claim of paper B that a run has something to say about.

    Parameters
    ----------
    joint : pandas.DataFrame, optional
        Long, ``tables/joint.csv``: training (``joint`` or ``dedicated``), set, case, metric, value.
    transfer : pandas.DataFrame, optional
        The same, ``tables/transfer.csv``: each training is a chain of sets, or the joint one of
        these sets, which may be fewer than those of `joint`.
    detection : pandas.DataFrame, optional
        ``tables/ood_volumes_scores.csv``, from `segcal_lite.experiments.detection_scores`.

    Returns
    -------
    dict of list of Part
        By the claim's name; claims without evidence are not there.
    """
    found = {}
    if joint is not None:
        found |= {"B1": _as_well(joint), "B2": _calibrated(joint)}
    if transfer is not None:
        found["B3"] = _against_chains(transfer)
    if detection is not None:
        detection = with_patients(detection)
        found |= {"B4": _separates(detection), "B5": _passes(detection), "B6": _farther(detection)}
    return {name: parts for name, parts in found.items() if parts}


def by_patient(table, training, name, metric):
    """Return a metric of one training on one set, a series by patient."""
    is_asked = (table.training == training) & (table["set"] == name) & (table.metric == metric)
    return with_patients(table[is_asked]).groupby("patient").value.mean()


def lower_dice(name, *trainings):
    """Return the lower mean Dice on a set of some trainings, each a (table, training)."""
    return float(min(by_patient(*training, name, "dice").mean() for training in trainings))


def relative(name, first, second, dice, claimed=None, sign=1):
    """Return the part of (first - second) / second over the same cases, as a list."""
    pairs = np.column_stack(first.align(second, join="inner")).astype(float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(pairs):
        return []

    def interval(level):
        def statistic(total):
            return sign * (total[0] - total[1]) / total[1]

        return bootstrap_statistic(pairs, statistic, level=level)

    return [Part(name, interval, len(pairs), dice, claimed)]


def _as_well(joint):
    """Parts of joint against dedicated training: Dice of each set, as a share."""
    parts = []
    for name in dict.fromkeys(joint["set"]):
        pair = [(joint, training) for training in TRAININGS]
        dice = lower_dice(name, *pair)
        parts += relative(name, *(by_patient(*of, name, "dice") for of in pair), dice)
    return parts


def _calibrated(joint):
    """Parts of joint minus dedicated training: errors of calibration in the box, each set."""
    parts = []
    for metric in ERRORS:
        for name in dict.fromkeys(joint["set"]):
            pair = [(joint, training) for training in TRAININGS]
            own, rival = (by_patient(*of, name, metric) for of in pair)
            values = (own - rival).dropna().to_numpy()
            if len(values):
                interval, dice = partial(mean_interval, values), lower_dice(name, *pair)
                parts.append(Part(f"{metric}, {name}", interval, len(values), dice))
    return parts


def _against_chains(transfer):
    """Parts of joint against fine-tuned networks, on the last set of each whole chain."""
    trainings = dict.fromkeys(transfer.training)
    joint_of = {_sets_of(of): of for of in trainings if THEN not in of}
    longest = max((training.count(THEN) for training in trainings), default=0)
    parts = []
    for chain in (of for of in trainings if of.count(THEN) == longest > 0):
        joint, name = joint_of.get(_sets_of(chain)), chain.split(THEN)[-1]
        if joint is None:
            continue
        pair = (transfer, joint), (transfer, chain)
        dice = lower_dice(name, *pair)
        for metric, sign, claimed in (("dice", 1, (-MARGIN, np.inf)), ("ece_box", -1, ABOVE)):
            values = (by_patient(*of, name, metric) for of in pair)
            parts += relative(f"{metric}, {chain}", *values, dice, claimed, sign)
    return parts


def _sets_of(training):
    """The sets that a training's name holds, by name: in whatever order it sees them."""
    return tuple(sorted(training.replace(THEN, AND).split(AND)))


def _of_trials(detection, detector):
    """Yield each trial with the rows that a detector has in it."""
    for title, rows in detection[detection.detector == detector].groupby("trial", sort=False):
        yield title, rows.sort_values(["set", "case"])


def _separates(detection):
    """Parts of the spectral detector's AUC minus that of uncertainty, each trial."""
    parts, rivals = [], dict(_of_trials(detection, "uncertainty"))
    for title, rows in _of_trials(detection, "spectral"):
        if title in rivals:
            scores = [_in_and_out(of, "score") for of in (rows, rivals[title])]
            patients = _in_and_out(rows, "patient")
            interval = partial(auc_difference, *scores, patients=patients)
            parts.append(Part(title, interval, _fewest(rows), _poorest(rows)))
    return parts


def _passes(detection):
    """Parts of the share of flagged images minus one half, of unseen sets with a good Dice.

    The network works on a set where its mean Dice is at least `POOR_DICE` and within a tenth of
    that on the known sets.
    """
    parts = []
    for title, rows in _of_trials(detection, "spectral"):
        known = rows[rows.known].dice.mean()
        for name, of_set in rows[~rows.known].groupby("set", sort=False):
            if of_set.dice.mean() >= max(POOR_DICE, (1 - MARGIN) * known):
                counts = flagged_patients(of_set.score > of_set.threshold, of_set.patient)
                interval = partial(_share, *counts)
                parts.append(Part(f"{name}, {title}", interval, counts[1], _poorest(rows)))
    return parts


def _farther(detection):
    """Parts of the chance that the farther set's image has the larger OODM, minus one half.

    Trials with the same known sets have one network and one detector: their scores compare.
    """
    parts, by_known = [], {}
    for _, rows in _of_trials(detection, "spectral"):
        by_known.setdefault(frozenset(rows["set"][rows.known]), []).append(rows)
    for trials in by_known.values():
        rows = pd.concat(trials).drop_duplicates(["set", "case"])
        for near, far in FARTHER:
            pair = [rows[(rows["set"] == name) & ~rows.known] for name in (near, far)]
            if all(map(len, pair)):
                scores, patients = ([of[name] for of in pair] for name in ("score", "patient"))
                n = min(of.nunique() for of in patients)
                interval = partial(_beyond_half, scores, patients)
                parts.append(Part(f"{far} beyond {near}", interval, n, _poorest(rows)))
    return parts


def _in_and_out(rows, column):
    """What known and what unseen images have in a column."""
    return [rows[column][rows.known == is_known].to_numpy() for is_known in (True, False)]


def _poorest(rows):
    """The mean Dice on the known set on which it is lowest."""
    return float(rows[rows.known].groupby("set").dice.mean().min())


def _fewest(rows):
    """The number of patients of known or of unseen images, whichever is smaller."""
    return int(rows.groupby("known").patient.nunique().min())


def _beyond_half(scores, patients, level):
    return tuple(bound - 0.5 for bound in auc_interval(*scores, level, patients))


def _share(n_flagged, n, level):
    return n_flagged / n - 0.5, *(bound - 0.5 for bound in share_interval(n_flagged, n, level))
