"""What numbers allow to be concluded: the rules of *no conclusion*, and verdicts in words.

Every run ends with numbers; a claim needs data behind it. Each rule is a constant with its reason,
and all notebooks, the story and the page of a run judge by them. A verdict is a short text; one
that begins with ``no conclusion`` goes on with the reasons.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .._checks import wrong_input
from ..runs.tables import read_table, write_table
from .summaries import with_patients

LEAST_VALIDATION_CASES = 5  # what is fitted to or chosen on fewer follows single patients
LEAST_TEST_CASES = 10  # the fewest for which the coverage of our intervals was measured
POOR_DICE = 0.5  # of the voxels that truth or prediction call organ, two in three are wrong
COLLAPSED_DICE = 0.05  # paper A's total failure
COLLAPSED_SHARE = 0.5  # of the members' median: random start and order alone move it by far less
WIDEST_SHARE = 0.9  # of the possible range: an interval so wide excludes next to nothing
MOST_FALSE_ALARMS = 0.5  # a coin would flag as many of the known images
CONTROLS = {  # detectors without what a claim is about: by name, in words
    "spectral_shuffled": "shuffled weights",
    "voxel_count": "counting voxels",
    "intensities": "intensities alone",
}

RULES = (
    f"Nothing is concluded from fewer than {LEAST_TEST_CASES} test cases or, where something was "
    f"fitted or chosen, from fewer than {LEAST_VALIDATION_CASES} validation cases; from networks "
    f"with a mean Dice below {POOR_DICE} in a segment or set that they were trained on; where "
    f"there is no interval, or one that covers {100 * WIDEST_SHARE:.0f} % of the possible range; "
    "for a detector, where a control may do as well, such as a network with shuffled weights. A "
    f"member has collapsed if its Dice is at most {COLLAPSED_DICE} or below {COLLAPSED_SHARE} of "
    "the members' median. It stays in the ensemble: to leave it out after a look at the scores "
    "would be tuning."
)


def doubts(n_test=None, n_validation=None, dice=None, unit="test case"):
    """Return the reasons why these data allow no conclusion.

    Parameters
    ----------
    n_test, n_validation : int, optional
        Numbers of cases behind a claim, where they matter.
    dice : float or dict of float, optional
        Mean Dice of the networks on known cases, or one for each name; NaN where no label has
        what is so called.
    unit : str
        What `n_test` counts, in the singular.

    Returns
    -------
    list of str
        Empty if nothing speaks against a conclusion.

    Examples
    --------
    >>> doubts(n_test=6, n_validation=5, dice={"liver": 0.9, "prostate": 0.31})
    ['6 test cases, at least 10 needed', 'mean Dice 0.31 (prostate), at least 0.5 needed']
    >>> doubts(n_test=1, unit="patient")
    ['1 patient, at least 10 needed']
    """
    reasons = []
    if n_test is not None:
        reasons += _too_few(n_test, unit, LEAST_TEST_CASES)
    if n_validation is not None:
        reasons += _too_few(n_validation, "validation case", LEAST_VALIDATION_CASES)
    if dice is not None:
        for name, value in (dice if isinstance(dice, dict) else {"": dice}).items():
            if name and np.isnan(value):  # which is no evidence of a good one
                reasons.append(f"no label holds {name}")
            elif not value >= POOR_DICE:
                whose = f" ({name})" if name else ""
                reasons.append(f"mean Dice {value:.2f}{whose}, at least {POOR_DICE} needed")
    return reasons


def no_conclusion(reasons):
    """Return the verdict of some reasons (texts), an empty one if there are none.

    Examples
    --------
    >>> no_conclusion(doubts(n_test=1))
    'no conclusion: 1 test case, at least 10 needed'
    >>> no_conclusion([])
    ''
    """
    return "no conclusion: " + "; ".join(reasons) if reasons else ""


def verdict(
    lo,
    hi,
    n_test,
    null=0.0,
    span=None,
    words=("below", "above"),
    n_validation=None,
    dice=None,
    unit="test case",
):
    """Say what an interval shows.

    Parameters
    ----------
    lo, hi : float
        Bounds; NaN stands for no interval.
    n_test : int
        Cases, or whatever `unit` says, behind the interval.
    null : float
        The value of no effect.
    span : (float, float), optional
        The least and the largest possible value, where there are such.
    words : (str, str)
        For an interval below and above `null`.
    n_validation, dice, unit
        As in `doubts`.

    Returns
    -------
    str
        One of `words`, ``undecided`` for an interval that holds `null`, or ``no conclusion: ...``.

    Examples
    --------
    >>> verdict(-0.3, -0.1, n_test=16)
    'below'
    >>> verdict(-0.3, 0.0, n_test=16)
    'undecided'
    >>> verdict(-1.0, 1.0, n_test=16, span=(-1, 1))
    'no conclusion: the interval from -1.00 to 1.00 excludes next to nothing'
    """
    reasons = doubts(n_test, n_validation, dice, unit) + _no_interval(lo, hi, span)
    if reasons:
        return no_conclusion(reasons)
    return words[0] if hi < null else words[1] if lo > null else "undecided"


def detector_verdict(is_seen, interval, n_in, n_out, dice, controls):
    """Say whether a detector's claim is seen, and worth something.

    Parameters
    ----------
    is_seen : bool or None
        Whether the numbers are as claimed; ``None`` where their intervals allow both.
    interval : (float, float)
        Of the AUC.
    n_in, n_out : int
        Known and OOD cases.
    dice : dict of float
        Mean Dice on known cases by set. A network that has not learned them has no features of
        theirs.
    controls : dict of float
        By name (see `CONTROLS`) the lower bound of the detector's AUC minus that of a control. A
        bound of 0 or below, or NaN, says that the control may be as good, which speaks against a
        claim that is seen.

    Returns
    -------
    str
        ``seen``, ``not seen``, ``undecided`` or ``no conclusion: ...``.

    Examples
    --------
    >>> counts, dice = {"n_in": 12, "n_out": 20}, {"liver": 0.8}
    >>> detector_verdict(True, (0.95, 1), **counts, dice=dice, controls={"intensities": 0.1})
    'seen'
    >>> detector_verdict(True, (0.95, 1), **counts, dice=dice, controls={"intensities": 0.0})
    'no conclusion: intensities alone may do as well'
    """
    reasons = _too_few(n_in, "in-distribution case", LEAST_TEST_CASES)
    reasons += _too_few(n_out, "OOD case", LEAST_TEST_CASES)
    reasons += doubts(dice=dice) + _no_interval(*interval, span=(0, 1))
    if is_seen:
        as_good = [CONTROLS[name] for name, lo in controls.items() if not lo > 0]
        reasons += [f"{title} may do as well" for title in as_good]
    found = {True: "seen", False: "not seen", None: "undecided"}
    return no_conclusion(reasons) or found[is_seen]


def dice_of_present(scores):
    """Return the rows of Dice of segments that the truth holds.

    Where it holds none, a network that says nothing has a Dice of 1, which is no merit.

    Parameters
    ----------
    scores : pandas.DataFrame
        Long: ``case``, ``segment``, ``metric``, ``value``; the metric ``n_true`` counts the voxels
        of the truth.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> rows = [("a", "lesion", "dice", 1.0), ("a", "lesion", "n_true", 0)]
    >>> rows += [("b", "lesion", "dice", 0.2), ("b", "lesion", "n_true", 9)]
    >>> scores = pd.DataFrame(rows, columns=["case", "segment", "metric", "value"])
    >>> dice_of_present(scores).value.tolist()
    [0.2]
    """
    dice = scores[(scores.metric == "dice") & scores.segment.notna()]
    return dice[~is_absent(scores).loc[dice.index]]


def is_absent(scores):
    """Which rows of a long table of scores are of a segment that the truth does not hold."""
    rows = pd.MultiIndex.from_frame(scores[["case", "segment"]])
    return pd.Series(
        rows.isin(rows[(scores.metric == "n_true") & (scores.value == 0)]), scores.index
    )


def verdicts_of_scores(scores, known_domains, n_validation):
    """Return texts on the cases, collapsed members and mean Dice of an `Experiment.scores`."""
    few = no_conclusion(doubts(n_validation=n_validation))
    found = {"scalings and best epochs, by validation cases": few or f"{n_validation} cases"}
    of_domains = with_patients(scores).groupby("domain", sort=False)[["case", "patient"]]
    for domain, (n_cases, n_test) in of_domains.nunique().iterrows():
        known = domain in known_domains
        seen = "a domain of the training cases" if known else "an unseen domain"
        unit, of_patients = "test case", ""
        if n_test < n_cases:
            unit, of_patients = "patient", f" of {n_test} patients"
        few = no_conclusion(doubts(n_test=n_test, unit=unit))
        found[f"test cases of {domain}, {seen}"] = few or f"{n_cases} cases{of_patients}"
    dice = dice_of_present(scores[scores.domain.isin(known_domains)])
    for (loss, segment), rows in dice[dice.method == "baseline"].groupby(["loss", "segment"]):
        fallen = collapsed_members(rows.groupby("member").value.mean().to_dict())
        if fallen:
            title = f"{loss} members in {segment}, by test cases"
            found[title] = f"collapsed: {'; '.join(f'member {text}' for text in fallen)}"
    for loss, rows in dice[dice.method == "ensemble"].groupby("loss"):
        means = rows.groupby("segment", sort=False).value.mean().to_dict()
        shown = ", ".join(f"{value:.2f} ({segment})" for segment, value in means.items())
        title = f"{loss} ensemble where training cases come from"
        found[title] = no_conclusion(doubts(dice=means)) or f"mean Dice {shown}"
    return found


def collapsed_members(dice):
    """Return a text for each member that has collapsed, by mean Dice on the same cases."""
    median = np.median(list(dice.values())) if dice else np.nan
    return [
        f"{name}: Dice {value:.2f}, median of the pool {median:.2f}"
        for name, value in dice.items()
        if value <= COLLAPSED_DICE or value < COLLAPSED_SHARE * median
    ]


def share_interval(n_flagged, n_patients, level=0.95):
    """Return the exact interval (Clopper and Pearson) of a share of patients.

    `n_flagged` may be broken, where a patient counts by the share of his images: then it is of the
    whole numbers below and above, and so no narrower than it need be.

    Examples
    --------
    >>> [round(float(bound), 3) for bound in share_interval(1, 16)]
    [0.002, 0.302]
    """
    bounds = (int(np.floor(n_flagged + 1e-9)), int(np.ceil(n_flagged - 1e-9)))
    found = [binomtest(k, int(n_patients)).proportion_ci(level) for k in bounds]
    return found[0].low, found[1].high


def false_alarms(n_flagged, n_known):
    """Say how many known patients a threshold flags, with the exact 95 % interval of the share.

    Parameters
    ----------
    n_flagged, n_known : float and int
        Patients, at least one known, as `segcal_lite.detection.flagged_patients` gives them.

    Returns
    -------
    str
        With ``the threshold does not work here`` if more than `MOST_FALSE_ALARMS` are flagged.

    Raises
    ------
    ValueError
        If there is no known patient, or more are flagged than there are.

    Examples
    --------
    >>> false_alarms(4, 4)
    '4 of 4 known patients flagged (95 % interval 40 to 100 %): the threshold does not work here'
    >>> false_alarms(1, 16)
    '1 of 16 known patients flagged (95 % interval 0 to 30 %)'
    """
    if n_known < 1 or not 0 <= n_flagged <= n_known:
        raise wrong_input("n_flagged", f"{n_flagged} of {n_known}", "some of at least 1 patient")
    lo, hi = share_interval(n_flagged, n_known)
    interval = f"95 % interval {100 * lo:.0f} to {100 * hi:.0f} %"
    counted = f"{n_flagged:.3g} of {n_known} known patients flagged ({interval})"
    if n_flagged > MOST_FALSE_ALARMS * n_known:
        return f"{counted}: the threshold does not work here"
    reasons = _too_few(n_known, "known patient", LEAST_TEST_CASES)
    return f"{counted}: {no_conclusion(reasons)}" if reasons else counted


def write_verdicts(out, notebook, verdicts):
    """Write a notebook's verdicts for the page of the run: ``tables/verdicts_<notebook>.csv``.

    Parameters
    ----------
    out : path
        Run folder.
    notebook : str
    verdicts : dict of str
        By claim.
    """
    # what stands before the first colon is the verdict, what stands behind it says why
    rows = [(notebook, claim, *text.partition(": ")[::2]) for claim, text in verdicts.items()]
    table = pd.DataFrame(rows, columns=["notebook", "claim", "verdict", "why"])
    write_table(out / "tables" / f"verdicts_{notebook}.csv", table)


def read_verdicts(out):
    """Return the verdicts that the notebooks of a run have written, in their order, all text."""
    paths = sorted((out / "tables").glob("verdicts_*.csv"))
    tables = [read_table(path).fillna("") for path in paths]
    columns = ["notebook", "claim", "verdict", "why"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _too_few(n, unit, least):
    """The reason of too few cases or patients, in a list."""
    units = unit if n == 1 else f"{unit}s"
    return [f"{n} {units}, at least {least} needed"] if n < least else []


def _no_interval(lo, hi, span):
    """The reason of an interval that is absent or says nothing, in a list."""
    if np.isnan(lo) or np.isnan(hi):
        return ["there is no interval"]
    if span is not None and hi - lo >= WIDEST_SHARE * (span[1] - span[0]):
        return [f"the interval from {lo:.2f} to {hi:.2f} excludes next to nothing"]
    return []
