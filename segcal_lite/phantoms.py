"""Synthetic cases whose true label probabilities are known, written in the common layout.

A true shape is drawn (`anatomies`), an annotator labels it with displaced boundaries
(`annotators`), and a picture of it is taken: tissues mixed within thick voxels, texture, a bias
field and Rician noise. A second domain shows the same shapes and labels with another look.
"""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ._checks import check_count, wrong_input
from .anatomies import draw_anatomy
from .annotators import annotate, posterior, smooth_field
from .runs import as_json_values, read_json
from .volumes import write_volume

MODEL_VERSION = 1  # raised when the same settings would give other cases
SLICE_THICKNESS_MM = {"heart": 8.0, "prostate": 3.6}  # where the task leaves it open
GRAIN_MM = 2.5  # correlation length of the texture
COIL_REACH_MM = 14.0  # the near-field gain of an endorectal coil falls by e over this
SUB_SLICE_MM = 3.0  # a slice is averaged over slabs at most this thick
DOMAINS = (("source", "train"), ("source", "validation"), ("source", "test"), ("shifted", "test"))


@dataclass(frozen=True)
class Look:
    """How a task's pictures look in one domain, in units of the brightest tissue.

    `tissues` maps a tissue to its intensity in each channel; what is not painted has none.
    """

    tissues: dict
    noise: float
    bias: float
    texture: float
    blur_mm: float = 0.0
    near_field: float = 0.0


def _tissues(names, *channels):
    """Return {tissue: intensities by channel} from one row of numbers a channel."""
    return dict(zip(names.split(","), np.transpose(channels).tolist(), strict=True))


HEART = "RV blood,LV blood,myocardium,trabecula,fat,muscle,lung,liver,aorta"
BRAIN = "scalp,skull,CSF,grey,white,cap,vessel,oedema,enhancing,core"
PROSTATE = "peripheral,transition,nodule,capsule,vein,fat,muscle,bone,rectum,bladder"
SOURCE = {
    "heart": Look(
        _tissues(HEART, (0.74, 0.78, 0.36, 0.48, 0.70, 0.28, 0.08, 0.40, 0.75)), 0.05, 0.2, 0.10
    ),
    "brain": Look(
        _tissues(
            BRAIN,
            (0.80, 0.10, 0.18, 0.42, 0.52, 0.47, 0.90, 0.40, 0.72, 0.28),
            (0.55, 0.10, 0.92, 0.58, 0.44, 0.58, 0.20, 0.68, 0.58, 0.76),
            (0.50, 0.10, 0.14, 0.55, 0.46, 0.68, 0.30, 0.74, 0.66, 0.52),
        ),
        *(0.05, 0.15, 0.06),
    ),
    "prostate": Look(
        _tissues(PROSTATE, (0.62, 0.42, 0.30, 0.22, 0.60, 0.50, 0.20, 0.30, 0.34, 0.90)),
        *(0.05, 0.2, 0.12),
    ),
}
SHIFTED = {
    "heart": Look(
        _tissues(HEART, (0.30, 0.28, 0.48, 0.42, 0.90, 0.45, 0.10, 0.62, 0.26)),
        *(0.10, 0.5, 0.10, 1.5),
    ),
    "brain": Look(
        _tissues(
            BRAIN,
            (0.95, 0.10, 0.30, 0.55, 0.46, 0.52, 0.70, 0.52, 0.58, 0.42),
            (0.90, 0.10, 0.60, 0.62, 0.56, 0.60, 0.30, 0.66, 0.60, 0.64),
            (0.80, 0.10, 0.34, 0.50, 0.54, 0.56, 0.40, 0.58, 0.56, 0.48),
        ),
        *(0.09, 0.4, 0.06, 0.8),
    ),
    "prostate": Look(
        _tissues(PROSTATE, (0.62, 0.42, 0.30, 0.22, 0.60, 0.50, 0.20, 0.30, 0.02, 0.90)),
        *(0.07, 0.3, 0.12, 0.0, 3.0),
    ),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic case.

    Attributes
    ----------
    image : ndarray of float32, (C, X, Y, Z)
        Arbitrary units, not negative.
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
    >>> from segcal_lite.tasks import TASKS
    >>> heart = make_phantom(TASKS["heart"], seed=0)
    >>> heart.image.shape, heart.posterior.shape, np.unique(heart.labels).tolist()
    ((1, 64, 64, 8), (4, 64, 64, 8), [0, 1, 2, 3])
    """
    spacing_mm, shape = _check_grid(task, seed, shift_strength, size, n_slices)
    origin_mm = -0.5 * (np.array(shape) - 1) * spacing_mm
    axes_mm = [o + s * np.arange(n) for o, s, n in zip(origin_mm, spacing_mm, shape, strict=True)]
    streams = np.random.SeedSequence(seed).spawn(3)
    for_shape, for_labels, for_image = (np.random.default_rng(stream) for stream in streams)
    anatomy = draw_anatomy(task.name, for_shape)
    x_mm, y_mm, z_mm = np.ix_(*axes_mm)
    distances_mm = [b.shape.signed_distance(x_mm, y_mm, z_mm) for b in anatomy.boundaries]
    sigmas_mm = [b.sigma_mm(axes_mm[2]) for b in anatomy.boundaries]
    rules = distances_mm, sigmas_mm, [b.label for b in anatomy.boundaries]
    return Phantom(
        image=_take_picture(task.name, anatomy, axes_mm, spacing_mm, shift_strength, for_image),
        labels=annotate(*rules, spacing_mm, anatomy.correlation_mm, for_labels),
        posterior=posterior(*rules).astype(np.float32),
        spacing_mm=spacing_mm,
        affine=_affine(origin_mm, spacing_mm),
    )


def _check_grid(task, seed, shift_strength, size, n_slices):
    """Return voxel size and shape of the grid, or say what is wrong."""
    if task.name not in SOURCE:
        raise wrong_input("task", repr(task.name), "one of " + ", ".join(map(repr, SOURCE)))
    for entry in np.atleast_1d(np.asarray(seed, dtype=object)):
        check_count("seed", entry, minimum=0)
    if not 0 <= shift_strength <= 1:
        raise wrong_input("shift_strength", shift_strength, "a number from 0 to 1")
    if len(size) != 2:
        raise wrong_input("size", size, "two numbers of voxels")
    shape = (*(check_count("size", n) for n in size), check_count("n_slices", n_slices))
    *in_plane_mm, thickness_mm = task.spacing_mm
    return (*in_plane_mm, thickness_mm or SLICE_THICKNESS_MM[task.name]), shape


def _affine(origin_mm, spacing_mm):
    """Return the affine of a grid along the patient's axes."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return affine


def _take_picture(task_name, anatomy, axes_mm, spacing_mm, strength, rng):
    """Return what the scanner shows, (C, X, Y, Z) float32: one recipe in both domains.

    The random numbers are the same at every strength, so that a picture changes smoothly with it.
    """
    source, shifted = SOURCE[task_name], SHIFTED[task_name]

    def mixed(name):
        return (1 - strength) * getattr(source, name) + strength * getattr(shifted, name)

    means = {
        tissue: (1 - strength) * np.array(source.tissues[tissue])
        + strength * np.array(shifted.tissues[tissue])
        for tissue in source.tissues
    }
    signal = _paint(anatomy.layers, means, axes_mm, spacing_mm, strength)
    gain = np.exp(mixed("bias") * _slow_waves(axes_mm, rng))
    for coil in [layer.shifted for layer in anatomy.layers if layer.shifted][-1:]:
        outside_mm = np.maximum(-coil.signed_distance(*np.ix_(*axes_mm)), 0)
        gain *= 1 + mixed("near_field") * np.exp(-outside_mm / COIL_REACH_MM)
    blur = [mixed("blur_mm") / size_mm for size_mm in spacing_mm[:2]] + [0]
    for channel in signal:
        channel *= 1 + mixed("texture") * smooth_field(channel.shape, spacing_mm, GRAIN_MM, rng)
        channel[:] = ndimage.gaussian_filter(channel * gain, blur)
    first, second = mixed("noise") * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return np.hypot(signal + first, second).astype(np.float32)  # Rician: magnitude of complex


def _paint(layers, means, axes_mm, spacing_mm, strength):
    """Mix the tissues (C, X, Y, Z): soft edges a voxel wide, slices averaged over thin slabs."""
    x_mm, y_mm, z_mm = axes_mm
    n_slabs = int(np.ceil(spacing_mm[2] / SUB_SLICE_MM))
    slabs_mm = spacing_mm[2] * ((np.arange(n_slabs) + 0.5) / n_slabs - 0.5)
    fine_mm = np.ix_(x_mm, y_mm, np.add.outer(z_mm, slabs_mm).ravel())
    n_channels = len(next(iter(means.values())))
    signal = np.zeros((n_channels, len(x_mm), len(y_mm), len(z_mm) * n_slabs))
    for layer in layers:
        distance_mm = layer.shape.signed_distance(*fine_mm)
        if layer.shifted:
            moved_mm = layer.shifted.signed_distance(*fine_mm)
            distance_mm = (1 - strength) * distance_mm + strength * moved_mm
        share = np.clip(distance_mm / spacing_mm[0] + 0.5, 0, 1)
        signal += share * (means[layer.tissue].reshape(-1, 1, 1, 1) - signal)
    return signal.reshape(*signal.shape[:3], len(z_mm), n_slabs).mean(axis=-1)


def _slow_waves(axes_mm, rng, n_waves=4):
    """Return a sum of plane waves of 120 to 300 mm, of unit variance: the coil's uneven field."""
    total = 0.0
    for _ in range(n_waves):
        direction = rng.normal(size=3)
        wave_vector = direction / np.linalg.norm(direction) * 2 * np.pi / rng.uniform(120, 300)
        phase = sum(np.ix_(*(k * a for k, a in zip(wave_vector, axes_mm, strict=True))))
        total = total + np.sqrt(2 / n_waves) * np.cos(phase + rng.uniform(0, 2 * np.pi))
    return total
