"""One synthetic case: shape, annotation and picture of a patient on a grid.

A true shape is drawn (`anatomies`), an annotator labels it with displaced boundaries
(`annotators`), and a picture of it is taken (`pictures`) in the look of a domain (`looks`). The
posterior belongs to the label's rule at the middle of each slice; the picture shows the average
over the slice's thickness, as scanners do.
"""

from dataclasses import dataclass
from functools import partial
from numbers import Real

import numpy as np

from segcal_lite._checks import check_choice, check_count, wrong_input

from .anatomies import draw_anatomy
from .annotators import annotate, posterior
from .looks import ORGAN_LOOKS, SHIFTED, SOURCE, mixed_look
from .organ_anatomies import draw_organ
from .pictures import take_picture

SLICE_THICKNESS_MM = {"heart": 8.0, "prostate": 3.6}  # where the task leaves it open


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


def make_phantom(task, seed, shift_strength=0.0, size=(64, 64), n_slices=8):
    """Draw one case.

    Shape, annotation and picture have random streams of their own: the shape depends on the seed
    alone, the labels also on the grid, and only the picture on `shift_strength`.

    Parameters
    ----------
    task : Task
        ``TASKS["brain"]``, ``["heart"]`` or ``["prostate"]``.
    seed : int or sequence of int
        At least 0.
    shift_strength : float
        From 0, the source domain, to 1, the shifted one; looks are interpolated between.
    size : tuple of two int
        Voxels in plane. More of them show more of the surroundings.
    n_slices : int
        8 mm (heart), 3.6 mm (prostate) or 2 mm (brain) thick.

    Returns
    -------
    Phantom

    Raises
    ------
    ValueError
        For a task without a phantom, a strength outside [0, 1], a count below 1, a negative seed.

    Examples
    --------
    >>> from segcal_lite.data.tasks import TASKS
    >>> heart = make_phantom(TASKS["heart"], seed=0)
    >>> heart.image.shape, heart.posterior.shape, np.unique(heart.labels).tolist()
    ((1, 64, 64, 8), (4, 64, 64, 8), [0, 1, 2, 3])
    """
    spacing_mm, shape = _check_grid(task, seed, shift_strength, size, n_slices)
    name = _anatomy_of(task)
    look = mixed_look(SOURCE[name], SHIFTED[name], shift_strength)
    patient = partial(draw_anatomy, name)
    return draw_phantom(patient, look, seed, shape, spacing_mm, shift_strength)


def _anatomy_of(task):
    """Return the anatomy that a task shows: of prostate and prostate_3d the same."""
    return task.name.removesuffix("_3d")


def _check_grid(task, seed, shift_strength, size, n_slices):
    """Return voxel size and shape of the grid, or say what is wrong."""
    if _anatomy_of(task) not in SOURCE:
        raise wrong_input("task", repr(task.name), "one of " + ", ".join(map(repr, SOURCE)))
    for entry in np.atleast_1d(np.asarray(seed, dtype=object)):
        check_count("seed", entry, minimum=0)
    if not (isinstance(shift_strength, Real) and 0 <= shift_strength <= 1):
        raise wrong_input("shift_strength", repr(shift_strength), "a number from 0 to 1")
    if len(size) != 2:
        raise wrong_input("size", size, "two numbers of voxels")
    shape = (*(check_count("size", n) for n in size), check_count("n_slices", n_slices))
    *in_plane_mm, thickness_mm = task.spacing_mm
    return (*in_plane_mm, thickness_mm or SLICE_THICKNESS_MM[task.name]), shape


def make_organ_phantom(name, seed, side=42, spacing_mm=2.5, towards=None, strength=0.0):
    """Draw one volume of a set.

    Shape, annotation and picture have random streams of their own, so that with `towards` the
    same patient is seen in a look between two sets.

    Parameters
    ----------
    name : str
        A key of `looks.ORGAN_LOOKS`.
    seed : int or sequence of int
        At least 0.
    side : int
        Voxels along each axis.
    spacing_mm : float
        Voxel size along each axis. Organs are drawn for a field of view of about 105 mm.
    towards : str, optional
        Another set of the same tissues, such as another MR sequence of the liver.
    strength : float
        From 0, the look of `name`, to 1, that of `towards`.

    Returns
    -------
    Phantom
        Of one channel and two classes; CT in HU.

    Raises
    ------
    ValueError
        For an unknown set, a strength outside [0, 1], or sets that have not the same tissues.

    Examples
    --------
    >>> liver = make_organ_phantom("liver_ct", seed=0)
    >>> liver.image.shape, liver.posterior.shape
    ((1, 42, 42, 42), (2, 42, 42, 42))
    """
    shape = (check_count("side", side),) * 3
    spacing_mm = (float(spacing_mm),) * 3
    check_choice("set", name, tuple(ORGAN_LOOKS))
    look = _look_between(name, towards, strength)
    return draw_phantom(partial(draw_organ, name), look, seed, shape, spacing_mm)


def _look_between(name, towards, strength):
    """Return the look of a set, or one between two."""
    if not 0 <= strength <= 1:
        raise wrong_input("strength", strength, "a number from 0 to 1")
    look = ORGAN_LOOKS[name]
    if towards is None:
        return look
    other = ORGAN_LOOKS[check_choice("towards", towards, tuple(ORGAN_LOOKS))]
    if set(other.tissues) != set(look.tissues):
        raise wrong_input("towards", repr(towards), f"a set that shows the tissues of {name!r}")
    return mixed_look(look, other, strength)
