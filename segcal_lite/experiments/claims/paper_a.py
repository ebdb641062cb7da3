"""What the scores of a run say about the claims of paper A.

Each statistic is of test cases of the domains that were trained on, averaged over the segments that
the truth holds; A9 sets those of other domains against them, and A13 looks for failures in all, as
the paper does. Of five single networks or more patients and members are both drawn anew; fewer are
averaged, and the interval is of the networks that there are. (Of two, such as models with dropout,
an interval would show the spread between them and little else. The first form of the rules did not
have this: by it A5 and A12 of the heart were undecided.) Networks of different losses are paired by
their number, which means nothing and costs nothing: all pairs of one size have the same mean and
the same variance. Of pools of two sizes every network counts, too (`_of_pools`).

Three rules were mended after their tables had been seen. A6 drew patients alone, and held on the
heart; now its networks are drawn, too. A8 asked of CE models the range that is printed of Dice
models. A13 took the segments of a patient for so many patients, and concluded of poor networks.
Several cases of one patient are averaged; no dataset whose tables are published names any.
"""

from functools import partial

import numpy as np

from ...detection import auc_interval
from ...ensembles import selection_matrix
from ...report.review import pearson_interval
from ...report.summaries import with_patients
from ...report.verdicts import is_absent
from ...statistics import interval_of_difference, logit, mean_interval
from .rules import Part, without_interval
from .statements import BELOW

LOSSES = ("ce", "dice")
CALIBRATION = ("nll", "brier", "ece")  # in the box; all else is of the whole volume
SIGNS = {"dice": 1, "hd95_mm": -1, "segment_entropy": 1} | dict.fromkeys(CALIBRATION, 1)
FEWEST_MEMBERS = 5  # that are drawn anew
FAILED = 0.05  # a Dice that A calls a total failure
METHODS = ("baseline", "mc_dropout", "ensemble")


def parts_of_a(scores, known_domains, task="", n_dims=2, seed=0):
    """Return the parts of each claim of paper A that a run has something to say about.

    Parameters
    ----------
    scores : pandas.DataFrame
        Long, as `Experiment.scores` gives it.
    known_domains : collection of str
        Domains of the training cases; test cases of others are shifted.
    task : str
        Its name: A11 treats the prostate by itself, whose name is in it, in whatever letters.
    n_dims : {2, 3}
        Of the networks: all claims but A10 are of slices.
    seed : int
        Of the run: which networks each ensemble of the sweep holds follows from it.

    Returns
    -------
    dict of list of Part
        By the claim's name; claims without evidence are not there.
    """
    scores = scores[~is_absent(scores)]
    known = scores[scores.domain.isin(known_domains)]
    found = {"A10": _gains(known, ("nll", "ece", "dice"), turned=("dice",))} if n_dims == 3 else {}
    if n_dims == 2:
        found = {
            "A1": _against(known, ("dice", "baseline"), ("ce", "baseline"), ("dice", "hd95_mm")),
            "A2": _against(known, ("ce", "baseline"), ("dice", "baseline"), ("nll", "ece")),
            "A3": _gains(known, CALIBRATION),
            "A4": _gains(known, ("dice", "hd95_mm")),
            "A5": _gains(known, CALIBRATION, rival="mc_dropout"),
            "A6": _cut(known, seed),
            "A7": _ten_against_one(known),
            "A8": _correlations(known),
            "A9": _shift(known, scores[~scores.domain.isin(known_domains)]),
            "A11": _of_dropout(known, task),
            "A12": _best_of_six(known),
            "A13": _failures(scores, lowest_dice(known, ("dice", "ensemble"))),
        }
    return {name: parts for name, parts in found.items() if parts}


def cells(scores, loss, method, metric, n_members=None):
    """Return a table of members by patients: the mean over segments of one metric."""
    is_asked = (scores.loss == loss) & (scores.method == method) & (scores.metric == metric)
    is_asked &= scores.region == ("box" if metric in CALIBRATION else "whole")
    if n_members is not None:
        is_asked &= scores.n_members == n_members
    rows = with_patients(scores[is_asked])
    return rows.pivot_table(index="member", columns="patient", values="value", aggfunc="mean")


def lowest_dice(scores, *pools):
    """Return the mean Dice of the segment that some pools (loss, method) segment worst, or None."""
    rows = scores[(scores.metric == "dice") & (scores.region == "whole") & scores.segment.notna()]
    means = rows.groupby(["loss", "method", "segment"]).value.mean()
    return min((mean for (*pool, _), mean in means.items() if tuple(pool) in pools), default=None)


def difference(name, first, second, sign=1, dice=None):
    """Return the part of a difference between two tables of members by patients, as a list.

    One that lacks a patient has no value there, such as a distance to nothing: he is left out.
    """
    patients = first.columns.intersection(second.columns)
    first, second = (_members(table[patients]) for table in (first, second))
    if not first.size or not second.size:
        return []
    values = sign * _of_pools(first, second)
    values = values[:, np.isfinite(values).all(axis=0)]
    if not values.size:
        return []
    return [Part(name, partial(mean_interval, values), values.shape[1], dice)]


def _of_pools(first, second):
    """Return first minus second, both (n_members, n_patients), a row a member of the smaller pool.

    One row is set against all of the other. Of pools of m < n networks, f and s, the rows are

    d_i = f_i - mean(s) - sqrt(m / n) (s_i - mean(s_1, ..., s_m))

    (Scheffe, Annals of Mathematical Statistics 1943). Their mean is that of f minus that of s, and
    their variance over m is that of f over m plus that of s over n: each pool is drawn by itself.
    """
    n_members = len(first), len(second)
    if 1 in n_members or n_members[0] == n_members[1]:
        return first - second
    if n_members[0] > n_members[1]:
        return -_of_pools(second, first)
    drawn = second[: len(first)]
    own = np.sqrt(len(first) / len(second)) * (drawn - drawn.mean(axis=0))
    return first - second.mean(axis=0) - own


def _members(table):
    """Return the members' values, or their mean where they are few."""
    values = table.to_numpy(float)
    return values if len(values) >= FEWEST_MEMBERS or not len(values) else values.mean(0)[None]


def _against(scores, pool, rival, metrics):
    """Parts of one pool (loss, method) minus a rival, by metric."""
    dice, parts = lowest_dice(scores, pool, rival), []
    for metric in metrics:
        tables = (cells(scores, *of, metric) for of in (pool, rival))
        parts += difference(metric, *tables, SIGNS[metric], dice)
    return parts


def _gains(scores, metrics, turned=(), rival="baseline"):
    """Parts of the ensemble minus another method, by loss and metric."""
    parts = []
    for loss in LOSSES:
        dice = lowest_dice(scores, (loss, "baseline"), (loss, rival))
        for metric in metrics:
            pair = (cells(scores, loss, method, metric) for method in ("ensemble", rival))
            sign = -SIGNS[metric] if metric in turned else SIGNS[metric]
            parts += difference(f"{metric}, {loss}", *pair, sign, dice)
    return parts


def _cut(scores, seed):
    """Part of the share of the NLL that five Dice models take away from one.

    A share of means is no mean, but patients and networks each add a pseudo-value to it: what the
    share is with all, and without the one. Ensembles of the sweep go with each network they hold.
    """
    single, fives = (
        cells(scores, "dice", *of).to_numpy() for of in (("baseline", "nll"), ("sweep", "nll", 5))
    )
    if not fives.size:
        return []
    drawn = selection_matrix(len(single), 5, len(fives), seed) > 0

    def share(networks, patients):
        is_whole = ~drawn[:, ~networks].any(axis=1)
        if not is_whole.any():
            return np.nan  # a pool so small that all its ensembles hold this network
        of_fives = fives[np.ix_(is_whole, patients)]
        return 1 - of_fives.mean() / single[np.ix_(networks, patients)].mean()

    networks, patients = (np.ones(n, bool) for n in single.shape)
    value = share(networks, patients)
    all_but_one = [~np.eye(n, dtype=bool) for n in single.shape]
    of_networks = _pseudo_values(value, [share(kept, patients) for kept in all_but_one[0]])
    of_patients = _pseudo_values(value, [share(networks, kept) for kept in all_but_one[1]])
    table = of_networks[:, None] + of_patients - value
    is_told = np.isfinite(table).all()
    interval = partial(mean_interval, table) if is_told else partial(without_interval, value)
    return [Part("nll", interval, len(of_patients), lowest_dice(scores, ("dice", "baseline")))]


def _pseudo_values(value, without):
    """The jackknife's, moved so that their mean is the value; see `bootstrap_statistic`."""
    slopes = -(len(without) - 1) * np.array(without)
    return slopes - slopes.mean() + value


def _ten_against_one(scores):
    """Part of Dice ensembles of ten minus single CE networks.

    They are the draws of ten, averaged, or the one ensemble of a pool that holds no more than ten.
    """
    drawn, whole = (cells(scores, "dice", of, "nll", 10) for of in ("sweep", "ensemble"))
    ten = (drawn if len(drawn) else whole).mean(axis=0).to_frame().T
    dice = lowest_dice(scores, *((loss, "baseline") for loss in LOSSES))
    return difference("nll", ten, cells(scores, "ce", "baseline", "nll"), dice=dice)


def segments_of(scores, loss):
    """Return entropy and Dice of each segment of each case, as the ensemble of a loss has them."""
    is_asked = (scores.loss == loss) & (scores.method == "ensemble") & scores.segment.notna()
    rows = scores[is_asked & scores.metric.isin(("segment_entropy", "dice"))]
    keys = ["patient", "case", "segment"]
    table = with_patients(rows).pivot_table(index=keys, columns="metric", values="value")
    return table.reindex(columns=["segment_entropy", "dice"]).dropna(subset="dice").reset_index()


def _correlations(scores):
    """Parts of Pearson's r over segments, by loss; patients are drawn anew."""
    parts = []
    for loss in LOSSES:
        table = segments_of(scores, loss).dropna()
        if len(table):
            logits, _ = logit(table.dice)
            pairs = table.segment_entropy.to_numpy(), logits, table.patient.to_numpy()
            interval = partial(pearson_interval, *pairs)
            dice, claimed = lowest_dice(scores, (loss, "ensemble")), BELOW if loss == "ce" else None
            parts.append(Part(f"r, {loss}", interval, table.patient.nunique(), dice, claimed))
    return parts


def _shift(known, shifted):
    """Parts of the shifted minus the known domain, by metric, the Dice ensemble."""
    parts, dice = [], lowest_dice(known, ("dice", "ensemble"))
    for metric, sign in (("segment_entropy", 1), ("dice", -1)):
        pair = [cells(of, "dice", "ensemble", metric) for of in (shifted, known)]
        values = [sign * table.mean(axis=0).dropna().to_numpy() for table in pair]
        if all(map(len, values)):
            interval = partial(_of_two_groups, values)
            parts.append(Part(metric, interval, min(map(len, values)), dice))
    return parts


def _of_two_groups(values, level):
    """Difference of two means, with its interval: who was scanned in both counts as two people."""
    return interval_of_difference(*(mean_interval(group, level=level) for group in values))


def is_prostate(task):
    """Whether a task, or the dataset that it is called after, is of the prostate."""
    return "prostate" in task.lower()


def _of_dropout(scores, task):
    """Parts of MC dropout minus single networks; of CE models the other way, but on prostate."""
    parts = []
    for loss in LOSSES:
        sign = -1 if loss == "ce" and not is_prostate(task) else 1
        pools = ("mc_dropout", "baseline")
        dice = lowest_dice(scores, *((loss, method) for method in pools))
        for metric in CALIBRATION:
            pair = (cells(scores, loss, method, metric) for method in pools)
            parts += difference(f"{metric}, {loss}", *pair, sign, dice)
    return parts


def _best_of_six(scores):
    """Parts of the Dice ensemble minus each of the other five methods: mean Dice."""
    best, parts = cells(scores, "dice", "ensemble", "dice"), []
    for rival in ((loss, method) for loss in LOSSES for method in METHODS):
        if rival != ("dice", "ensemble"):
            dice = lowest_dice(scores, ("dice", "ensemble"), rival)
            parts += difference(" ".join(rival), best, cells(scores, *rival, "dice"), dice=dice)
    return parts if len(parts) == 2 * len(METHODS) - 1 else []


def _failures(scores, dice):
    """Part of the AUC of segment entropy for failed segments; patients are the unit.

    A segment that was not predicted has no entropy: no score foretells its failure, nor need it.
    """
    table = segments_of(scores, "dice")
    n_unseen = (table.segment_entropy.isna() & (table.dice <= FAILED)).sum()
    table = table.dropna()
    is_failed = table.dice <= FAILED
    groups = [table[~is_failed], table[is_failed]]
    if not all(map(len, groups)):
        return []
    columns = ("segment_entropy", "patient")
    entropies, patients = ([group[name].to_numpy() for group in groups] for name in columns)
    interval = partial(auc_interval, *entropies, patients=patients)
    name = f"AUC, {n_unseen} failed segments of {n_unseen + is_failed.sum()} not predicted"
    return [Part(name, interval, table.patient.nunique(), dice)]
