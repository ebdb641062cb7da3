"""Paper B's question: which detector tells the cases apart that a model never saw the like of?

All detectors of one table look at the same cases. They are fitted to the training cases of the sets
that the model was trained on; test cases of the same sets are in-distribution, and all cases of the
other sets are out of distribution (OOD), the positive class. Within one dataset (`cases_by_role`)
domains take the place of sets.
"""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from .._checks import wrong_input
from ..data.datasets import read_dataset
from ..data.grids import settle_grid
from ..data.prepared import prepare_dataset
from ..data.tasks import EIGHT_SETS, OTHER_ORGANS
from ..detection import scores_of
from ..runs.folders import resolve_path
from ..spectral import RankDeficientWarning, signature_of_spectrum
from ..training.plans import dedicated, joint, plan_name
from .volume_scores import LAST, ScoreRequest

SHUFFLE_SEED = 1
HIGH_FLOOR = 0.01  # of the largest singular value: what lies below belongs to channels near silence


class Trial(NamedTuple):
    """One question: does a model notice sets that it was not trained on?

    Its two rivals are the plan's twin with dropout, for the detector by uncertainty, and the
    control with shuffled weights.
    """

    plan: tuple  # of the model, from `segcal_lite.training.plans`
    unseen: tuple  # names of sets, all of whose cases are OOD
    with_rivals: bool = True

    def parts(self):
        """Return sets and split of the training, the in-distribution and the OOD cases.

        Examples
        --------
        >>> Trial((("atrium",),), ("liver_ct",)).parts()
        ((('atrium',), 'train'), (('atrium',), 'test'), (('liver_ct',), None))
        """
        known = tuple(dict.fromkeys(name for stage in self.plan for name in stage))
        twice = sorted(set(known) & set(self.unseen))
        if twice or not self.unseen:
            found = f"{twice} in training too" if twice else "none"
            raise wrong_input("unseen", found, f"sets that {plan_name(self.plan)} was not given")
        return (known, "train"), (known, "test"), (tuple(self.unseen), None)


PAPER_TRIALS = {  # paper B, section IV.B, on the sets of `segcal_lite.data.tasks`
    "Table IV: organs": Trial(joint(*EIGHT_SETS), OTHER_ORGANS),
    "Table V: ages": Trial(dedicated("cp_newborn"), ("cp_younger", "cp_older")),
    "Table VI: sequences": Trial(joint("liver_dual_in", "liver_dual_out"), ("liver_spir",)),
    "Fig. 8b: SPIR and DUAL in": Trial(
        joint("liver_spir", "liver_dual_in"), ("liver_dual_out",), with_rivals=False
    ),
}


def given_trials(trials):
    """Return the `Trial` of each title of ``{title: {"known": [sets], "unseen": [sets]}}``.

    Raises
    ------
    ValueError
        If a title lacks one of the two lists.

    Examples
    --------
    >>> given_trials({"new organ": {"known": ["atrium"], "unseen": ["spleen"]}})["new organ"].unseen
    ('spleen',)
    """
    chosen = {}
    for title, sides in trials.items():
        sides_of = sides if isinstance(sides, dict) else {}
        if not all(isinstance(sides_of.get(side), list) for side in ("known", "unseen")):
            raise wrong_input(f"trials, {title}", sides, "two lists, known and unseen")
        chosen[title] = Trial(joint(*sides["known"]), tuple(sides["unseen"]))
    return chosen


def hold_out_last(names):
    """Return one `Trial` that holds the last set out, for sets without trials of their own.

    Raises
    ------
    ValueError
        If there is one set only.

    Examples
    --------
    >>> list(hold_out_last(["atrium", "spleen"]))
    ['spleen unseen']
    """
    if len(names) < 2:
        raise wrong_input("sets", "one set", "two or more: the last is held out")
    *known, unseen = names
    return {f"{unseen} unseen": Trial(joint(*known), (unseen,))}


def sets_of(trials):
    """Return the sets that some trials look at, each once: those to open an experiment with.

    Examples
    --------
    >>> sets_of({"one": Trial((("atrium", "liver_ct"),), ("spleen",))})
    ('atrium', 'liver_ct', 'spleen')
    """
    names = [name for trial in trials.values() for part, _ in trial.parts() for name in part]
    return tuple(dict.fromkeys(names))


def describe_trials(experiment, trials, layers=(LAST,), report=print):
    """Return what the detectors look at, for all cases of some trials.

    Models are trained and volumes scored side by side over all trials.

    Parameters
    ----------
    experiment : segcal_lite.experiments.many_sets.JointExperiment
    trials : dict of Trial
        By title.
    layers : tuple of str
        Those other than the last, which the detectors use, add their singular values (n, C).
    report : callable

    Returns
    -------
    dict of (training, inside, outside)
        By title; each a dict of ndarray with a row a case: ``set``, ``case``, ``patient``, what
        `describe_scores` returns, and the rows of the other `segcal_lite.detection.DETECTORS`;
        without rivals none for ``uncertainty`` and ``spectral_shuffled``.
    """
    requests = {
        (title, part): _requests(experiment, trial, *part, layers)
        for title, trial in trials.items()
        for part in trial.parts()
    }
    found = iter(experiment.score([one for part in requests.values() for one in part], report))
    described = dict.fromkeys(trials, ())
    for (title, part), asked in requests.items():
        scores = [next(found) for _ in asked]
        described[title] += (_describe(experiment, *part, scores, layers),)
    return described


def _describe(experiment, names, split, found, layers):
    """Return a part of what `describe_trials` does, from the scores that its requests found."""
    plain, *rivals = (
        [score for scores in found[k : k + len(names)] for score in scores]
        for k in range(0, len(found), len(names))
    )
    cases = [(name, case) for name in names for case in experiment.cases(name, split)]
    described = {
        "set": np.array([name for name, _ in cases]),
        "case": np.array([case.name for _, case in cases]),
        "patient": np.array([case.patient for _, case in cases]),
        **describe_scores(plain),
    }
    for layer in layers:
        if layer != LAST:
            described[layer] = np.array([score["spectra"][layer] for score in plain])
    if rivals:
        shuffled, dropout = rivals
        described["spectral_shuffled"] = describe_scores(shuffled)["spectral"]
        described["uncertainty"] = np.array([s["metrics"]["uncertainty"] for s in dropout])
    return described


def detection_scores(fitted, described):
    """Return the score that each detector gives to each test case of some trials.

    Parameters
    ----------
    fitted : dict of dict of Detector
        By title and name, from `segcal_lite.detection.fit_detectors`.
    described : dict of (training, inside, outside)
        From `describe_trials`.

    Returns
    -------
    pandas.DataFrame
        Columns trial, set, case, patient, known, dice, detector, score, threshold.
    """
    tables = []
    for title, (_, inside, outside) in described.items():
        for is_known, part in ((True, inside), (False, outside)):
            of_cases = {name: part[name] for name in ("set", "case", "patient", "dice")}
            for name, detector in fitted[title].items():
                own = {"detector": name, "score": scores_of(fitted[title], name, part)[0]}
                own |= {"threshold": detector.threshold, "trial": title, "known": is_known}
                tables.append(pd.DataFrame(of_cases | own))
    columns = ["trial", "set", "case", "patient", "known", "dice", "detector", "score"]
    return pd.concat(tables, ignore_index=True)[[*columns, "threshold"]]


def describe_scores(scores):
    """Return what the detectors look at in the scores of one model without dropout.

    Parameters
    ----------
    scores : list of dict
        From `volume_scores.score_volume`, the last features among the layers.

    Returns
    -------
    dict of ndarray
        n rows each: ``dice``; ``spectra``, the singular values (n, r) as they are; and what the
        detectors of these names take.
    """
    n_voxels = [score["n_voxels"][LAST] for score in scores]
    spectra = [score["spectra"][LAST] for score in scores]
    divided = zip(spectra, n_voxels, strict=True)
    described = {
        "spectra": np.array(spectra),
        "spectral": np.array([signature_of_spectrum(s) for s in spectra]),
        "spectral_floor": _raised_signatures(spectra),
        "spectral_sqrt_voxels": np.array([signature_of_spectrum(s, n) for s, n in divided]),
        "mahalanobis": np.array([score["pooled"][LAST] for score in scores]),
        "intensities": np.array([score["moments"] for score in scores]),
        "voxel_count": np.array(n_voxels),
    }
    for name in ("dice", "segment_entropy", "one_minus_max_softmax"):
        described[name] = np.array([score["metrics"][name] for score in scores])
    return described


def _raised_signatures(spectra):
    """Signatures with the high floor; that it raises singular values is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficientWarning)
        return np.array([signature_of_spectrum(s, relative_epsilon=HIGH_FLOOR) for s in spectra])


def _requests(experiment, trial, names, split, layers):
    """What a part of a trial asks for: by kind of scoring, then by set."""
    others = tuple(layer for layer in layers if layer != LAST)
    kinds = [(False, experiment.scoring((*others, LAST)))]
    if trial.with_rivals:
        kinds += [(False, experiment.scoring((LAST,), SHUFFLE_SEED)), (True, experiment.scoring())]
    return [
        ScoreRequest(trial.plan, dropout, name, split, scoring)
        for dropout, scoring in kinds
        for name in names
    ]


def cases_by_role(experiment, ood_data=None, cut_foreground=False, report=print):
    """Return which cases of one run are known to its models, and which are not.

    Parameters
    ----------
    experiment : segcal_lite.experiments.one_dataset.Experiment
    ood_data : path, optional
        Another dataset with as many channels, all of whose cases are OOD. It is brought onto the
        grid of the run, in a folder ``ood-...`` of its own.
    cut_foreground : bool
        Go on though the crop cuts away much of the other dataset.
    report : callable

    Returns
    -------
    roles : dict of list of segcal_lite.data.prepared.PreparedCase
        ``training``; ``in-distribution``, test cases of domains that training cases come from, or
        validation cases if there are none; ``OOD``, the other test cases. A role that nobody has
        is absent.
    same_labels : bool
        Whether the OOD cases show the segments of the run: else their Dice means nothing.

    Raises
    ------
    ValueError
        If the other dataset has more or fewer channels.
    """
    training, test = experiment.split("train"), experiment.split("test")
    known, same_labels = {case.domain for case in training}, True
    inside = [case for case in test if case.domain in known]
    outside = [case for case in test if case.domain not in known]
    if not inside:
        inside = experiment.split("validation")
        report(
            "no test case from a domain of the training cases: validation cases take their place"
        )
    if ood_data is not None:
        outside, same_labels = _other_cases(experiment, ood_data, cut_foreground, report)
    if not outside:
        report("one domain and no ood_data: every part that needs OOD cases is skipped")
    roles = {"training": training, "in-distribution": inside, "OOD": outside}
    return {name: cases for name, cases in roles.items() if cases}, same_labels


def _other_cases(experiment, ood_data, cut_foreground, report):
    """Return the cases of another dataset on the grid of a run, and whether its segments are so."""
    task, crop_size = experiment.task, experiment.profile.crop_size
    other = read_dataset(resolve_path(ood_data), seed=experiment.seed)
    if len(other.channels) != len(task.channels):
        found = f"{len(other.channels)} channels"
        raise wrong_input(f"ood_data {ood_data}", found, f"{len(task.channels)} as the run has")
    folder = experiment.out / f"ood-{other.fingerprint()[:8]}" / "prepared"
    grid = settle_grid(other, task, crop_size) if cut_foreground else None
    cases = prepare_dataset(other, task, crop_size, folder, report, grid=grid)
    cases = [replace(case, patient=f"{other.name}/{case.patient}") for case in cases]
    return cases, (other.segments, other.regions) == (task.segments, task.regions)
