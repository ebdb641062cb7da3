"""Pictures of phantoms: tissues mixed within thick voxels, texture, bias field, noise.

One recipe serves all scanners; they differ in the numbers of a `looks.Look`.
"""

import numpy as np
from scipy import ndimage

from .annotators import smooth_field

GRAIN_MM = 2.5  # correlation length of the texture
COIL_REACH_MM = 14.0  # the near-field gain of an endorectal coil falls by e over this
SUB_SLICE_MM = 3.0  # a slice is averaged over slabs at most this thick


def take_picture(look, layers, axes_mm, spacing_mm, shift_strength, rng):
    """Show layers as the scanner does.

    The random numbers are the same for every look, so that a picture changes smoothly with it.

    Parameters
    ----------
    look : Look
    layers : sequence of Layer
        In the order of painting.
    axes_mm : sequence of three arrays
        Coordinates of the voxel centres along x, y, z.
    spacing_mm : sequence of three float
        Voxel size; slices are as thick as they are far apart.
    shift_strength : float
        Of layers whose shape differs in the shifted domain: 0 is the source domain, 1 the shifted.
    rng : numpy.random.Generator
        Of bias field, texture and noise.

    Returns
    -------
    ndarray of float32, (C, X, Y, Z)
        In the units of the tissues; magnitudes are not negative.

    Examples
    --------
    >>> from data_scripts.phantoms.looks import SOURCE
    >>> from data_scripts.phantoms.shapes import Layer, StarShape
    >>> disc = Layer("LV blood", StarShape((0.0, 0.0, 0.0), (6.0, 6.0)))
    >>> axes_mm = np.arange(-9.0, 10, 2), np.arange(-9.0, 10, 2), np.zeros(1)
    >>> rng = np.random.default_rng(0)
    >>> image = take_picture(SOURCE["heart"], [disc], axes_mm, (2, 2, 8), 0.0, rng)
    >>> image.shape, bool(image[0, 5, 5, 0] > image[0, 0, 0, 0])
    ((1, 10, 10, 1), True)
    """
    signal = _paint(layers, look, axes_mm, spacing_mm, shift_strength)
    gain = np.exp(look.bias * _slow_waves(axes_mm, rng))
    for coil in [layer.shifted for layer in layers if layer.shifted][-1:]:
        outside_mm = np.maximum(-coil.signed_distance(*np.ix_(*axes_mm)), 0)
        gain *= 1 + look.near_field * np.exp(-outside_mm / COIL_REACH_MM)
    blur = [look.blur_mm / size_mm for size_mm in spacing_mm[:2]] + [0]
    for channel in signal:
        grain = 1 + look.texture * smooth_field(channel.shape, spacing_mm, GRAIN_MM, rng)
        channel[:] = look.air + (channel - look.air) * grain
        channel[:] = ndimage.gaussian_filter(channel * gain, blur)
    first, second = look.noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    if not look.is_magnitude:
        return (signal + first).astype(np.float32)
    return np.hypot(signal + first, second).astype(np.float32)  # Rician: magnitude of complex


def _paint(layers, look, axes_mm, spacing_mm, strength):
    """Mix the tissues (C, X, Y, Z): soft edges a voxel wide, slices averaged over thin slabs."""
    x_mm, y_mm, z_mm = axes_mm
    n_slabs = int(np.ceil(spacing_mm[2] / SUB_SLICE_MM))
    slabs_mm = spacing_mm[2] * ((np.arange(n_slabs) + 0.5) / n_slabs - 0.5)
    n_channels = len(next(iter(look.tissues.values())))
    signal = np.empty((n_channels, len(x_mm), len(y_mm), len(z_mm)))
    for index, middle_mm in enumerate(z_mm):  # slice by slice: what fits a processor's cache
        points_mm = x_mm[:, None], y_mm, (middle_mm + slabs_mm)[:, None, None]
        mixture = np.full((n_channels, n_slabs, len(x_mm), len(y_mm)), look.air)
        for layer in layers:
            if not layer.shape.near(middle_mm, spacing_mm[2]):
                continue
            distance_mm = layer.shape.signed_distance(*points_mm)
            if layer.shifted:
                moved_mm = layer.shifted.signed_distance(*points_mm)
                distance_mm = (1 - strength) * distance_mm + strength * moved_mm
            share = np.clip(distance_mm / spacing_mm[0] + 0.5, 0, 1)
            mixture += share * (np.reshape(look.tissues[layer.tissue], (-1, 1, 1, 1)) - mixture)
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
