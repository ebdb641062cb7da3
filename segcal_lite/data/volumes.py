"""Volumes with a geometry that can be trusted, and boxes around their foreground.

NIfTI is read by `nifti`, MetaImage, NRRD and pictures by `other_formats`; what is written is NIfTI.
Images are (X, Y, Z) or (C, X, Y, Z), labels (X, Y, Z); the affine maps voxel indices to mm.
"""

import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from .._checks import (
    check_count,
    check_finite,
    check_right_angles,
    check_spacing,
    told_if_unreadable,
    wrong_input,
)
from ..runs.folders import written_aside
from . import other_formats
from .nifti import (
    PLACE_TOLERANCE,
    WHOLE,
    corner_shifts,
    read_nifti,
    resolve_affine,
    same_sizes,
)

__all__ = [
    "Volume",
    "check_same_grid",
    "doubt_lines",
    "doubts_noted",
    "foreground_box",
    "read_label",
    "read_volume",
    "resolve_affine",
    "without_numbers",
    "write_volume",
]

LABEL_ROUNDING = 1e-5  # relative: labels stored as scaled numbers come back as 0.9999999998
LARGEST_LABEL = 2**16 - 1  # what 16 bits hold
POINTERS = {b"version https://git-lfs": "git lfs pull", b"/annex/objects/": "git annex get"}
LABEL_SHIFT = 0.5  # voxels: a label shifted by less still marks the voxels that it was drawn on


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their place in the scanner.

    `data` is (X, Y, Z), or (C, X, Y, Z) for a file of four dimensions; `affine` (4, 4), float64,
    leads from voxel indices to mm, conflicts in the header resolved (`resolve_affine`). Axes that
    are not at right angles are a ``ValueError``.
    """

    data: np.ndarray
    affine: np.ndarray
    path: Path

    def __post_init__(self):
        check_right_angles(self.path, self.affine)

    @property
    def spacing_mm(self):
        """Voxel size along X, Y, Z."""
        return tuple(nib.affines.voxel_sizes(self.affine).tolist())

    @property
    def grid_shape(self):
        """Number of voxels along X, Y, Z."""
        return self.data.shape[-3:]


def read_volume(path, spacing_mm=None):
    """Read one file whole.

    Parameters
    ----------
    path : str or Path
        NIfTI (or Analyze, its older form), or what `other_formats.ENDINGS` lists. Of three or four
        dimensions: trailing axes of length 1 are dropped, and the fourth dimension, or the colours
        of a picture, become the leading channel axis. A picture of one page is one slice.
    spacing_mm : sequence of three float, optional
        Voxel size along X, Y, Z where the file states none; one that it states must agree.

    Returns
    -------
    Volume
        `data` in the stored type (float64 if the header scales it), in native byte order.

    Raises
    ------
    ValueError
        Naming the file: missing, truncated, of another format, complex, empty, not of three or
        four dimensions, not in mm, NaN or infinite voxels, axes that are not at right angles, no
        voxel size, or as `resolve_affine` and `other_formats.read_other`.

    Warns
    -----
    UserWarning
        In one sentence a file, what its header leaves open or contradicts, and what is taken.
    """
    path = Path(path)
    if spacing_mm is not None:
        spacing_mm = check_spacing(spacing_mm, 3)
    is_other = path.suffix.lower() in other_formats.ENDINGS
    start = _first_bytes(path, "a whole volume" if is_other else WHOLE)
    try:
        if is_other:
            data, affine = other_formats.read_other(path, spacing_mm)
        else:
            data, affine = read_nifti(path, start, spacing_mm)
        if data.size == 0:
            raise wrong_input(path, f"shape {data.shape}", "voxels")
        data = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
        volume = Volume(check_finite(path, data), affine, path)
    except MemoryError as error:
        raise wrong_input(path, "too little memory for its voxels", "more, or less") from error
    if spacing_mm is not None and not same_sizes(volume.spacing_mm, spacing_mm):
        expected = f"{spacing_mm.tolist()}, which spacing_mm says"
        raise wrong_input(path, f"voxel sizes {list(volume.spacing_mm)}", expected)
    return volume


def _first_bytes(path, expected):
    """Return how a file begins; one that is not there, empty, or merely points elsewhere, is told.

    A checkout without the large files of Git LFS or git-annex leaves a line of text in their place.
    """
    with told_if_unreadable(path), path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise wrong_input(path, "an empty file", expected)
    for pointer, command in POINTERS.items():
        if start.startswith(pointer):
            raise wrong_input(path, "a pointer to a file", f"the file itself: {command}")
    return start


def read_label(path, spacing_mm=None):
    """Read a label map: as `read_volume`, whole numbers from 0 on, uint8 if they fit, else int32.

    Floats are rounded where they are whole numbers but for `LABEL_ROUNDING`, as scaling leaves
    them; fractions, negative values, values above `LARGEST_LABEL` and a fourth dimension raise a
    ``ValueError``.
    """
    return as_label(read_volume(path, spacing_mm))


def as_label(volume):
    """Return a volume that was read as what `read_label` makes of it."""
    path = volume.path
    if volume.data.ndim != 3:
        raise wrong_input(path, f"shape {volume.data.shape}", "labels of three dimensions")
    is_float = volume.data.dtype.kind == "f"
    whole = np.rint(volume.data) if is_float else volume.data
    wrong = whole < 0
    if is_float:
        wrong |= fractions(volume.data)
    if wrong.any():
        found = f"fractions or negative numbers such as {volume.data[wrong][0]:.10g}"
        raise wrong_input(path, found, "labels 0, 1, 2, ...")
    if whole.max() > LARGEST_LABEL:
        raise wrong_input(path, f"the value {whole.max():.10g}", f"labels up to {LARGEST_LABEL}")
    dtype = np.uint8 if whole.max() <= 255 else np.int32
    return Volume(whole.astype(dtype), volume.affine, volume.path)


def fractions(values):
    """Return where floats are no whole numbers, by more than `LABEL_ROUNDING`."""
    whole = np.rint(values)
    return np.abs(values - whole) > LABEL_ROUNDING * np.maximum(whole, 1)


@contextmanager
def doubts_noted(notes, what):
    """Add warnings about headers to a list of notes, with a word for the file in place of its name.

    Examples
    --------
    >>> notes = []
    >>> with doubts_noted(notes, "label"):
    ...     warnings.warn("/data/a.nii: no orientation is set.")
    >>> notes
    ['header of the label: no orientation is set.']
    """
    with warnings.catch_warnings(record=True, action="always") as doubts:
        yield
    sentences = dict.fromkeys(str(doubt.message).rpartition(": ")[2] for doubt in doubts)
    notes += [f"header of the {what}: {sentence}" for sentence in sentences]


def without_numbers(sentence):
    """Return a sentence with # for each number: what two have in common that are of one kind."""
    return re.sub(r"[-+.\de]*\d[-+.\de]*", "#", sentence)


def doubt_lines(doubts, what="resolved"):
    """Return one line for each kind of warning, so that one that is frequent hides no other."""
    kinds = {}
    for doubt in doubts:
        kinds.setdefault(without_numbers(doubt.rpartition(": ")[2]), []).append(doubt)
    return [f"{len(same)} headers were {what}, the first: {same[0]}" for same in kinds.values()]


def write_volume(path, data, affine):
    """Write a NIfTI file in one step: readers see the old file or the new one, never a part.

    Parameters
    ----------
    path : str or Path
        Ends in ``.nii.gz`` or ``.nii`` (else ``ValueError``); its folder exists.
    data : array (X, Y, Z), or (K, X, Y, Z) stored with the channel last
        float32 or integers, kept as they are; other types are a ``ValueError``.
    affine : array (4, 4)
        Goes to sform and qform, its voxel sizes to ``pixdim``.
    """
    path, data = Path(path), np.asarray(data)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise wrong_input("path", path, "a name that ends in .nii.gz or .nii")
    if data.dtype != np.float32 and data.dtype.kind not in "iu":
        raise wrong_input("data", f"dtype {data.dtype}", "float32 or integers")
    if data.ndim not in (3, 4):
        raise wrong_input("data", f"shape {data.shape}", "(X, Y, Z) or (K, X, Y, Z)")
    data = np.moveaxis(data, 0, 3) if data.ndim == 4 else data
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with written_aside(path) as partial:
        nib.save(image, partial)


def check_same_grid(volume_a, volume_b, largest_shift=0.0, kinds=("image", "label")):
    """Raise a ``ValueError`` unless shapes agree and corners do within a tenth of a voxel.

    With `largest_shift`, in voxels, a second grid that is merely moved by less than that along
    each axis is taken to be the first, with a warning: the label of an image, by `LABEL_SHIFT`.
    `kinds` says in words what both are.
    """
    both = f"{volume_a.path} and {volume_b.path}"
    if volume_a.grid_shape != volume_b.grid_shape:
        raise wrong_input(both, f"{volume_a.grid_shape} and {volume_b.grid_shape}", "one shape")
    near_mm = PLACE_TOLERANCE * min(volume_a.spacing_mm)
    shifts_mm, shifts = corner_shifts(volume_a.affine, volume_b.affine, volume_a.grid_shape)
    worst_mm = float(np.linalg.norm(shifts_mm, axis=0).max())
    if worst_mm <= near_mm:
        return
    turned_mm = np.linalg.norm(shifts_mm - shifts_mm.mean(axis=1, keepdims=True), axis=0).max()
    if turned_mm > near_mm or np.abs(shifts).max() >= largest_shift:
        expected = f"the same positions: correct the wrong header, or resample the {kinds[1]}"
        raise wrong_input(both, f"voxels up to {worst_mm:.3g} mm apart", expected)
    moved = f"moved against its {kinds[0]} by {worst_mm:.3g} mm, less than half a voxel"
    warnings.warn(f"{volume_b.path}: {moved}; the {kinds[0]}'s place is in force.", stacklevel=2)


def foreground_box(labels, spacing_mm, dilation_mm=8.0, dilation_slices=2, within=None):
    """Box around the union of true foreground, dilated (paper A, section VI.D).

    Parameters
    ----------
    labels : array (X, Y, Z)
        Foreground above 0; slices along the last axis.
    spacing_mm : sequence of three float
        Voxel size.
    dilation_mm, dilation_slices : float, int
        Reach in plane, rounded up to whole voxels, and out of plane.
    within : tuple of three slice, optional
        Real voxels (`preprocessing.valid_box`); the box is clipped to them, else to the array.

    Returns
    -------
    tuple of three slice

    Raises
    ------
    ValueError
        No foreground inside `within`, so no box.

    Examples
    --------
    >>> labels = np.zeros((9, 9, 9), dtype=int)
    >>> labels[4, 4, 4] = 1
    >>> foreground_box(labels, (4.0, 3.0, 10.0))
    (slice(2, 7, None), slice(1, 8, None), slice(2, 7, None))
    """
    labels, spacing_mm = np.asarray(labels), check_spacing(spacing_mm, 3)
    if labels.ndim != 3:
        raise wrong_input("labels", f"shape {labels.shape}", "(X, Y, Z)")
    if not 0 <= dilation_mm < np.inf:
        raise wrong_input("dilation_mm", dilation_mm, "a length of at least 0")
    check_count("dilation_slices", dilation_slices, minimum=0)
    within = within or tuple(slice(0, n) for n in labels.shape)
    foreground = labels[within] > 0
    if not foreground.any():
        raise wrong_input("labels", "no foreground", "at least one foreground voxel for a box")
    # A spacing stored as 0.799999 must not turn 8 mm into an eleventh voxel.
    reach = [int(np.ceil(dilation_mm / size_mm - 1e-3)) for size_mm in spacing_mm[:2]]
    box = []
    for indices, n, whole in zip(
        foreground.nonzero(), [*reach, dilation_slices], within, strict=True
    ):
        start, stop = whole.start + indices.min() - n, whole.start + indices.max() + 1 + n
        box.append(slice(int(max(start, whole.start)), int(min(stop, whole.stop))))
    return tuple(box)
