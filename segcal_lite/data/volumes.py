"""Volumes with a geometry that can be trusted, and boxes around their foreground.

NIfTI is read here, MetaImage, NRRD and pictures by `other_formats`; what is written is NIfTI.
Images are (X, Y, Z) or (C, X, Y, Z), labels (X, Y, Z); the affine maps voxel indices to mm.
"""

import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from .._checks import check_count, check_finite, check_right_angles, check_spacing, wrong_input
from ..runs.folders import written_aside
from . import other_formats

SIZE_TOLERANCE = 0.01  # relative: voxel sizes that differ by less are rounded, no contradiction
PLACE_TOLERANCE = 0.1  # of the smallest voxel side: corners this far apart are at one place
LABEL_SHIFT = 0.5  # voxels: a label shifted by less still marks the voxels that it was drawn on
UNREADABLE = (
    *(OSError, EOFError, zlib.error, ValueError),
    *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError),
)


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


def resolve_affine(affine, pixdim_mm, path):
    """Return the affine in force, its voxel sizes checked against the header's ``pixdim``.

    The norms of the affine's columns and `pixdim_mm` both state the voxel size. Where they differ
    by more than 1 %, one rule decides: three sizes of exactly 1 are what software leaves when it
    was told nothing, so the side with other sizes wins, with a warning. A unit sform beside a
    real ``pixdim`` (the official ACDC files) keeps directions and origin and takes the sizes of
    ``pixdim``; a unit ``pixdim`` is overruled by the affine. Two real sizes are an error: nobody
    can tell a stale ``pixdim`` from an sform that leads to a template of another scale, and the
    wrong guess would bend every distance in mm without a trace.

    Parameters
    ----------
    affine, pixdim_mm, path : array (4, 4), sequence of three float, str or Path
        The affine is the sform if its code is set, else the qform; the path is for messages.

    Returns
    -------
    ndarray (4, 4), float64

    Raises
    ------
    ValueError
        `pixdim_mm` not positive, a singular affine, or two contradictory real sizes.

    Examples
    --------
    >>> with warnings.catch_warnings(action="ignore"):
    ...     resolved = resolve_affine(np.diag([-1.0, -1, 1, 1]), (1.5, 1.5, 10), "heart.nii.gz")
    >>> resolved.diagonal().tolist()
    [-1.5, -1.5, 10.0, 1.0]
    """
    affine = np.array(affine, dtype=np.float64)
    pixdim_mm = np.asarray(pixdim_mm, dtype=np.float64)
    if not np.all(np.isfinite(pixdim_mm) & (pixdim_mm > 0)):
        raise wrong_input(path, f"pixdim {pixdim_mm.tolist()}", "positive voxel sizes in mm")
    sizes_mm = nib.affines.voxel_sizes(affine)
    regular = np.all(np.isfinite(affine)) and np.all(sizes_mm > 0)
    if not regular or abs(np.linalg.det(affine[:3, :3] / sizes_mm)) < 1e-3:
        raise wrong_input(path, f"singular affine {affine.tolist()}", "an invertible one")
    if _same_sizes(sizes_mm, pixdim_mm):
        return affine
    found = f"voxel sizes {sizes_mm.tolist()} in the affine and {pixdim_mm.tolist()} in pixdim"
    if np.allclose(sizes_mm, 1, rtol=0, atol=1e-5):
        affine[:3, :3] *= pixdim_mm / sizes_mm
        winner = "pixdim"
    elif np.all(pixdim_mm == 1):
        winner = "the affine"
    else:
        raise wrong_input(path, found, "sizes that agree within 1 %")
    warnings.warn(f"{path}: found {found}; those of {winner} are used.", stacklevel=3)
    return affine


def _same_sizes(sizes_mm, other_mm):
    """Whether voxel sizes agree but for rounding."""
    return np.allclose(sizes_mm, other_mm, rtol=SIZE_TOLERANCE, atol=0)


def _check_header(image, header, path):
    """Refuse types and units that are not real numbers in mm; warn if no orientation is set."""
    if not isinstance(image, nib.AnalyzeImage):  # NIfTI's older form, and the root of its classes
        raise wrong_input(path, type(image).__name__, "a NIfTI file")
    if image.get_data_dtype().kind not in "iuf":
        raise wrong_input(path, f"voxels of type {image.get_data_dtype()}", "real numbers")
    is_nifti = "sform_code" in header
    if is_nifti and header["xyzt_units"] & 7 not in (0, 2):
        raise wrong_input(path, "a length unit other than mm", "mm")
    if not is_nifti or (header["sform_code"] <= 0 and header["qform_code"] <= 0):
        axes = ", ".join(nib.aff2axcodes(image.affine))
        warnings.warn(f"{path}: no orientation is set; axes are taken as {axes}.", stacklevel=4)


def _check_qform(image, affine, path):
    """Warn if the qform has other directions or another origin than the sform in force."""
    header = image.header
    if "sform_code" not in header or header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return
    try:
        qform, sizes_mm = header.get_qform(), nib.affines.voxel_sizes(affine)
    except UNREADABLE:
        warnings.warn(f"{path}: the qform is no rotation; the sform is in force.", stacklevel=4)
        return
    qform[:3, :3] *= sizes_mm / nib.affines.voxel_sizes(qform)  # sizes: `resolve_affine`
    shifts_mm = np.linalg.norm(_corner_shifts(affine, qform, image.shape[:3])[0], axis=0)
    if shifts_mm.max() > PLACE_TOLERANCE * sizes_mm.min():
        apart = f"sform and qform place voxels up to {shifts_mm.max():.3g} mm apart"
        others = "the sform is in force, while other programs may take the qform"
        warnings.warn(f"{path}: {apart}; {others}.", stacklevel=4)


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
    data, affine = other_formats.read_other(path, spacing_mm) if is_other else _read_nifti(path)
    if data.size == 0:
        raise wrong_input(path, f"shape {data.shape}", "voxels")
    data = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
    volume = Volume(check_finite(path, data), affine, path)
    if spacing_mm is not None and not _same_sizes(volume.spacing_mm, spacing_mm):
        expected = f"{spacing_mm.tolist()}, which spacing_mm says"
        raise wrong_input(path, f"voxel sizes {list(volume.spacing_mm)}", expected)
    return volume


def _read_nifti(path):
    """Return voxels (X, Y, Z) or (C, X, Y, Z) and the affine in force."""
    try:
        image = nib.load(path, mmap=False)
        data = np.asarray(image.dataobj)
        files = image.file_map  # of .hdr and .img, or twice the same
        with nib.openers.ImageOpener(files.get("header", files["image"]).filename) as opener:
            # nibabel mends bad voxel sizes as it loads: only the unchecked header shows them.
            header = type(image.header).from_fileobj(opener, check=False)
            while opener.read(2**24):  # the checksum of a gzip file stands behind the last voxel
                pass
    except UNREADABLE as error:
        raise wrong_input(path, type(error).__name__, "a whole NIfTI file") from error
    _check_header(image, header, path)
    affine = resolve_affine(image.affine, header["pixdim"][1:4], path)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim not in (3, 4):
        raise wrong_input(path, f"shape {data.shape}", "three or four dimensions with voxels")
    _check_qform(image, affine, path)
    return np.moveaxis(data, 3, 0) if data.ndim == 4 else data, affine


def read_label(path, spacing_mm=None):
    """Read a label map: as `read_volume`, whole numbers from 0 on, uint8 if they fit, else int32.

    Floats that are whole numbers are accepted; fractions, negative values and a fourth dimension
    raise a ``ValueError``.
    """
    volume = read_volume(path, spacing_mm)
    if volume.data.ndim != 3:
        raise wrong_input(path, f"shape {volume.data.shape}", "labels of three dimensions")
    if np.any(volume.data != np.rint(volume.data)) or volume.data.min() < 0:
        raise wrong_input(path, "fractions or negative numbers", "labels 0, 1, 2, ...")
    dtype = np.uint8 if volume.data.max() <= 255 else np.int32
    return Volume(volume.data.astype(dtype), volume.affine, volume.path)


def doubt_lines(doubts, what="resolved"):
    """Return one line for each kind of warning, so that one that is frequent hides no other.

    `doubts` are messages of `read_volume` and `check_same_grid`, `what` says what headers were.

    Examples
    --------
    >>> for line in doubt_lines(["a.nii: 1 or 2 mm.", "b.nii: no axes.", "c.nii: 1 or 3 mm."]):
    ...     print(line)
    2 headers were resolved, the first: a.nii: 1 or 2 mm.
    1 headers were resolved, the first: b.nii: no axes.
    """
    kinds = {}
    for doubt in doubts:
        sentence = doubt.rpartition(": ")[2]
        kinds.setdefault(re.sub(r"[-+.\de]*\d[-+.\de]*", "#", sentence), []).append(doubt)
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


def _corner_shifts(affine_a, affine_b, shape):
    """Return how far corners of grid b lie from those of a, in mm and in voxels of a: (3, 8)."""
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    shifts_mm = (affine_b - affine_a)[:3] @ np.vstack([corners, np.ones(8)])
    return shifts_mm, np.linalg.solve(affine_a[:3, :3], shifts_mm)


def check_same_grid(volume_a, volume_b, largest_shift=0.0):
    """Raise a ``ValueError`` unless shapes agree and corners do within a tenth of a voxel.

    With `largest_shift`, in voxels, a second grid that is merely moved by less than that along
    each axis is taken to be the first, with a warning: the label of an image, by `LABEL_SHIFT`.
    """
    both = f"{volume_a.path} and {volume_b.path}"
    if volume_a.grid_shape != volume_b.grid_shape:
        raise wrong_input(both, f"{volume_a.grid_shape} and {volume_b.grid_shape}", "one shape")
    near_mm = PLACE_TOLERANCE * min(volume_a.spacing_mm)
    shifts_mm, shifts = _corner_shifts(volume_a.affine, volume_b.affine, volume_a.grid_shape)
    worst_mm = float(np.linalg.norm(shifts_mm, axis=0).max())
    if worst_mm <= near_mm:
        return
    turned_mm = np.linalg.norm(shifts_mm - shifts_mm.mean(axis=1, keepdims=True), axis=0).max()
    if turned_mm > near_mm or np.abs(shifts).max() >= largest_shift:
        expected = "the same positions: correct the wrong header, or resample the label"
        raise wrong_input(both, f"voxels up to {worst_mm:.3g} mm apart", expected)
    moved = f"moved against its image by {worst_mm:.3g} mm, less than half a voxel"
    warnings.warn(f"{volume_b.path}: {moved}; the image's place is in force.", stacklevel=2)


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
