"""Correction of anybody's probabilities: a temperature, or vector scaling of ln p, cross-fitted.

There are no logits and no validation cases, but labelled cases with probabilities. ln p is the
logits up to a constant of the voxel (`scaling.log_probabilities`), and a case is corrected with
what was fitted without its patient. For new cases there is the fit to all.

A case has millions of voxels, and of most of them the model is certain, and right. These are
thinned out: a few are drawn, each counts for many. The others are kept as far as there is room.

A probability of 0 is one that was rounded, by float16, by 8 bits, or by 1 - p near 1, and has no
logarithm. It counts as the smallest positive one of its class in the cases of the fit.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..._checks import check_choice, check_count, wrong_input
from ...data.labels import annotated
from ...data.volumes import write_volume
from ...inference import softmax
from ...runs.arrays import read_arrays
from ...runs.folders import as_json_values, as_tuples
from ...scaling import SMALLEST_PROB, fit_temperature, fit_vector_scaling, log_probabilities

METHODS = ("temperature", "vector_scaling")
WRITTEN = {None: (), "both": METHODS} | {
    method: (method,) for method in METHODS
}  # by what is asked
CORRECTED = "probabilities"  # folder below which each method has one
CERTAIN = 0.999  # probability of the true class above which a voxel is certain and right
LARGEST_FLOOR = 0.01  # larger probabilities are no rounding, even in 8 bits
MOST_NUMBERS = 4_000_000  # log probabilities that a fit takes: some seconds, and 250 MB
N_VOXELS, LEAST_VOXELS = 30_000, 200  # of a case
FEW_PATIENTS = 5  # fewer are left out one by one

# How the numbers in correction.json are applied to somebody's probabilities: `probs` is float32
# (K, X, Y, Z), or (2, R, X, Y, Z) of regions, in the order of classes that the labels have.
CODE = """\
import json, numpy as np
fitted = json.load(open("correction.json", encoding="utf-8"))["of all"]
by_class = lambda name: np.reshape(fitted[name], (-1,) + (1,) * (probs.ndim - 1))
log_probs = np.log(np.maximum(probs, by_class("floor")))
logits = log_probs / fitted["temperature"]  # or by_class("scale") * log_probs + by_class("shift")
corrected = np.exp(logits - logits.max(axis=0)); corrected /= corrected.sum(axis=0)
"""


class VoxelSample(NamedTuple):
    """Voxels drawn from a case, as `cross_fit` reads them from an npz of these names."""

    labels: np.ndarray  # int (n,)
    log_probs: np.ndarray  # float32 (K, n)
    weights: np.ndarray  # float64 (n,): how many voxels each stands for
    smallest: np.ndarray  # float64 (K,): positive probability in the case


class Correction(NamedTuple):
    """Fitted numbers, and the floor of the probabilities, which belongs to them."""

    temperature: float
    scale: tuple  # K
    shift: tuple
    floor: tuple  # K
    share_floored: float  # of the voxels: with a class below its floor, mostly 0

    def to_json(self):
        """Return a dict of numbers and lists."""
        return as_json_values(self._asdict())

    @classmethod
    def from_json(cls, fields):
        """Return what `to_json` gave."""
        return cls(**{name: as_tuples(value) for name, value in fields.items()})


def voxels_of_case(n_cases, n_classes):
    """How many voxels to draw from each of so many cases, so that a fit to all takes seconds.

    Examples
    --------
    >>> voxels_of_case(50, 4), voxels_of_case(1000, 4)
    (20000, 1000)
    """
    return int(np.clip(MOST_NUMBERS // (n_cases * n_classes), LEAST_VOXELS, N_VOXELS))


def draw_voxels(targets, probs, n_voxels=N_VOXELS, seed=0):
    """Draw voxels of a case so that weighted sums over them are unbiased.

    Parameters
    ----------
    targets : int array, shape (X, Y, Z) of classes or (R, X, Y, Z) of overlapping segments
        Voxels that nobody annotated, -1, are not drawn.
    probs : float array, shape (K, X, Y, Z), or (2, R, X, Y, Z) of overlapping segments
        Regions are drawn together, as binary problems.
    n_voxels : int
        Half of them for the certain and right, more where there are fewer of the others.
    seed : int

    Returns
    -------
    VoxelSample
        ``labels`` (n,), ``log_probs`` (K, n), ``weights`` (n,), whose sum is the number of
        annotated voxels, and ``smallest`` (K,); n is at most `n_voxels`, 0 if none is annotated.

    Examples
    --------
    >>> inside = np.repeat([0.9999, 0.6], [1000, 10]).reshape(-1, 1, 1)
    >>> targets = np.ones(inside.shape, dtype=int)
    >>> sample = draw_voxels(targets, np.stack([1 - inside, inside]), n_voxels=50)
    >>> sorted(set(sample.weights.tolist())), round(float(sample.weights.sum()), 6)
    ([1.0, 25.0], 1010.0)
    """
    n_voxels, rng = check_count("n_voxels", n_voxels, 2), np.random.default_rng(seed)
    smallest = [np.where(one > 0, one, LARGEST_FLOOR).min(initial=LARGEST_FLOOR) for one in probs]
    labels, probs = annotated(np.ravel(targets), np.reshape(probs, (len(probs), -1)))
    certain = np.take_along_axis(probs, labels[np.newaxis], axis=0)[0] > CERTAIN
    n_certain = np.count_nonzero(certain)
    n_others = certain.size - n_certain
    of_others = min(n_others, max(n_voxels - n_certain, n_voxels // 2))
    chosen, weights = [], []
    for stratum, n, n_drawn in (
        (certain, n_certain, min(n_certain, n_voxels - of_others)),
        (~certain, n_others, of_others),
    ):
        drawn = np.sort(rng.choice(n, n_drawn, replace=False, shuffle=False))
        chosen.append(np.flatnonzero(stratum)[drawn])
        weights.append(np.full(n_drawn, n / max(n_drawn, 1)))
    chosen = np.concatenate(chosen)
    log_probs, _ = log_probabilities(probs[:, chosen])
    weights, smallest = np.concatenate(weights), np.maximum(smallest, SMALLEST_PROB, dtype=float)
    return VoxelSample(labels[chosen], log_probs, weights, smallest)


def cross_fit(samples, patients, n_folds=5, seed=0):
    """Fit corrections without each patient, and one to all.

    Parameters
    ----------
    samples : dict of path
        By case: an npz of the arrays of a `VoxelSample`.
    patients : dict of str
        By case.
    n_folds : int
        Parts of the patients that are left out in turn; fewer than 5 patients are left out one by
        one.
    seed : int
        Of the parts, which depend on nothing else but the names of the patients.

    Returns
    -------
    of_cases : dict of Correction
        By case, fitted without its patient; empty if there are fewer than 2 patients.
    of_all : Correction

    Raises
    ------
    ValueError
        If there is no sample, or no voxel in any.
    """
    check_count("n_folds", n_folds, 2)
    if not samples:
        raise wrong_input("samples", "no case", "at least one")
    loaded = {case: _read_sample(path) for case, path in samples.items()}
    of_cases = {}
    for part in _parts(sorted({patients[case] for case in samples}), n_folds, seed):
        left_out = [case for case in samples if patients[case] in part]
        others = [sample for case, sample in loaded.items() if patients[case] not in part]
        of_cases |= dict.fromkeys(left_out, _fit(others))
    return of_cases, _fit(loaded.values())


def _read_sample(path):
    """Return the voxels drawn from a case; arrays that do not fit together are named."""
    sample = VoxelSample(**read_arrays(path, *VoxelSample._fields))
    n, n_classes = len(sample.labels), len(sample.smallest)
    shapes = [array.shape for array in sample]
    kinds = "".join(array.dtype.kind for array in sample)
    fits = shapes == [(n,), (n_classes, n), (n,), (n_classes,)] and kinds in ("ifff", "ufff")
    if not fits or not np.isin(sample.labels, range(n_classes)).all():
        expected = "classes, log p and weights of the same voxels; remove it and run again"
        raise wrong_input(path, f"arrays of shapes {shapes}", expected)
    return sample


def corrected(probs, correction, method):
    """Return corrected probabilities, float32, of the shape of `probs`.

    Parameters
    ----------
    probs : float array, shape (K, *S), or (2, R, *S) of overlapping segments
    correction : Correction
    method : str
        ``temperature``, or ``vector_scaling`` of the log probabilities (not of logits: diagonal
        Dirichlet calibration, see `segcal_lite.scaling`).

    Examples
    --------
    >>> one = Correction(2.0, (1.0, 1.0), (0.0, 0.0), (1e-38, 1e-38), 0.0)
    >>> corrected(np.array([[0.9], [0.1]]), one, "temperature").round(2).tolist()
    [[0.75], [0.25]]
    """
    check_choice("method", method, METHODS)
    if len(probs) != len(correction.scale):
        raise wrong_input("probs", f"{len(probs)} classes", f"{len(correction.scale)}, as fitted")
    logits, _ = log_probabilities(probs, correction.floor)
    if method == "temperature":
        logits /= np.float32(correction.temperature)
    else:
        for of_class, scale, shift in zip(logits, correction.scale, correction.shift, strict=True):
            of_class *= np.float32(scale)
            of_class += np.float32(shift)
    return softmax(logits)


def write_corrected(path, probs, affine):
    """Write probabilities as NIfTI: float32 (X, Y, Z, K), or (X, Y, Z, R) inside of each region.

    Parameters
    ----------
    path : path
        Ends in ``.nii.gz`` or ``.nii``.
    probs : float array, shape (K, X, Y, Z) or (2, R, X, Y, Z)
    affine : array (4, 4)
        Of the grid that the probabilities lie on.
    """
    inside = probs[1] if np.ndim(probs) == 5 else probs
    write_volume(path, np.asarray(inside, np.float32), affine)


def remove_written(out, cases):
    """Remove probabilities of cases that are not among `cases`: an earlier call wrote them."""
    names = {f"{case.name}.nii.gz" for case in cases}
    for method in METHODS:  # beside which somebody may have other folders
        for path in (out / CORRECTED / method).glob("*.nii.gz"):
            if path.name not in names:
                path.unlink()


def _parts(patients, n_folds, seed):
    """Return the patients in parts that are left out in turn; none of fewer than 2."""
    if len(patients) < 2:
        return []
    n_parts = len(patients) if len(patients) < FEW_PATIENTS else min(n_folds, len(patients))
    order = np.random.default_rng(seed).permutation(len(patients))
    ends = np.linspace(0, len(patients), n_parts + 1).round().astype(int)
    return [{patients[i] for i in order[start:stop]} for start, stop in pairwise(ends)]


def _fit(samples):
    """Fit a `Correction` to the voxels of several samples."""
    labels, log_probs, weights, smallest = zip(*samples, strict=True)
    labels, weights = np.concatenate(labels), np.concatenate(weights)
    log_probs, floor = np.concatenate(log_probs, axis=1), np.min(smallest, axis=0)
    lowest = np.log(floor).astype(np.float32)[:, np.newaxis]
    is_floored = (log_probs < lowest - 1e-4).any(axis=0)  # by more than rounding
    log_probs = np.maximum(log_probs, lowest)
    scale, shift = fit_vector_scaling(labels, log_probs, weights)
    return Correction(
        temperature=fit_temperature(labels, log_probs, weights),
        scale=tuple(scale.tolist()),
        shift=tuple(shift.tolist()),
        floor=tuple(floor.tolist()),
        share_floored=float(np.average(is_floored, weights=weights)),
    )
