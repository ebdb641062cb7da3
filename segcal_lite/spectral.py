"""The spectral signature of a feature map, and how far it lies from the training signatures.

Source: Karimi and Gholipour, IEEE TAI 2022, section III-D, doi 10.1109/TAI.2022.3159510.
A feature map of C channels is read as a matrix F with one row a voxel and one column a channel.
Its singular values s, in logarithm and at unit length, are the spectral signature. A test image
is suspicious when its signature lies far from every training signature.
"""

import warnings

import numpy as np
from scipy.spatial.distance import cdist

from ._checks import (
    check_count,
    check_finite,
    check_number,
    check_patients,
    check_vectors,
    wrong_input,
)

# Float32 features carry rounding noise of about 1e-7 of the largest singular value, so what
# lies below this fraction of it is noise and not a property of the image. It moves a singular
# value of 1e-2 of the largest by 2e-8 of itself, one of 1e-4 by 1e-7, one of 1e-6 by 1e-5.
RELATIVE_EPSILON = 1e-6
N_TOGETHER = 4096  # voxels whose features fit a core's own cache


class RankDeficientWarning(UserWarning):
    """A signature whose last entries tell of the floor under the spectrum, not of the image."""


def spectral_signature(feature_map, relative_epsilon=RELATIVE_EPSILON, divide_by_sqrt_voxels=False):
    """Return the spectral signature log(s) / ||log(s)|| of a feature map.

    Parameters
    ----------
    feature_map : array_like, shape (C, *S)
        Output of one layer for one image: C channels, at least one spatial axis, any S.
    relative_epsilon : float, in (0, 1)
        Singular values below this fraction of the largest are raised to it: log(0) is minus
        infinity. A dead or repeated channel, or fewer voxels than channels, brings zeros.
    divide_by_sqrt_voxels : bool
        Divide s by the square root of the number of voxels first. The paper does not.

    Returns
    -------
    signature : ndarray, shape (r,), float64
        r = C, of unit length, from the largest singular value to the smallest. The base of the
        logarithm cancels.

    Raises
    ------
    ValueError
        For a map with no spatial axis, no voxel, zeros only, NaN or infinite values; for an
        epsilon outside (0, 1); and where every log(s) is 0, so that no unit length exists.

    Warns
    -----
    RankDeficientWarning
        Where singular values were raised to the floor.

    Notes
    -----
    The signature does not change when voxels are permuted, when channels are mixed by a rotation,
    or when every s is raised to one positive power. It does change with the scale of the features:
    a factor a adds log(a) to every log(s), and for large factors all signatures tend to the
    constant vector. Repeating every voxel n times is the factor sqrt(n), so volume size alone moves
    the paper's signature; `divide_by_sqrt_voxels` takes that part out.

    Examples
    --------
    >>> feature_map = np.array([[np.exp(2), 0, 0], [0, np.exp(1), 0]])  # s = e^2, e^1
    >>> bool(np.allclose(spectral_signature(feature_map), np.array([2, 1]) / np.sqrt(5)))
    True
    """
    features = _channels_by_voxels("feature_map", feature_map)
    n_voxels = features.shape[1] if divide_by_sqrt_voxels else 1
    singular_values = np.linalg.svd(_root(features), compute_uv=False)
    return signature_of_spectrum(singular_values, n_voxels, relative_epsilon)


class SpectrumSums:
    """The exact spectrum of a feature map that arrives in blocks and is never held whole.

    Only a C x C matrix R with R'R = F'F is kept, which has the singular values of F. That of a
    further block is stacked under it, and both are reduced to the triangular factor of their QR.

    Parameters
    ----------
    n_channels : int
        C, the number of channels of every block.

    Attributes
    ----------
    n_voxels : int
        Voxels seen. Blocks must not overlap: a voxel that comes twice is counted twice.

    Examples
    --------
    >>> feature_map = np.random.default_rng(0).normal(size=(3, 4, 5))
    >>> sums = SpectrumSums(3).update(feature_map[:, :1]).update(feature_map[:, 1:])
    >>> bool(np.allclose(sums.signature(), spectral_signature(feature_map)))
    True
    >>> sums.n_voxels
    20
    """

    def __init__(self, n_channels):
        self.n_channels = check_count("n_channels", n_channels)
        self.n_voxels = 0
        self._root = np.zeros((self.n_channels, self.n_channels))

    def update(self, block):
        """Add the voxels of a block of shape (C, *S); return self. A block may hold no voxel."""
        features = _channels_by_voxels("block", block)
        if len(features) != self.n_channels:
            raise wrong_input("block", f"{len(features)} channels", self.n_channels)
        return self._add(_root(features), features.shape[1])

    def merge(self, other):
        """Add the voxels that another `SpectrumSums` of as many channels has seen; return self."""
        if other.n_channels != self.n_channels:
            raise wrong_input("other", f"{other.n_channels} channels", self.n_channels)
        return self._add(other._root, other.n_voxels)

    def _add(self, root, n_voxels):
        """Stack a further root under the own one and reduce both."""
        self._root = np.linalg.qr(np.vstack([self._root, root]), mode="r")
        self.n_voxels += n_voxels
        return self

    def singular_values(self):
        """Return the singular values so far, shape (C,), descending; zeros before any voxel."""
        return np.linalg.svd(self._root, compute_uv=False)

    def signature(self, relative_epsilon=RELATIVE_EPSILON, divide_by_sqrt_voxels=False):
        """Return the signature of all voxels so far, as `spectral_signature` of the whole map."""
        n_voxels = self.n_voxels if divide_by_sqrt_voxels else 1
        return signature_of_spectrum(self.singular_values(), n_voxels, relative_epsilon)


def oodm(signature, reference):
    """Return the out-of-distribution measure (Eq. 1): the distance to the nearest reference.

    Parameters
    ----------
    signature : array_like, shape (r,) or (n, r)
        The signature of one image, or of n.
    reference : array_like, shape (R, r)
        The signatures of the R >= 1 training images.

    Returns
    -------
    float, or ndarray of shape (n,), float64
        Euclidean distance; in [0, 2] between vectors of unit length. Empty for n = 0.

    Raises
    ------
    ValueError
        For lengths that differ, no reference, NaN or infinite values.

    Examples
    --------
    >>> oodm([0.0, 1.0], [[0.0, 0.5], [1.0, 0.0]])
    0.5
    """
    reference = _reference(reference, minimum=1)
    signature = check_vectors("signature", signature, reference.shape[1])
    nearest = cdist(np.atleast_2d(signature), reference).min(axis=1)
    return float(nearest[0]) if signature.ndim == 1 else nearest


def leave_one_out_oodm(reference, patients=None):
    """Return the OODM of every training signature with respect to those of all other patients.

    Parameters
    ----------
    reference : array_like, shape (R, r)
        Training signatures, R >= 2: a single one has no others.
    patients : sequence, shape (R,), optional
        Whose image each is; by default each is of another patient. Scans of one are alike, so the
        distance between them says nothing about a new patient.

    Returns
    -------
    ndarray, shape (R,), float64
        Two equal signatures of two patients are each other's neighbours at distance 0.

    Raises
    ------
    ValueError
        For fewer than two signatures or patients, a missing patient, another number of axes, NaN or
        infinite values.

    Examples
    --------
    >>> leave_one_out_oodm([[0.0], [1.0], [3.0]]).tolist()
    [1.0, 1.0, 2.0]
    >>> leave_one_out_oodm([[0.0], [1.0], [3.0]], patients=["a", "a", "b"]).tolist()
    [3.0, 2.0, 2.0]
    """
    reference = _reference(reference, minimum=2)
    others = of_other_patients(len(reference), patients)
    return np.where(others, cdist(reference, reference), np.inf).min(axis=1)


def of_other_patients(n_images, patients=None):
    """Return (n, n): which images are of another patient than the one of the row.

    One patient alone, a missing one, or other than one patient for each image, are a
    ``ValueError``.
    """
    of = check_patients(patients, n_images)
    others = of[:, None] != of
    if not others.any():
        raise wrong_input("patients", "one alone", "at least 2: each is held against the others")
    return others


def ood_threshold(reference, c=2.5, patients=None):
    """Return the threshold tau of Eq. 2: mean + c std of the leave-one-out OODM.

    Parameters
    ----------
    reference : array_like, shape (R, r)
        Training signatures, R >= 2.
    c : float
        The paper's C and its value.
    patients
        As for `leave_one_out_oodm`.

    Returns
    -------
    float
        An image with a larger OODM is out of distribution. Refuses what `leave_one_out_oodm` does.

    Examples
    --------
    >>> round(ood_threshold([[0.0], [1.0], [3.0]], c=0), 4)
    1.3333
    """
    return threshold_of_scores(leave_one_out_oodm(reference, patients), c)


def threshold_of_scores(training_scores, c=2.5):
    """Return mean + c std of the scores (R,) that any detector gives to its training cases."""
    scores = check_finite("training_scores", np.asarray(training_scores, dtype=np.float64))
    if scores.ndim != 1 or scores.size == 0:
        raise wrong_input("training_scores", f"shape {scores.shape}", "(R,) with R >= 1")
    check_finite("c", c)
    # The paper does not say which standard deviation it uses: this is the population's (by R).
    return float(scores.mean() + c * scores.std())


def _channels_by_voxels(name, feature_map):
    """Return a map of shape (C, *S) as F' of shape (C, voxels); what is not float32 in float64."""
    feature_map = np.asarray(feature_map)
    if feature_map.dtype != np.float32:
        feature_map = feature_map.astype(np.float64)
    if feature_map.ndim < 2 or feature_map.shape[0] == 0:
        raise wrong_input(name, f"shape {feature_map.shape}", "(C, *S) with C >= 1")
    return check_finite(name, feature_map).reshape(feature_map.shape[0], -1)


def _root(features):
    """Return R, shape (C, C), with R'R = F'F for features F' of shape (C, voxels).

    F'F squares the singular values, so that small ones drown in its rounding. But its eigenvectors
    V and the roots L of its eigenvalues are good enough to bring F to nearly unit length in every
    direction: G = F V / L. What G'G loses is then as small as what a QR of F loses, and F = G L V'.
    The first product is but a guide, so it is taken in the precision that the features have.
    """
    largest = float(max(features.max(), -features.min())) if features.size else 0.0
    if largest == 0:
        return np.zeros((len(features), len(features)))
    if not 1e-6 < largest < 1e6:  # squares might overflow or vanish; a power of two rounds nothing
        exponent = np.frexp(largest)[1]
        return np.ldexp(_root(np.ldexp(features, -exponent)), exponent)
    unturned = np.eye(len(features), dtype=features.dtype)
    values, vectors = np.linalg.eigh(_products(features, unturned))
    lengths = np.sqrt(np.maximum(values, np.finfo(features.dtype).eps * values[-1]))
    values, turns = np.linalg.eigh(_products(features, (vectors / lengths).T))
    root = np.sqrt(np.maximum(values, 0))[:, np.newaxis] * turns.T
    return (root * lengths) @ vectors.T


def _products(features, turn):
    """Return G'G, shape (C, C), of G' = `turn` F'; in double where `turn` is, block by block."""
    total = np.zeros(turn.shape)
    for start in range(0, features.shape[1], N_TOGETHER):
        turned = turn @ features[:, start : start + N_TOGETHER]
        total += turned @ turned.T
    return total


def signature_of_spectrum(singular_values, n_voxels=1, relative_epsilon=RELATIVE_EPSILON):
    """Return the spectral signature log(s) / ||log(s)|| of singular values that are at hand.

    Parameters
    ----------
    singular_values : array_like, shape (r,)
        At least 0.
    n_voxels : float
        At least 1: s is divided by its square root; 1, the paper's, leaves s as it is.
    relative_epsilon : float, in (0, 1)
        As in `spectral_signature`.

    Returns
    -------
    ndarray, shape (r,), float64

    Raises
    ------
    ValueError
        As `spectral_signature`.

    Warns
    -----
    RankDeficientWarning
        Where singular values were raised to the floor.

    Examples
    --------
    >>> signature_of_spectrum(np.exp([4.0, 3.0])).tolist()
    [0.8, 0.6]
    """
    singular_values = check_finite("singular_values", np.asarray(singular_values, np.float64))
    if singular_values.ndim != 1 or not singular_values.size:
        raise wrong_input("singular_values", f"shape {singular_values.shape}", "(r,) values")
    if singular_values.min() < 0:
        raise wrong_input("singular_values", f"{singular_values.min():g}", "values of at least 0")
    if not 0 < relative_epsilon < 1:
        raise wrong_input("relative_epsilon", relative_epsilon, "a number in (0, 1)")
    floor = relative_epsilon * singular_values.max()
    n_floored = int(np.count_nonzero(singular_values < floor))
    if n_floored:
        warnings.warn(
            f"{n_floored} of {singular_values.size} singular values lay below "
            f"{relative_epsilon:g} of the largest and were raised to it: the feature map has "
            "silent or dependent channels",
            RankDeficientWarning,
            stacklevel=3,
        )
    if floor == 0:
        raise wrong_input("feature_map", "no value but 0", "at least one non-zero voxel")
    n_voxels = check_number("n_voxels", n_voxels, least=1)
    log_spectrum = np.log(np.maximum(singular_values, floor) / np.sqrt(n_voxels))
    length = np.linalg.norm(log_spectrum)
    if length < RELATIVE_EPSILON:  # what is left is rounding noise, which has no direction
        raise wrong_input("feature_map", "singular values that are all 1", "log(s) other than 0")
    return log_spectrum / length


def _reference(reference, minimum):
    """Return the training signatures as a finite float64 array (R, r) with R >= `minimum`."""
    reference = check_finite("reference", np.asarray(reference, dtype=np.float64))
    if reference.ndim != 2 or reference.shape[0] < minimum or reference.shape[1] == 0:
        found = f"shape {reference.shape}"
        raise wrong_input("reference", found, f"(R, r) with R >= {minimum} signatures")
    return reference
