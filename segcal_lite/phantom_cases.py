"""One synthetic case: shape, annotation and picture of a patient on a grid."""

from dataclasses import dataclass

import numpy as np

from .annotators import annotate, posterior
from .pictures import take_picture


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic case.

    Attributes
    ----------
    image : ndarray of float32, (C, X, Y, Z)
        Arbitrary units, not negative; HU for CT.
    labels : ndarray of uint8, (X, Y, Z)
        One annotation.
    posterior : ndarray of float32, (K, X, Y, Z)
        Probability of each label given the true shape: what the annotation was drawn from.
    spacing_mm : tuple of three float
    affine : ndarray (4, 4)
        Axes to right, anterior, superior; the origin in the middle of the grid.
    """

    image: np.ndarray
    labels: np.ndarray
    posterior: np.ndarray
    spacing_mm: tuple
    affine: np.ndarray


def centred_grid(shape, spacing_mm):
    """Return the axes in mm (three arrays) and the affine of a grid whose middle is the origin.

    Examples
    --------
    >>> axes_mm, affine = centred_grid((3, 2, 3), (2.0, 2.0, 8.0))
    >>> [axis.tolist() for axis in axes_mm], affine[:3, 3].tolist()
    ([[-2.0, 0.0, 2.0], [-1.0, 1.0], [-8.0, 0.0, 8.0]], [-2.0, -1.0, -8.0])
    """
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -0.5 * (np.array(shape) - 1) * spacing_mm
    grid = zip(affine[:3, 3], spacing_mm, shape, strict=True)
    return [start + step * np.arange(n) for start, step, n in grid], affine


def draw_phantom(draw_patient, look, seed, shape, spacing_mm, shift_strength=0.0):
    """Draw a patient, let an annotator label it, take a picture of it.

    Shape, annotation and picture have random streams of their own: a look or a shift changes the
    picture alone.

    Parameters
    ----------
    draw_patient : callable
        Takes a numpy.random.Generator, returns an `Anatomy`.
    look : Look
    seed : int or sequence of int
    shape, spacing_mm : tuple of three
        Of the grid, whose middle is the origin of the patient's axes.
    shift_strength : float
        As in `pictures.take_picture`.

    Returns
    -------
    Phantom
    """
    axes_mm, affine = centred_grid(shape, spacing_mm)
    streams = np.random.SeedSequence(seed).spawn(3)
    for_shape, for_labels, for_image = (np.random.default_rng(stream) for stream in streams)
    anatomy = draw_patient(for_shape)
    grid_mm = np.ix_(*axes_mm)
    distances_mm = [b.shape.signed_distance(*grid_mm) for b in anatomy.boundaries]
    sigmas_mm = [b.sigma_mm(axes_mm[2]) for b in anatomy.boundaries]
    rules = distances_mm, sigmas_mm, [b.label for b in anatomy.boundaries]
    return Phantom(
        image=take_picture(look, anatomy.layers, axes_mm, spacing_mm, shift_strength, for_image),
        labels=annotate(*rules, spacing_mm, anatomy.correlation_mm, for_labels),
        posterior=posterior(*rules).astype(np.float32),
        spacing_mm=spacing_mm,
        affine=affine,
    )
