"""The rule by which intervals judge a claim.

The 95 % interval of a statistic holds a claim where it lies within the claimed values, contradicts
it where it lies outside, and leaves it undecided where it does both. Of a claim with several
statistics all have to hold. To contradict it one is enough, whose interval then has the level
1 - 0.05 / n of n statistics, since one of many lies outside by chance. A claim of *most* sets holds
where more than half of its statistics do, and is contradicted by half of them.

A sentence is judged, not its merit: controls such as shuffled weights have no say here.
"""

from typing import NamedTuple

import numpy as np

from ...report.verdicts import doubts

LEVEL = 0.95
VERDICTS = ("holds", "contradicted", "undecided", "not run")


class Part(NamedTuple):
    """One statistic of a claim on one dataset.

    `interval`, called with ``level=``, returns the value, its lower and its upper bound.
    """

    name: str
    interval: object
    n_cases: int
    dice: float | None = None  # mean of the networks on known cases: poor ones allow no conclusion
    claimed: tuple | None = None  # where it is not the claim's


class Judged(NamedTuple):
    """A part with its interval and what that says."""

    name: str
    value: float
    lo: float
    hi: float
    n_cases: int
    verdict: str
    why: str


def without_interval(value, level):
    """The `interval` of a part whose value is all that is known."""
    return value, np.nan, np.nan


def judge(claim, parts):
    """Judge a claim on one dataset.

    Parameters
    ----------
    claim : Claim
    parts : list of Part

    Returns
    -------
    verdict : {"holds", "contradicted", "undecided", "not run"}
    judged : list of Judged

    Examples
    --------
    >>> better = Part("NLL", lambda level: (-0.2, -0.3, -0.1), n_cases=30)
    >>> from segcal_lite.experiments.claims.statements import CLAIMS
    >>> a2 = CLAIMS[1]
    >>> judge(a2, [better])[0], judge(a2, [])[0]
    ('holds', 'not run')
    """
    judged = [_judge_part(claim, part, len(parts)) for part in parts]
    return combined([part.verdict for part in judged], claim.most), judged


def combined(verdicts, most=False):
    """Return what the verdicts of several parts, or of several datasets, come to.

    Examples
    --------
    >>> combined(["holds", "undecided"]), combined(["holds", "contradicted"]), combined([])
    ('undecided', 'contradicted', 'not run')
    >>> combined(["holds", "holds", "contradicted"], most=True)
    'holds'
    """
    known = [verdict for verdict in verdicts if verdict != "not run"]
    n_holding, n_against = known.count("holds"), known.count("contradicted")
    if not known:
        return "not run"
    if most:
        is_held, is_against = n_holding > len(known) / 2, n_against >= len(known) / 2
    else:
        is_held, is_against = n_holding == len(known), n_against > 0
    return "holds" if is_held else "contradicted" if is_against else "undecided"


def _judge_part(claim, part, n_parts):
    """Judge one part: for the claim at the level of one statistic, against it at that of all."""
    lowest, highest = part.claimed or claim.claimed
    value, lo, hi = part.interval(level=LEVEL)
    reasons = doubts(n_test=part.n_cases, dice=part.dice)
    if not np.isfinite([lo, hi]).all():
        reasons.append("there is no interval")
    verdict = "undecided"
    if not reasons and lowest < lo and hi < highest:
        verdict = "holds"
    elif not reasons:
        _, lo_of_all, hi_of_all = part.interval(level=1 - (1 - LEVEL) / n_parts)
        if hi_of_all <= lowest or lo_of_all >= highest:
            verdict = "contradicted"
    return Judged(part.name, value, lo, hi, part.n_cases, verdict, "; ".join(reasons))
