"""The answer of each notebook in one sentence, from its verdicts; and the figure that shows it."""

import re
from typing import NamedTuple

from ..runs.tables import read_table


class Chapter(NamedTuple):
    """What the report shows of a notebook beside its own title and question.

    `claims` maps words of the answer to what the claims that they sum up have in common.
    """

    figure: str
    caption: str
    claims: dict


CHAPTERS = {
    "01_preprocessing": Chapter(
        "01_there_and_back.png",
        "Where does the answer lie on the scan? The label on the scanner's grid, probabilities on "
        "the network's grid, and the same probabilities carried back.",
        {},
    ),
    "02_training": Chapter(
        "02_what_each_loss_trains.png",
        "What does each loss train? Gradients of one free pixel, and the probability p at which "
        "each loss is smallest if a share q of such pixels is foreground: cross-entropy ends at "
        "p = q, Dice near 0 or 1.",
        {
            "Networks trained with cross-entropy": "ce members",
            "networks trained with Dice loss": "dice members",
        },
    ),
    "03_calibration": Chapter(
        "03_summary.png",
        "How well calibrated is each method? Means over the test cases with their 95 % intervals; "
        "smaller is better, and where the truth is random the oracle is the best possible.",
        {"The ensemble against a single network": "ensemble - baseline"},
    ),
    "04_segment_entropy": Chapter(
        "04_entropy_against_dice.png",
        "Does a doubtful segment overlap less? Mean entropy of each predicted segment of the test "
        "cases against the logit of its Dice coefficient, with the line fitted to them.",
        {
            "Correlation of segment entropy and logit Dice": "r of entropy and logit Dice",
            "the same within segment and domain": "r within segment and domain",
            "Dice of a new patient, predicted from entropy": "error of a new patient's Dice",
        },
    ),
    "05_ood_detection": Chapter(
        "05_oodm.png",
        "How far is a case from the training cases? Histograms of its distance (OODM) and the "
        "threshold, set on training cases alone.",
        {
            "Learned features tell the sets apart": "learned features tell the sets apart",
            "farther sets lie farther": "B6",
            "the spectral signature separates better than uncertainty": "B4",
        },
    ),
    "06_volumetric": Chapter(
        "06_reliability.png",
        "Is a 3D network right as often as it says? Accuracy against confidence for one network "
        "and the ensemble of each loss; bars on the diagonal would be calibrated.",
        {"The ensemble against a single 3D network": "ensemble - baseline"},
    ),
    "07_joint_training": Chapter(
        "07_joint_against_dedicated.png",
        "Does a network for all sets do as well as one for each? Differences of joint and "
        "dedicated training for each set; at 0 they are alike.",
        {
            "Networks have learned their sets": "have learned their sets",
            "joint training against dedicated": "joint training against dedicated",
        },
    ),
    "08_ood_volumes": Chapter(
        "08_images.png",
        "Is an alarm a warning of failure? Distance over threshold against Dice, case by case: "
        "above the line a case is flagged, and on the right it is segmented well.",
        {
            "The spectral signature near an AUC of 1 where uncertainty fails": "B4",
            "most images of a near sequence pass": "B5",
            "farther sets lie farther": "B6",
        },
    ),
    "09_your_own_model": Chapter(
        "09_risk_coverage.png",
        "Which cases should a person look at first? Mean risk (1 - Dice) of the cases that nobody "
        "looks at, against their share; a lower curve is a better order.",
        {
            "Members averaged against one by one": "ensemble - baseline",
            "one temperature, each case corrected by the others": "temperature - ensemble",
            "review by doubt, against random order": "review by",
        },
    ),
    "10_claims": Chapter(
        "10_ledger.png",
        "Which claims of the two papers hold, on which data? Published runs, and all real data "
        "together; yellow says that the data do not tell.",
        {"The papers' claims on this run": "claim"},
    ),
}


def answer(folder, name, verdicts):
    """Return the answer of a notebook in one sentence, or that the run's `verdicts` give none."""
    if name == "01_preprocessing":
        return _there_and_back(folder / "tables" / "preprocessing.csv")
    own, parts = verdicts[verdicts.notebook == name], []
    for words, common in CHAPTERS[name].claims.items() if name in CHAPTERS else ():
        rows = own[own.claim.str.contains(rf"\b{re.escape(common)}")]
        parts += [f"{words}: {tally(rows)}"] if len(rows) else []
    return "; ".join(parts) + "." if parts else "No verdict of this run answers it."


def tally(rows):
    """Count the verdicts of some claims, in words; a single one comes with its reasons.

    Examples
    --------
    >>> import pandas as pd
    >>> tally(pd.DataFrame({"verdict": ["better", "undecided", "better"], "why": ""}))
    'better in 2 of 3 tests, undecided in 1'
    >>> tally(pd.DataFrame({"verdict": ["no conclusion"], "why": ["6 test cases"]}))
    'no conclusion (6 test cases)'
    """
    if len(rows) == 1:
        verdict, why = rows.verdict.iloc[0], rows.why.iloc[0]
        return f"{verdict} ({why})" if why else verdict
    (first, count), *others = rows.verdict.value_counts(sort=False).items()
    told = [f"{first} in {count} of {len(rows)} tests"]
    return ", ".join(told + [f"{verdict} in {count}" for verdict, count in others])


def _there_and_back(path):
    """What `preprocessing.csv` says of labels that went to the network's grid and back."""
    if not path.exists():
        return "This run has no table of it."
    table = read_table(path)
    table = table[table.native_ml > 0]  # by the rule of empty masks an absent one is kept whole
    if table.empty:
        return "No label of its test cases holds a segment."
    dice, cut = table.round_trip_dice, 100 * table.cut_off_ml.sum() / table.native_ml.sum()
    return (
        f"Labels carried to the network's grid and back keep a Dice of {dice.median():.3f} (median "
        f"of {len(table)} segments; lowest {dice.min():.3f}), and the crop cuts away {cut:.1f} % "
        "of their volume."
    )
