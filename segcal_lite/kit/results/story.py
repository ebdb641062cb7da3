"""What the smoke run must show, as numbers with intervals: the claims a reader can see at once."""

from functools import partial

import numpy as np
import pandas as pd

from ...detection import (
    auc_interval,
    compare_detectors,
    detection_table,
    fit_detectors,
    of_sets,
    spectral_verdict,
)
from ...detectors import SpectralDetector
from ...experiments.claims.statements import CLAIMS
from ...experiments.trials import PAPER_TRIALS, describe_trials, sets_of
from ...inference import case_signatures
from ...report.verdicts import doubts, no_conclusion
from ...runs.folders import project_root, read_json
from ...runs.tables import read_table, write_table
from ...statistics import linear_regression, logit, paired_interval
from ...training.models import load_model
from .floor import tell_floor, tell_floor_of_sets
from .phantom_claims import CLAIMS_OF_B, tell_claims, tell_claims_of_sets
from .phantom_runs import run_folder, runs_on_hearts, runs_on_sets
from .published import all_commits, all_devices

REGION = "box"


def story_row(experiment, report=print):
    """The claims of one run on phantoms, on the source domain's test cases: numbers by name.

    ``*_lo`` and ``*_hi`` bound 95 % intervals over patients. ``holds`` is true if every claim does,
    ``verdict`` says whether that is a conclusion.
    """
    scores = experiment.scores(report=report)
    source = scores[scores.domain == "source"]
    row = {"seed": experiment.seed, "n_members": experiment.profile.n_members}
    row["n_test"] = source.case.nunique()
    row |= _calibration_claims(source[(source.loss == "dice") & (source.region == REGION)])
    row |= _entropy_claim(scores[scores.loss == "dice"])
    row |= _spectral_claim(experiment)
    row["holds"] = every_claim_holds(row)
    dice = source[(source.loss == "dice") & (source.metric == "dice") & source.segment.notna()]
    dice = dice[dice.method == "ensemble"].groupby("segment").value.mean().to_dict()
    few = doubts(n_test=min(row["n_test"], row["spectral_n_shifted"]), dice=dice)
    row["verdict"] = no_conclusion(few) or (
        "every claim holds" if row["holds"] else "a claim fails"
    )
    return row


def every_claim_holds(row):
    """Whether all numbers of a row, by name, lie on the side that their claims name."""
    return (
        row["ece_difference_hi"] < 0
        and row["nll_ensemble"] < row["nll_best_member"]
        and row["nll_gap_ensemble"] < row["nll_gap_members"]
        and row["entropy_pearson_r"] < 0
        and row["spectral_auc"] >= 0.95
    )


def _by_case(scores, method, metric):
    """Scores of a method as a table, one row a case and one column a member."""
    chosen = scores[(scores.method == method) & (scores.metric == metric)]
    return chosen.pivot(index="case", columns="member", values="value")


def _calibration_claims(scores):
    """ECE and NLL of the Dice ensemble against its members and the oracle."""
    ensemble, members = (_by_case(scores, method, "ece") for method in ("ensemble", "baseline"))
    difference, lo, hi = paired_interval(ensemble[0], members.mean(axis=1))
    nll = {
        method: _by_case(scores, method, "nll").mean()
        for method in ("ensemble", "baseline", "oracle")
    }
    floor = nll["oracle"][0]
    return {
        "ece_ensemble": ensemble[0].mean(),
        "ece_members": members.mean(axis=1).mean(),
        "ece_difference": difference,
        "ece_difference_lo": lo,
        "ece_difference_hi": hi,
        "nll_oracle": floor,
        "nll_ensemble": nll["ensemble"][0],
        "nll_best_member": nll["baseline"].min(),
        "nll_gap_ensemble": nll["ensemble"][0] - floor,
        "nll_gap_members": nll["baseline"].mean() - floor,
    }


def _entropy_claim(scores):
    """Correlation of segment entropy with logit Dice, both domains, of the Dice ensemble."""
    chosen = scores[(scores.method == "ensemble") & scores.segment.notna()]
    chosen = chosen[chosen.metric.isin(["segment_entropy", "dice"])]
    wide = chosen.pivot(index=["case", "segment"], columns="metric", values="value")
    fit = linear_regression(wide.segment_entropy, logit(wide.dice)[0])
    return {
        "entropy_pearson_r": fit.pearson_r,
        "entropy_n": fit.n,
        "entropy_n_missing": fit.n_missing,
    }


def _spectral_claim(experiment):
    """AUC of the spectral detector on the first Dice member at full shift."""
    model, settings = load_model(experiment.members("dice")[0].folder, experiment.device)
    sets = {
        "train": experiment.split("train"),
        "source": experiment.split("test", "source"),
        "shifted": experiment.split("test", "shifted"),
    }
    signatures = {
        name: case_signatures(model, cases, settings.loss) for name, cases in sets.items()
    }
    detector = SpectralDetector()
    detector.fit(signatures["train"])
    scores = [detector.score(signatures[name]) for name in ("source", "shifted")]
    auc, lo, hi = auc_interval(*scores)
    return {
        "spectral_auc": auc,
        "spectral_auc_lo": lo,
        "spectral_auc_hi": hi,
        "spectral_n_source": len(scores[0]),
        "spectral_n_shifted": len(scores[1]),
    }


def detection_rows(experiment, trials, report=print):
    """AUC on each set that paper B's models never saw, of the spectral detector and its rivals.

    A dict for each unseen set of `trials`, which have rivals: ``auc_<detector>``, ``auc_lo`` and
    ``auc_hi`` of the spectral one (95 % over cases), mean Dice on known and unseen cases, share of
    the unseen flagged; ``holds`` is true for an AUC of at least 0.95, and ``verdict`` says whether
    that is a merit.
    """
    rows = []
    described = describe_trials(experiment, trials, report=report)
    for title, (training, inside, outside) in described.items():
        fitted = fit_detectors(training)
        for name in trials[title].unseen:
            unseen = of_sets(outside, [name])
            table = detection_table(fitted, inside, unseen)
            by_name = table.set_index("detector")
            spectral = by_name.loc["spectral"]
            row = {"seed": experiment.seed, "trial": title, "unseen": name}
            row |= {"n_in": int(spectral.n_in), "n_out": int(spectral.n_out)}
            row |= {"dice_known": inside["dice"].mean(), "dice_unseen": unseen["dice"].mean()}
            row |= {"flagged": spectral.sensitivity, "auc_lo": spectral.lo, "auc_hi": spectral.hi}
            row["holds"] = spectral.auc >= 0.95
            known = np.unique(inside["set"])
            dice = {name: of_sets(inside, [name])["dice"].mean() for name in known}
            comparison = compare_detectors(fitted, inside, unseen, dice)
            row["verdict"] = spectral_verdict(row["holds"], table, comparison, dice)
            rows.append(row | {f"auc_{key}": area for key, area in by_name.auc.items()})
    return rows


def tell_detection_story(out, seeds, report=print):
    """`detection_rows` for each seed: one smoke run of paper B's trials in a folder of its own.

    Of Fig. 8b's trial nothing is claimed but that most cases pass: it has no rivals, and no row.
    """
    trials = {title: trial for title, trial in PAPER_TRIALS.items() if trial.with_rivals}
    rows = []
    for experiment in runs_on_sets(out, seeds, sets_of(trials), report):
        rows += detection_rows(experiment, trials, report)
    return pd.DataFrame(rows)


def with_other_rows(path, table):
    """Add the rows that a table on disk has of other seeds, or of other claims of a seed.

    They are in order of seeds, and of claims.
    """
    if not path.exists():
        return table
    keys = [key for key in ("seed", "claim") if key in table]
    before = read_table(path)
    is_told_again = before.set_index(keys).index.isin(table.set_index(keys).index)
    rows = pd.concat([before[~is_told_again], table])
    return rows.sort_values(keys, kind="stable", key=_in_order, ignore_index=True)


def _in_order(column):
    """What to sort a column by: A10 comes after A9."""
    numbers = {claim.name: number for number, claim in enumerate(CLAIMS)}
    return column.map(numbers) if column.name == "claim" else column


def tell_story(out, seeds, report=print):
    """`story_row` for each seed: one smoke run on phantoms in a folder of its own."""
    rows = []
    for experiment in runs_on_hearts(out, seeds, report):
        rows.append(story_row(experiment, report))
        report(f"seed {experiment.seed}: {rows[-1]['verdict']}")
    return pd.DataFrame(rows)


STORIES = {
    "story": tell_story,
    "story_volumes": tell_detection_story,
    "story_floor": tell_floor,
    "story_claims": tell_claims,
    "story_floor_volumes": tell_floor_of_sets,
    "story_claims_volumes": tell_claims_of_sets,
}


def write_stories(names, out, seeds, claims=None):
    """Tell some of `STORIES` into ``results/NAME.csv``; return whether every claim holds.

    Rows of other seeds stay as they are, and in a table of paper B's claims those of other than
    `claims`, by default all: each row carries the commits that made its run. A table of verdicts
    claims nothing itself.
    """
    of_sets = partial(tell_claims_of_sets, claims=claims or CLAIMS_OF_B)
    stories = STORIES | {"story_claims_volumes": of_sets}
    hold = [_write_story(name, stories[name](out, seeds), out) for name in names]
    return all(hold)


def _write_story(name, table, out):
    """Write what one story tells of runs in `out`, and return whether each of its rows holds."""
    profiles = table.get("profile", ["smoke"] * len(table))
    folders = [run_folder(out, *of) for of in zip(profiles, table.seed, strict=True)]
    made = {folder: _origin(folder) for folder in dict.fromkeys(folders)}
    origins = pd.DataFrame([made[folder] for folder in folders], index=table.index)
    table = pd.concat([origins, table], axis=1)
    path = project_root() / "results" / f"{name}.csv"
    write_table(path, with_other_rows(path, table))
    print(table.T.to_string())
    return bool(table.get("holds", pd.Series(True)).all())


def _origin(folder):
    """Return what made a run: its networks may be of an earlier commit than today's."""
    made = read_json(folder / "provenance.json")
    commits, devices = all_commits(made), all_devices(made)
    return {"commit": commits, "date": made["date"], "torch": made["torch"], "processor": devices}
