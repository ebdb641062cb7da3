"""From the native grid of a volume to the model's grid and back, every step recorded.

A prepared volume has its axes turned to right, anterior, superior with the slices along the last
one, intensities by the task's rule, its voxel size, and a centre crop in plane (paper A, section
IV.D). Interpolation is linear; samples lie around the centre of the field of view.
"""

from dataclasses import asdict, dataclass, replace

import nibabel as nib
import numpy as np
from scipy import ndimage

from .._checks import (
    check_choice,
    check_count,
    check_finite,
    check_labels_and_probs,
    check_right_angles,
    check_spacing,
    wrong_input,
)
from ..runs.folders import as_tuples

MOST_VOXELS = 2**31  # of a prepared grid; a millimetre too small by far would ask for more
SLICE_RATIO = 1.5  # an axis this much coarser than both others is the one slices were taken along
INTENSITY_RULES = ("percentiles", "hounsfield", "standard_deviation")
HOUNSFIELD_WINDOW = (-1000.0, 1000.0)  # paper B maps it to [0, 1]
SAME_SPACING = 1e-4  # relative; below this 256 voxels drift by less than 1/50 of a voxel


@dataclass(frozen=True)
class Preprocessing:
    """What was done to a volume: enough to undo it, or to do it to another of the same grid."""

    native_shape: tuple  # the grid on file
    native_affine: tuple  # its four rows
    axes: tuple  # native axis that became each prepared axis
    flips: tuple  # whether that axis was reversed
    turned_shape: tuple  # the native grid in the order of the prepared axes
    turned_spacing_mm: tuple
    resampled_shape: tuple  # after resampling, before the crop
    spacing_mm: tuple  # of the prepared grid
    crop_start: tuple  # first resampled voxel that is kept; negative: padding before it
    prepared_shape: tuple
    intensity_lower: tuple = ()  # intensity of each channel that becomes 0,
    intensity_upper: tuple = ()  # and 1; empty until `prepare_image` has seen the image
    intensity_clipped: bool = True  # whether what lies beyond becomes 0 or 1

    @property
    def step(self):
        """Turned voxels per prepared voxel, along each axis."""
        return np.divide(self.spacing_mm, self.turned_spacing_mm)

    def to_json(self):
        """Return the record as a dict of plain numbers, for `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, settings):
        """Return the record that `to_json` wrote, before or after a trip through a file."""
        if set(settings) != set(cls.__dataclass_fields__):
            raise wrong_input("settings", list(settings), list(cls.__dataclass_fields__))
        return cls(**{name: as_tuples(value) for name, value in settings.items()})


def plan_preprocessing(shape, affine, spacing_mm=None, crop_size=None, slice_axis=None):
    """Decide how a grid is turned, resampled and cropped: a `Preprocessing`.

    Axes go to the closest right, anterior, superior order, then the one along which slices were
    taken is moved last. An axis of one voxel is not resampled: one slice stays one.

    Parameters
    ----------
    shape, affine : tuple of three int, array (4, 4)
        The native grid (`volumes.Volume.grid_shape`, `.affine`).
    spacing_mm : tuple of three, float or None, optional
        Voxel size of the prepared axes; None keeps the native one.
    crop_size : tuple of two or three int, optional
        In-plane size, or that of the whole volume; larger grids are cropped, smaller padded. With
        two, no slice is dropped.
    slice_axis : {0, 1, 2}, optional
        Along which slices were taken: towards right, anterior or superior. By default that of
        `clear_slice_axis`; the volumes of one dataset share one (`grids.common_slice_axis`).

    Examples
    --------
    >>> record = plan_preprocessing((100, 90, 8), np.diag([1.5, 1.5, 9, 1]), (2, 2, None), (64, 80))
    >>> record.resampled_shape, record.crop_start, record.prepared_shape
    ((75, 68, 8), (5, -6, 0), (64, 80, 8))
    """
    sizes_mm = check_spacing(nib.affines.voxel_sizes(affine), 3)
    check_right_angles("affine", affine)
    expected = {"shape": (shape, (3,)), "spacing_mm": (spacing_mm, (3,))}
    expected["crop_size"] = (crop_size, (2, 3))
    for name, (value, lengths) in expected.items():
        if value is not None and len(value) not in lengths:
            raise wrong_input(name, value, f"{' or '.join(map(str, lengths))} entries")
    shape = np.array([check_count("shape", n) for n in shape])
    orientation = nib.io_orientation(affine)
    axes = np.argsort(orientation[:, 0])
    if slice_axis is None:  # one slice lies across its axis, whatever the voxel size there
        slice_axis = clear_slice_axis(np.where(shape[axes] == 1, np.inf, sizes_mm[axes]))
    check_choice("slice_axis", slice_axis, (0, 1, 2))
    axes = np.append(np.delete(axes, slice_axis), axes[slice_axis])
    turned_mm = sizes_mm[axes]
    asked_mm = turned_mm if spacing_mm is None else spacing_mm
    kept_mm = np.equal(asked_mm, None) | (shape[axes] == 1)
    asked_mm = check_spacing(np.where(kept_mm, turned_mm, asked_mm), 3)
    new_mm = np.where(np.abs(asked_mm / turned_mm - 1) < SAME_SPACING, turned_mm, asked_mm)
    resampled = np.maximum(1, np.rint(shape[axes] * turned_mm / new_mm))
    resampled = _check_grid(f"spacing_mm {new_mm.tolist()}", resampled).astype(int)
    kept = () if crop_size is None else tuple(crop_size)
    prepared = np.array([check_count("crop_size", n) for n in (*kept, *resampled[len(kept) :])])
    _check_grid(f"crop_size {crop_size}", prepared)
    return Preprocessing(
        native_shape=tuple(shape.tolist()),
        native_affine=as_tuples(np.asarray(affine, dtype=np.float64).tolist()),
        axes=tuple(axes.tolist()),
        flips=tuple((orientation[axes, 1] < 0).tolist()),
        turned_shape=tuple(shape[axes].tolist()),
        turned_spacing_mm=tuple(turned_mm.tolist()),
        resampled_shape=tuple(resampled.tolist()),
        spacing_mm=tuple(new_mm.tolist()),
        crop_start=tuple(((resampled - prepared) // 2).tolist()),
        prepared_shape=tuple(prepared.tolist()),
    )


def _check_grid(what, shape):
    """Return `shape` if an array of it may fit into memory."""
    if np.prod(shape, dtype=np.float64) > MOST_VOXELS:
        found = " x ".join(f"{n:.10g}" for n in shape)
        raise wrong_input(what, f"{found} voxels", f"at most {MOST_VOXELS}")
    return shape


def clear_slice_axis(sizes_mm):
    """Return the axis whose voxel side is at least 1.5 times both others, or 2 if none is.

    Examples
    --------
    >>> clear_slice_axis((0.5, 3.0, 0.5)), clear_slice_axis((1.0, 1.2, 1.0))
    (1, 2)
    """
    _, second, coarsest = np.argsort(sizes_mm, kind="stable")
    return int(coarsest) if sizes_mm[coarsest] >= SLICE_RATIO * sizes_mm[second] else 2


def prepared_affine(record):
    """Return the affine (4, 4) from voxel indices of the prepared grid to mm."""
    turn, sample = np.diag([0.0, 0, 0, 1]), np.diag([*record.step, 1])
    turn[record.axes, range(3)] = np.where(record.flips, -1, 1)
    turn[record.axes, 3] = np.where(record.flips, np.subtract(record.turned_shape, 1), 0)
    first = first_sample(record.turned_shape, record.resampled_shape, record.step)
    sample[:3, 3] = first + record.step * record.crop_start
    return np.array(record.native_affine) @ turn @ sample


def valid_box(record):
    """Return three slices: the part of the prepared grid that holds voxels, not padding."""
    grid = zip(record.crop_start, record.resampled_shape, record.prepared_shape, strict=True)
    return tuple(slice(max(0, -start), min(n, size - start)) for start, size, n in grid)


def prepare_image(image, record, percentiles=(0, 100), rule="percentiles"):
    """Bring an image (C, X, Y, Z) to the model's grid.

    Padding is 0. Where the new voxels are larger, a Gaussian of (step - 1) / 2 voxels first removes
    the detail that they would alias. A wrong shape, NaN, or percentiles that coincide in a channel
    that is not constant are a ``ValueError``.

    Parameters
    ----------
    image : array (C, X, Y, Z)
    record : Preprocessing
    percentiles : tuple of two float
        For the rule of that name.
    rule : {"percentiles", "hounsfield", "standard_deviation"}
        How each channel is scaled. ``"percentiles"``: those of the whole native volume become 0 and
        1 (by default min-max), and so does what lies beyond; a constant channel becomes 0 (paper A:
        intensities in [0, 1]). ``"hounsfield"``: -1000 and 1000 become 0 and 1, and so does what
        lies beyond (paper B, CT). ``"standard_deviation"``: divided by that of the volume, nothing
        clipped (paper B, MR); a constant channel becomes 0.

    Returns
    -------
    prepared : ndarray (C, *prepared_shape), float32
    record : Preprocessing
        With the intensity bounds. Those that `record` brings are used as they are instead of
        percentiles: a fixed window (CT), or a replay.
    """
    image = check_finite("image", np.asarray(image))
    if image.ndim != 4 or image.shape[1:] != record.native_shape:
        raise wrong_input("image", f"shape {image.shape}", f"(C, *{record.native_shape})")
    if not record.intensity_lower:
        check_choice("rule", rule, INTENSITY_RULES)
        lower, upper = _intensity_bounds(image, rule, percentiles)
        bounds = {"intensity_lower": lower, "intensity_upper": upper}
        record = replace(record, **bounds, intensity_clipped=rule != "standard_deviation")
    if not len(image) == len(record.intensity_lower) == len(record.intensity_upper):
        raise wrong_input("image", f"{len(image)} channels", f"{len(record.intensity_lower)}")
    sigma = np.maximum(0, record.step - 1) / 2
    prepared = np.zeros((len(image), *record.prepared_shape), dtype=np.float32)
    for c, channel in enumerate(image):
        lower, upper = record.intensity_lower[c], record.intensity_upper[c]
        width = (upper - lower) or np.inf
        scaled = (channel - lower) / width
        scaled = np.clip(scaled, 0, 1) if record.intensity_clipped else scaled
        turned = _turn(scaled.astype(np.float32), record)
        smooth = ndimage.gaussian_filter(turned, sigma, mode="nearest")
        prepared[c] = _to_grid(smooth, record, 0)
    return prepared, record


def prepare_label(labels, record):
    """Bring labels (X, Y, Z) to the model's grid, their type kept; padding is background."""
    return crop_label(resample_label(labels, record), record)


def crop_label(resampled, record):
    """Crop or pad what `resample_label` returned; padding is background."""
    return _crop_or_pad(resampled, record.crop_start, record.prepared_shape, 0)


def undo_crop(labels, record):
    """Put labels (..., X, Y, Z) of the crop, without padding, on the grid before it, 0 around."""
    start = np.minimum(0, np.negative(record.crop_start))
    return _crop_or_pad(labels, start, record.resampled_shape, 0)


def resample_label(labels, record):
    """Bring labels (X, Y, Z) to the model's voxels, their type kept, without the crop.

    The share of each class is interpolated and the largest wins, at a tie the lower label: where
    half of a voxel is `IGNORED`, nobody annotated it. Without resampling every voxel keeps its
    label.
    """
    labels, wanted = np.asarray(labels), f"integers of shape {record.native_shape}"
    if labels.shape != record.native_shape or labels.dtype.kind not in "iu":
        raise wrong_input("labels", f"{labels.dtype} of shape {labels.shape}", wanted)
    turned = _turn(labels, record)
    largest = np.zeros(record.resampled_shape, dtype=np.float32)
    resampled = np.zeros(record.resampled_shape, dtype=labels.dtype)
    for k in np.unique(labels):
        share = _resample((turned == k).astype(np.float32), record.step, record.resampled_shape)
        resampled[share > largest] = k
        largest = np.maximum(largest, share)
    return resampled


def prepare_probs(probs, record):
    """Bring probabilities (K, X, Y, Z) to the model's grid, float32; padding is background."""
    _, probs = check_labels_and_probs(np.zeros(record.native_shape, dtype=np.uint8), probs)
    turned = [_turn(p.astype(np.float32), record) for p in probs]
    return _normalise([_to_grid(p, record, float(k == 0)) for k, p in enumerate(turned)])


def restore_probs(probs, record):
    """Take probabilities (K, *prepared_shape) back to the native grid: (K, *native_shape), float32.

    Sums over classes are 1 before (else ``ValueError``) and after; outside the crop the background
    has probability 1.
    """
    _, probs = check_labels_and_probs(np.zeros(record.prepared_shape, dtype=np.uint8), probs)
    native, start = [], np.negative(record.crop_start)
    for k, p in enumerate(probs.astype(np.float32)):
        whole = _crop_or_pad(p, start, record.resampled_shape, float(k == 0))
        turned = _resample(whole, 1 / record.step, record.turned_shape)
        flipped = np.flip(turned, np.flatnonzero(record.flips))
        native.append(flipped.transpose(np.argsort(record.axes)))
    return _normalise(native)


def restore_labels(probs, record):
    """Return the native label map (X, Y, Z), uint8: the arg max of `restore_probs`."""
    return np.argmax(restore_probs(probs, record), axis=0).astype(np.uint8)


def _turn(array, record):
    """Turn a native array to the prepared order of axes."""
    return np.flip(array.transpose(record.axes), np.flatnonzero(record.flips))


def first_sample(old_shape, new_shape, step):
    """Return where, in old voxels, the first new voxel lies when both grids share a centre."""
    return (np.subtract(old_shape, 1) - step * np.subtract(new_shape, 1)) / 2


def _resample(array, step, shape):
    """Sample linearly every `step` voxels; beyond the field of view the edge goes on."""
    if np.all(step == 1):
        return array
    first = first_sample(array.shape, shape, step)
    return ndimage.affine_transform(array, step, first, shape, order=1, mode="nearest")


def _crop_or_pad(array, start, shape, fill):
    """Cut `shape` voxels of (..., X, Y, Z) out from `start` on; `fill` where the array has none."""
    out = np.full((*array.shape[:-3], *shape), fill, dtype=array.dtype)
    sides = zip(start, array.shape[-3:], shape, strict=True)
    spans = [(max(0, a), min(n, a + m)) for a, n, m in sides]
    target = (slice(lo - a, hi - a) for (lo, hi), a in zip(spans, start, strict=True))
    out[(..., *target)] = array[(..., *(slice(lo, hi) for lo, hi in spans))]
    return out


def _to_grid(turned, record, fill):
    """Resample and crop a turned array."""
    resampled = _resample(turned, record.step, record.resampled_shape)
    return _crop_or_pad(resampled, record.crop_start, record.prepared_shape, fill)


def _normalise(probs):
    """Stack classes so that they sum to 1, float32: interpolation rounds."""
    return np.stack(probs) / np.sum(probs, axis=0)


def _intensity_bounds(image, rule, percentiles):
    """Return the intensities of each channel that become 0 and 1."""
    if rule == "hounsfield":
        return tuple((bound,) * len(image) for bound in HOUNSFIELD_WINDOW)
    if rule == "standard_deviation":
        deviations = [float(np.std(channel, dtype=np.float64)) for channel in image]
        return (0.0,) * len(image), tuple(deviations)
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise wrong_input("percentiles", percentiles, "two rising numbers from 0 to 100")
    bounds = np.array([np.percentile(channel, percentiles) for channel in image])
    for c, (lower, upper) in enumerate(bounds):
        if lower == upper and image[c].min() < image[c].max():
            raise wrong_input("percentiles", f"both at {lower:g} in channel {c}", "two intensities")
    return as_tuples(bounds.T.tolist())
