"""Out-of-distribution detectors with one face: `fit`, `score`, `threshold`, `is_ood`.

A detector is fitted to training cases only. A larger score is more suspicious, and a case is
called out of distribution when its score is larger than mean + c std of the training scores:
Eq. 2 of Karimi and Gholipour, IEEE TAI 2022, doi 10.1109/TAI.2022.3159510, where c = 2.5.
What separates two detectors is only what they look at. Two of them look at nothing a network
made: if they separate the sets as well as the spectral signature does, the sets were too easy.
"""

import numpy as np
from sklearn.covariance import LedoitWolf

from ._checks import check_finite, check_vectors, wrong_input
from .spectral import leave_one_out_oodm, of_other_patients, oodm, threshold_of_scores


class Detector:
    """What all detectors share: the threshold rule. A subclass adds `fit` and `score`.

    Parameters
    ----------
    c : float
        The threshold is mean + c std of the training scores. It may be changed after `fit`.

    Attributes
    ----------
    training_scores : ndarray, shape (R,), float64
        Scores of the training cases, from which `threshold` follows; None before `fit`.
    """

    def __init__(self, c=2.5):
        self.c = c
        self.training_scores = None

    @staticmethod
    def has_enough(values, groups=None, patients=None):
        """Whether what `fit` would take says enough to be fitted to."""
        return True

    @property
    def threshold(self):
        """Mean + c std of the training scores (Eq. 2)."""
        self._check_fitted()
        return threshold_of_scores(self.training_scores, self.c)

    def is_ood(self, cases):
        """Return True where the score is larger than the threshold; shaped as `score`."""
        return self.score(cases) > self.threshold

    def _check_fitted(self):
        """Refuse to score or to give a threshold without training cases."""
        if self.training_scores is None:
            raise wrong_input(type(self).__name__, "no training cases", "fit to come first")


class NearestReferenceDetector(Detector):
    """Score: Euclidean distance to the nearest training case (Eq. 1), for features of any kind.

    The training scores are leave-one-out: no case is its own neighbour. `score` does not know that
    and gives 0 to a training case.

    Attributes
    ----------
    reference : ndarray, shape (R, d), float64
        Features of the R training cases, as they are compared.

    Examples
    --------
    >>> detector = NearestReferenceDetector(c=0).fit([[0.0], [1.0], [2.0]])
    >>> detector.threshold
    1.0
    >>> detector.score([[2.5], [9.0]]).tolist(), detector.is_ood([[2.5], [9.0]]).tolist()
    ([0.5, 7.0], [False, True])
    """

    def fit(self, features, patients=None):
        """Keep the training features, shape (R, d) with R >= 2, as reference; return self.

        `patients`, (R,), say whose image each is, as for `leave_one_out_oodm`.
        """
        self.reference = self._compared(features)
        self.training_scores = leave_one_out_oodm(self.reference, patients)
        return self

    def score(self, features):
        """Return the score of one case, shape (d,), as a float, or of n, shape (n, d), as (n,)."""
        self._check_fitted()
        return oodm(self._compared(features), self.reference)

    def _compared(self, features):
        """Return the features as they enter the distance; subclasses transform them here."""
        return check_finite("features", np.asarray(features, dtype=np.float64))


class SpectralDetector(NearestReferenceDetector):
    """Score: OODM of spectral signatures, the paper's detector.

    `fit` takes the training signatures, shape (R, r), and `score` one, (r,), or several, (n, r),
    all made by `segcal_lite.spectral.spectral_signature` with the same options. Fed with random
    vectors it must separate nothing: that is the control.

    Examples
    --------
    >>> train = [[0.80, 0.60], [0.81, 0.59], [0.79, 0.61]]
    >>> SpectralDetector().fit(train).is_ood([[0.80, 0.60], [0.99, 0.14]]).tolist()
    [False, True]
    """


class VoxelCountDetector(NearestReferenceDetector):
    """Score: distance in log(number of voxels), (R,), to the nearest training case. A control."""

    def _compared(self, voxel_counts):
        """Return log(counts) with an axis for the single feature."""
        counts = np.asarray(voxel_counts, dtype=np.float64)
        n_bad = np.count_nonzero(~(np.isfinite(counts) & (counts >= 1)))
        if counts.ndim > 1 or n_bad:
            found = f"shape {counts.shape} with {n_bad} values that are no count"
            raise wrong_input(
                "voxel_counts", found, "finite values of at least 1, shape () or (n,)"
            )
        return np.log(counts)[..., np.newaxis]


class IntensityDetector(NearestReferenceDetector):
    """Score: distance in standardised `intensity_moments`, (R, 2 C), to the nearest. A control."""

    def fit(self, moments, patients=None):
        """Learn centre and spread of each moment, then keep the reference; return self."""
        moments = check_finite("moments", np.asarray(moments, dtype=np.float64))
        if moments.ndim != 2 or moments.shape[0] < 2 or moments.shape[1] % 2:
            raise wrong_input("moments", f"shape {moments.shape}", "(R, 2 C) with R >= 2 images")
        spread = moments.std(axis=0)
        # Rounding noise where images were made alike in that moment, which is then centred only:
        # beside the channel's mean and deviation, as a mean of 0 is itself noise.
        largest = np.abs(moments).max(axis=0).reshape(2, -1).max(axis=0)
        varies = spread > 1e-6 * np.tile(largest, 2)
        self._centre, self._spread = moments.mean(axis=0), np.where(varies, spread, 1.0)
        return super().fit(moments, patients)

    def _compared(self, moments):
        """Return the standardised moments."""
        moments = check_vectors("moments", moments, self._centre.size)
        return (moments - self._centre) / self._spread


class ScalarDetector(Detector):
    """Score: the value itself, for one number a case in which larger means more suspicious.

    For segment entropy, for the paper's uncertainty baseline (mean entropy of the predicted
    foreground) and, as 1 - p, for the maximum softmax probability. Training values are used as they
    are; there is no leave-one-out, because a value does not depend on the other cases.

    A value is NaN where the model predicted no voxel of the segment. That is the plainest failure
    there is and must not pass as harmless: a NaN scores +inf, and is called out of distribution.
    In `fit` NaN values are left out of mean and std, which would be NaN, and counted.

    Attributes
    ----------
    training_scores : ndarray, shape (R - n_missing,), float64
    n_missing : int
        NaN values among the training values.

    Examples
    --------
    >>> detector = ScalarDetector(c=2).fit([0.1, 0.3, np.nan])
    >>> round(detector.threshold, 3), detector.n_missing
    (0.4, 1)
    >>> detector.score([0.2, np.nan]).tolist(), detector.is_ood([0.2, np.nan]).tolist()
    ([0.2, inf], [False, True])
    """

    @staticmethod
    def has_enough(values, groups=None, patients=None):
        """Whether at least two values are not NaN."""
        return np.count_nonzero(np.isfinite(values)) >= 2

    def fit(self, values):
        """Keep the training values, shape (R,), at least two of them not NaN; return self."""
        scores = np.atleast_1d(self._with_missing_as_inf(values))
        present = scores[np.isfinite(scores)]
        if present.size < 2:
            raise wrong_input("values", f"{present.size} that are not NaN", "at least 2")
        self.training_scores, self.n_missing = present, scores.size - present.size
        return self

    def score(self, values):
        """Return one value as a float, or several, shape (n,), as an array; NaN becomes +inf."""
        self._check_fitted()
        scores = self._with_missing_as_inf(values)
        return float(scores) if scores.ndim == 0 else scores

    def _with_missing_as_inf(self, values):
        """Return the values with +inf for NaN; an infinite value in the input is an error."""
        values = np.asarray(values, dtype=np.float64)
        if values.ndim > 1 or np.any(np.isinf(values)):
            found = f"shape {values.shape}, {np.isinf(values).sum()} infinite"
            raise wrong_input("values", found, "shape () or (n,), finite or NaN")
        return np.where(np.isnan(values), np.inf, values)


class MahalanobisDetector(Detector):
    """Score: Mahalanobis distance of pooled features to the nearest group of training cases.

    Lee et al. (NeurIPS 2018), whom B names: each group has a mean of its own, all share one
    covariance. It is estimated with Ledoit and Wolf's shrinkage, since images are few. The training
    scores are leave-one-out, as B's: each case is scored by what those of other patients give.

    `fit` takes the mean of each feature over the voxels of each training image, shape (R, d), and
    optionally the group (such as the set) and the patient of each, (R,). Whichever patient is left
    out, two images more than groups have to be there, or more: with one more, they differ in one
    direction alone, and any new case lies far off it. `score` takes (d,) or (n, d).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> train = np.concatenate([rng.normal(0, 1, (30, 2)), rng.normal(20, 1, (30, 2))])
    >>> detector = MahalanobisDetector().fit(train, np.repeat(["a", "b"], 30))
    >>> detector.is_ood([[0.0, 0.0], [20.0, 20.0], [10.0, 10.0]]).tolist()
    [False, False, True]
    """

    @staticmethod
    def has_enough(values, groups=None, patients=None):
        """Whether a covariance is left when any one patient is left out."""
        values = np.asarray(values, dtype=np.float64)
        groups = np.zeros(len(values)) if groups is None else np.asarray(groups)
        left = of_other_patients(len(values), patients)
        return _are_many(groups, left) and all(
            _has_spread(values[others], _means_and_residuals(values[others], groups[others])[1])
            for others in left
        )

    def fit(self, features, groups=None, patients=None):
        """Estimate means and covariance; return self."""
        features = check_finite("features", np.asarray(features, dtype=np.float64))
        if features.ndim != 2 or len(features) < 4:
            raise wrong_input("features", f"shape {features.shape}", "(R, d) with R >= 4 images")
        groups = np.zeros(len(features)) if groups is None else np.asarray(groups)
        if groups.shape != features.shape[:1]:
            raise wrong_input("groups", f"shape {groups.shape}", f"({len(features)},)")
        left = of_other_patients(len(features), patients)
        if not _are_many(groups, left):
            found = f"{len(features)} images in {len(np.unique(groups))} groups"
            expected = "two images more than groups without any one patient, or more"
            raise wrong_input("groups", found, expected)
        self._means, self._precision = _group_gaussians(features, groups)
        scores = []
        for left_out, others in enumerate(left):
            gaussians = _group_gaussians(features[others], groups[others])
            scores.append(_nearest_mean(features[left_out], *gaussians))
        self.training_scores = np.array(scores)
        return self

    def score(self, features):
        """Return the distance of one case as a float, or of n as (n,)."""
        self._check_fitted()
        features = check_vectors("features", features, self._means.shape[1])
        scores = _nearest_mean(features, self._means, self._precision)
        return float(scores) if features.ndim == 1 else scores


def _are_many(groups, left):
    """Whether two images beyond the first of each group are left in each row of `left` (n, R)."""
    return all(others.sum() - len(np.unique(groups[others])) >= 2 for others in left)


def _means_and_residuals(features, groups):
    """Return the mean of each group (G, d), and features (R, d) less that of their group."""
    names, index = np.unique(groups, return_inverse=True)
    means = np.stack([features[index == g].mean(axis=0) for g in range(len(names))])
    return means, features - means[index]


def _has_spread(features, residuals):
    """Whether residuals are more than rounding, or NaN: else no distance could be told from 0."""
    return not np.abs(residuals).max(initial=0) <= 1e-12 * np.abs(features).max(initial=0)


def _group_gaussians(features, groups):
    """Return the mean of each group (G, d) and the inverse of their common covariance."""
    means, residuals = _means_and_residuals(features, groups)
    if not _has_spread(features, residuals):
        expected = "groups in which some images differ"
        raise wrong_input("features", "no spread within groups", expected)
    return means, LedoitWolf(assume_centered=True).fit(residuals).precision_


def _nearest_mean(features, means, precision):
    """Return the Mahalanobis distance of each row to the nearest mean."""
    differences = features[..., np.newaxis, :] - means
    squares = np.einsum("...gi,ij,...gj->...g", differences, precision, differences)
    return np.sqrt(np.maximum(squares, 0).min(axis=-1))


def intensity_moments(image):
    """Return mean and standard deviation of the intensities of each channel.

    Parameters
    ----------
    image : array_like, shape (C, *S)
        C channels, at least one spatial axis, any S.

    Returns
    -------
    ndarray, shape (2 C,), float64
        C means, then C population standard deviations, in the unit of the intensities.

    Raises
    ------
    ValueError
        For an image without a spatial axis or voxel, or with NaN or infinite intensities.

    Examples
    --------
    >>> intensity_moments([[1.0, 3.0], [5.0, 5.0]]).tolist()
    [2.0, 5.0, 1.0, 0.0]
    """
    image = check_finite("image", np.asarray(image, dtype=np.float64))
    if image.ndim < 2 or image.size == 0:
        raise wrong_input("image", f"shape {image.shape}", "(C, *S) with at least one voxel")
    voxels = image.reshape(image.shape[0], -1)
    return np.concatenate([voxels.mean(axis=1), voxels.std(axis=1)])
