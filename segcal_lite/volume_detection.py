"""Paper B's question to whole sets: which detector tells the sets apart that a model never saw?

All detectors of one table look at the same cases. They are fitted to the training cases of the sets
that the model was trained on; test cases of the same sets are in-distribution, and all cases of the
other sets are out of distribution (OOD), the positive class.
"""

import numpy as np
import pandas as pd

from .detection_statistics import auc_interval, detection_counts
from .detectors import (
    IntensityDetector,
    MahalanobisDetector,
    ScalarDetector,
    SpectralDetector,
    VoxelCountDetector,
)
from .spectral import signature_of_spectrum
from .volume_scores import LAST

SHUFFLE_SEED = 1
DETECTORS = {  # what each looks at: see `describe_cases`
    "spectral": SpectralDetector,
    "spectral_sqrt_voxels": SpectralDetector,
    "mahalanobis": MahalanobisDetector,
    "uncertainty": ScalarDetector,
    "segment_entropy": ScalarDetector,
    "one_minus_max_softmax": ScalarDetector,
    "spectral_shuffled": SpectralDetector,
    "voxel_count": VoxelCountDetector,
    "intensities": IntensityDetector,
}


def describe_cases(experiment, plan, names, split=None, report=print):
    """Return what the detectors look at, for every case of some sets.

    Parameters
    ----------
    experiment : segcal_lite.joint_experiments.JointExperiment
    plan : tuple
        Of the model, from `block_settings`; it and its twin with dropout are trained when missing.
    names : sequence of str
        Of sets.
    split : str, optional
        ``None`` takes all cases.
    report : callable

    Returns
    -------
    dict of ndarray
        ``set``, ``case`` and ``dice``, shape (n,), and for each of `DETECTORS` an array of n rows.
    """
    features = experiment.scoring((LAST,))
    control = experiment.scoring((LAST,), SHUFFLE_SEED)
    kinds = ((False, features), (False, control), (True, experiment.scoring()))
    requests = [(plan, *kind[:1], name, split, kind[1]) for kind in kinds for name in names]
    found = experiment.score(requests, report)
    plain, shuffled, dropout = (
        [score for scores in found[k * len(names) : (k + 1) * len(names)] for score in scores]
        for k in range(len(kinds))
    )
    cases = [(name, case.name) for name in names for case in experiment.cases(name, split)]
    n_voxels = [score["n_voxels"][LAST] for score in plain]
    spectra = [score["spectra"][LAST] for score in plain]
    divided = zip(spectra, n_voxels, strict=True)
    return {
        "set": np.array([name for name, _ in cases]),
        "case": np.array([case for _, case in cases]),
        "dice": np.array([score["metrics"]["dice"] for score in plain]),
        "spectral": np.array([signature_of_spectrum(s) for s in spectra]),
        "spectral_sqrt_voxels": np.array([signature_of_spectrum(s, n) for s, n in divided]),
        "spectral_shuffled": np.array(
            [signature_of_spectrum(score["spectra"][LAST]) for score in shuffled]
        ),
        "mahalanobis": np.array([score["pooled"][LAST] for score in plain]),
        "intensities": np.array([score["moments"] for score in plain]),
        "voxel_count": np.array(n_voxels),
        "uncertainty": np.array([score["metrics"]["uncertainty"] for score in dropout]),
        **{
            name: np.array([score["metrics"][name] for score in plain])
            for name in ("segment_entropy", "one_minus_max_softmax")
        },
    }


def fit_detectors(training, c=2.5):
    """Fit every detector to the described training cases.

    Parameters
    ----------
    training : dict of ndarray
        From `describe_cases`.
    c : float
        Of the threshold, Eq. 2.

    Returns
    -------
    dict of Detector
        By name. One that cannot be fitted is absent: a model that segments nothing of its training
        images has no uncertainty.
    """
    fitted = {}
    for name, kind in DETECTORS.items():
        values = training[name]
        if kind is ScalarDetector and np.isfinite(values).sum() < 2:
            continue
        extra = (training["set"],) if kind is MahalanobisDetector else ()
        fitted[name] = kind(c).fit(values, *extra)
    return fitted


def detection_table(fitted, inside, outside, seed=0):
    """Return one row a detector: AUC with bootstrap interval, and the counts at its threshold.

    Parameters
    ----------
    fitted : dict of Detector
    inside, outside : dict of ndarray
        Described in-distribution and OOD cases.
    seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        Columns detector, n_in, n_out, n_empty_in, n_empty_out, auc, lo, hi, accuracy, sensitivity,
        specificity, tp, fn, tn, fp, threshold; OOD is positive. *Empty* are cases without a
        predicted foreground: they have no uncertainty, and count as the most suspicious.
    """
    rows = []
    for name, detector in fitted.items():
        scores = [np.atleast_1d(detector.score(part[name])) for part in (inside, outside)]
        area, lo, hi = auc_interval(*scores, seed=seed)
        counts = detection_counts(*scores, detector.threshold)
        row = {"detector": name, "n_in": len(scores[0]), "n_out": len(scores[1])}
        for key, values in zip(("n_empty_in", "n_empty_out"), scores, strict=True):
            row[key] = int(np.isinf(values).sum())
        row |= {"auc": area, "lo": lo, "hi": hi, **counts._asdict()}
        rows.append(row | {"threshold": detector.threshold})
    return pd.DataFrame(rows)


def of_sets(described, names):
    """Return the cases of some sets of a description."""
    chosen = np.isin(described["set"], names)
    return {key: values[chosen] for key, values in described.items()}
