"""Pictures of phantoms: tissues mixed within thick voxels, texture, bias field, Rician noise.

One recipe serves both domains. They differ in the numbers of a `Look`: in the shifted domain the
heart and the brain have another contrast, more noise and blur and a stronger bias field; the
prostate has an endorectal coil, bright nearby, whose dark balloon fills the rectum.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from .annotators import smooth_field

GRAIN_MM = 2.5  # correlation length of the texture
COIL_REACH_MM = 14.0  # the near-field gain of an endorectal coil falls by e over this
SUB_SLICE_MM = 3.0  # a slice is averaged over slabs at most this thick


@dataclass(frozen=True)
class Look:
    """How a task's pictures look in one domain.

    Attributes
    ----------
    tissues : dict
        Intensity of each tissue in each channel, about 1 at most; what is not painted has none.
    noise : float
        Standard deviation of the real and of the imaginary part, in the units of the tissues.
    bias, texture : float
        Standard deviation of the logarithm of the slow gain; relative one of the grain.
    blur_mm : float
        Standard deviation of a Gaussian blur in plane, before the noise.
    near_field : float
        Extra gain at the surface of an endorectal coil.
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
PROSTATE = "peripheral,transition,nodule,capsule,stroma,vein,fat,muscle,bone,rectum,bladder"
SOURCE = {
    "heart": Look(
        _tissues(HEART, (0.74, 0.78, 0.36, 0.48, 0.70, 0.28, 0.08, 0.40, 0.75)),
        noise=0.05,
        bias=0.2,
        texture=0.10,
    ),
    "brain": Look(
        _tissues(
            BRAIN,
            (0.80, 0.10, 0.18, 0.42, 0.52, 0.47, 0.90, 0.40, 0.72, 0.28),
            (0.55, 0.10, 0.92, 0.58, 0.44, 0.58, 0.20, 0.68, 0.58, 0.76),
            (0.50, 0.10, 0.14, 0.55, 0.46, 0.68, 0.30, 0.74, 0.66, 0.52),
        ),
        noise=0.05,
        bias=0.15,
        texture=0.06,
    ),
    "prostate": Look(
        _tissues(PROSTATE, (0.62, 0.42, 0.30, 0.36, 0.22, 0.68, 0.50, 0.20, 0.30, 0.34, 0.90)),
        noise=0.05,
        bias=0.2,
        texture=0.12,
    ),
}
SHIFTED = {
    "heart": Look(
        _tissues(HEART, (0.38, 0.36, 0.48, 0.44, 0.90, 0.45, 0.10, 0.62, 0.34)),
        noise=0.09,
        bias=0.4,
        texture=0.10,
        blur_mm=1.2,
    ),
    "brain": Look(
        _tissues(
            BRAIN,
            (0.90, 0.10, 0.25, 0.60, 0.50, 0.56, 0.80, 0.60, 0.68, 0.40),
            (0.70, 0.10, 0.75, 0.66, 0.52, 0.62, 0.30, 0.60, 0.54, 0.68),
            (0.70, 0.10, 0.24, 0.48, 0.56, 0.66, 0.40, 0.68, 0.62, 0.42),
        ),
        noise=0.08,
        bias=0.3,
        texture=0.06,
        blur_mm=0.8,
    ),
    "prostate": Look(
        _tissues(PROSTATE, (0.62, 0.42, 0.30, 0.36, 0.22, 0.68, 0.50, 0.20, 0.30, 0.02, 0.90)),
        noise=0.09,
        bias=0.4,
        texture=0.12,
        near_field=5.0,
    ),
}


def take_picture(task_name, layers, axes_mm, spacing_mm, shift_strength, rng):
    """Show layers as the scanner does.

    The random numbers are the same at every strength, so that a picture changes smoothly with it.

    Parameters
    ----------
    task_name : {"brain", "heart", "prostate"}
        Whose looks are interpolated.
    layers : sequence of Layer
        In the order of painting.
    axes_mm : sequence of three arrays
        Coordinates of the voxel centres along x, y, z.
    spacing_mm : sequence of three float
        Voxel size; slices are as thick as they are far apart.
    shift_strength : float
        0 is the source domain, 1 the shifted one.
    rng : numpy.random.Generator
        Of bias field, texture and noise.

    Returns
    -------
    ndarray of float32, (C, X, Y, Z)
        Magnitudes, not negative, in units of about the brightest tissue.

    Examples
    --------
    >>> from segcal_lite.shapes import Layer, StarShape
    >>> disc = Layer("LV blood", StarShape((0.0, 0.0, 0.0), (6.0, 6.0)))
    >>> axes_mm = np.arange(-9.0, 10, 2), np.arange(-9.0, 10, 2), np.zeros(1)
    >>> rng = np.random.default_rng(0)
    >>> image = take_picture("heart", [disc], axes_mm, (2, 2, 8), 0.0, rng)
    >>> image.shape, bool(image[0, 5, 5, 0] > image[0, 0, 0, 0])
    ((1, 10, 10, 1), True)
    """
    look = _mixed_look(SOURCE[task_name], SHIFTED[task_name], shift_strength)
    signal = _paint(layers, look.tissues, axes_mm, spacing_mm, shift_strength)
    gain = np.exp(look.bias * _slow_waves(axes_mm, rng))
    for coil in [layer.shifted for layer in layers if layer.shifted][-1:]:
        outside_mm = np.maximum(-coil.signed_distance(*np.ix_(*axes_mm)), 0)
        gain *= 1 + look.near_field * np.exp(-outside_mm / COIL_REACH_MM)
    blur = [look.blur_mm / size_mm for size_mm in spacing_mm[:2]] + [0]
    for channel in signal:
        channel *= 1 + look.texture * smooth_field(channel.shape, spacing_mm, GRAIN_MM, rng)
        channel[:] = ndimage.gaussian_filter(channel * gain, blur)
    first, second = look.noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return np.hypot(signal + first, second).astype(np.float32)  # Rician: magnitude of complex


def _mixed_look(source, shifted, strength):
    """Interpolate every number of two looks: exactly `source` at 0, exactly `shifted` at 1."""

    def mixed(a, b):
        return (1 - strength) * np.asarray(a) + strength * np.asarray(b)

    tissues = {name: mixed(source.tissues[name], shifted.tissues[name]) for name in source.tissues}
    names = [field.name for field in fields(Look) if field.name != "tissues"]
    return Look(tissues, *(mixed(getattr(source, name), getattr(shifted, name)) for name in names))


def _paint(layers, means, axes_mm, spacing_mm, strength):
    """Mix the tissues (C, X, Y, Z): soft edges a voxel wide, slices averaged over thin slabs."""
    x_mm, y_mm, z_mm = axes_mm
    n_slabs = int(np.ceil(spacing_mm[2] / SUB_SLICE_MM))
    slabs_mm = spacing_mm[2] * ((np.arange(n_slabs) + 0.5) / n_slabs - 0.5)
    n_channels = len(next(iter(means.values())))
    signal = np.empty((n_channels, len(x_mm), len(y_mm), len(z_mm)))
    for index, middle_mm in enumerate(z_mm):  # slice by slice: what fits a processor's cache
        points_mm = x_mm[:, None], y_mm, (middle_mm + slabs_mm)[:, None, None]
        mixture = np.zeros((n_channels, n_slabs, len(x_mm), len(y_mm)))
        for layer in layers:
            if not layer.shape.near(middle_mm, spacing_mm[2]):
                continue
            distance_mm = layer.shape.signed_distance(*points_mm)
            if layer.shifted:
                moved_mm = layer.shifted.signed_distance(*points_mm)
                distance_mm = (1 - strength) * distance_mm + strength * moved_mm
            share = np.clip(distance_mm / spacing_mm[0] + 0.5, 0, 1)
            mixture += share * (means[layer.tissue].reshape(-1, 1, 1, 1) - mixture)
        signal[..., index] = mixture.mean(axis=1)
    return signal


def _slow_waves(axes_mm, rng, n_waves=4):
    """Return a sum of plane waves of 120 to 300 mm, of unit variance: the coil's uneven field."""
    total = 0.0
    for _ in range(n_waves):
        direction = rng.normal(size=3)
        wave_vector = direction / np.linalg.norm(direction) * 2 * np.pi / rng.uniform(120, 300)
        phase = sum(np.ix_(*(k * a for k, a in zip(wave_vector, axes_mm, strict=True))))
        total = total + np.sqrt(2 / n_waves) * np.cos(phase + rng.uniform(0, 2 * np.pi))
    return total
