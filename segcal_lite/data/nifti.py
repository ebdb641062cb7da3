"""NIfTI, and Analyze, its older form: voxels and their affine, from headers that may be wrong."""

import math
import warnings
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from .._checks import wrong_input
from ..runs import arrays
from ..runs.arrays import told_if_damaged

SIZE_TOLERANCE = 0.01  # relative: voxel sizes that differ by less are rounded, no contradiction
PLACE_TOLERANCE = 0.1  # of the smallest voxel side: corners this far apart are at one place
GZIP = b"\x1f\x8b"
PACKED_AT_MOST = {".gz": 1032, ".bz2": math.inf, ".zst": math.inf}  # deflate's limit, for zeros
LONGEST_TAIL = 2**26  # bytes behind the last voxel that are read for the sake of a checksum
UNREADABLE = (
    *arrays.UNREADABLE,
    *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError),
)
WHOLE = "a whole NIfTI file"


def read_nifti(path, start, spacing_mm=None):
    """Return voxels (X, Y, Z) or (C, X, Y, Z) and the affine in force.

    `start` are the first bytes of the file, `spacing_mm` the voxel size to take where a header
    that sets no orientation states 1 mm three times: nobody set a voxel size either.
    """
    with told_if_damaged(path, WHOLE, UNREADABLE):
        kind = _kind_of(path, start)
    with told_if_damaged(path, WHOLE, UNREADABLE), _log_of_nibabel() as mended:
        image = kind.from_filename(path, mmap=False)
    n_bytes = _check_size(path, image)
    with told_if_damaged(path, WHOLE, UNREADABLE):
        data = np.asarray(image.dataobj)
        files = image.file_map  # of .hdr and .img, or one
        with nib.openers.ImageOpener(files.get("header", files["image"]).filename) as opener:
            # nibabel mends bad voxel sizes as it loads: only the unchecked header shows them.
            header = kind.header_class.from_fileobj(opener, check=False)
        ends = _ends_within(n_bytes + LONGEST_TAIL, files["image"].filename)
    if not ends:
        found = f"over {LONGEST_TAIL} bytes behind the last voxel"
        raise wrong_input(path, found, "a file that ends with its voxels")
    _check_header(image, header, path)
    if _has_orientation(header):
        affine = resolve_affine(image.affine, header["pixdim"][1:4], path)
    else:
        affine = _affine_of_sizes(image.affine, header["pixdim"][1:4], path, spacing_mm)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim not in (3, 4):
        raise wrong_input(path, f"shape {data.shape}", "three or four dimensions with voxels")
    _check_qform(image, affine, path)
    for line in dict.fromkeys(mended):
        warnings.warn(f"{path}: {line}.", stacklevel=3)
    return np.moveaxis(data, 3, 0) if data.ndim == 4 else data, affine


@contextmanager
def _log_of_nibabel():
    """Keep what nibabel would print of a header that it mends, in a list: it names no file."""
    lines, logger = [], nib.imageglobals.logger

    def keep(record):
        lines.append(record.getMessage())

    logger.addFilter(keep)  # which returns nothing: no record passes
    try:
        yield lines
    finally:
        logger.removeFilter(keep)


def _kind_of(path, start):
    """Return nibabel's class for a file, by its name and first bytes; only NIfTI's family passes.

    nibabel knows many formats, whose readers raise all kinds of errors.
    """
    name, is_packed = path.name.lower(), start.startswith(GZIP)
    if name.endswith((".nii", ".nii.gz")) and is_packed != name.endswith(".gz"):
        found, ending = ("gzip", ".nii.gz") if is_packed else ("no gzip", ".nii")
        expected = f"{WHOLE}, which is called {ending} if it is {found}"
        raise wrong_input(path, f"{found} under this name", expected)
    sniff = None
    for kind in nib.imageclasses.all_image_classes:
        is_it, sniff = kind.path_maybe_image(str(path), sniff)
        if is_it and issubclass(kind, nib.AnalyzeImage):  # the root of NIfTI's classes
            return kind
        if is_it:
            raise wrong_input(path, kind.__name__, "a NIfTI file")
    raise wrong_input(path, "no header of NIfTI", WHOLE)


def _check_size(path, image):
    """Return how many bytes end with the last voxel; refuse more than a file can hold.

    Before memory is asked for: a header may promise anything.
    """
    least = image.header.single_vox_offset if isinstance(image, nib.Nifti1Image) else 0
    if image.dataobj.offset < least:  # the header itself would be read as voxels
        found = f"voxels from byte {image.dataobj.offset} on"
        raise wrong_input(path, found, f"{least} or more: behind the header")
    stored = Path(image.file_map["image"].filename)
    n_voxels = math.prod(map(int, image.shape))
    n_bytes = image.dataobj.offset + n_voxels * image.get_data_dtype().itemsize
    n_stored = stored.stat().st_size
    if n_bytes > n_stored * PACKED_AT_MOST.get(stored.suffix.lower(), 1):
        shape = " x ".join(map(str, image.shape))
        found = f"{n_stored} bytes for {shape} voxels of {image.get_data_dtype()}"
        raise wrong_input(path, found, WHOLE)
    return n_bytes


def _ends_within(n_bytes, name):
    """Read a file to its end, for the checksum of gzip, or until more than `n_bytes` have come."""
    with nib.openers.ImageOpener(name) as opener:
        while n_bytes >= 0 and (block := opener.read(2**24)):
            n_bytes -= len(block)
    return n_bytes >= 0


def _check_header(image, header, path):
    """Refuse what is no real number in mm."""
    if image.get_data_dtype().kind not in "iuf":
        raise wrong_input(path, f"voxels of type {image.get_data_dtype()}", "real numbers")
    if header["sizeof_hdr"] != header.sizeof_hdr:
        raise wrong_input(path, f"sizeof_hdr {header['sizeof_hdr']}", header.sizeof_hdr)
    if "scl_slope" in header and np.isinf(header["scl_slope"]):  # NaN, as 0, says: not scaled
        raise wrong_input(path, f"scl_slope {header['scl_slope']}", "a finite number")
    if "xyzt_units" in header and header["xyzt_units"] & 7 not in (0, 2):
        raise wrong_input(path, "a length unit other than mm", "mm")


def _has_orientation(header):
    """Whether a header says where axes lead; Analyze has no place for it."""
    return "sform_code" in header and (header["sform_code"] > 0 or header["qform_code"] > 0)


def _affine_of_sizes(affine, pixdim_mm, path, spacing_mm):
    """Return the affine of a file that sets no orientation; warn of that, and of sizes not set."""
    affine = resolve_affine(affine, pixdim_mm, path)
    doubt = f"no orientation is set; axes are taken as {', '.join(nib.aff2axcodes(affine))}."
    if np.all(nib.affines.voxel_sizes(affine) == 1):  # what software leaves that was told nothing
        if spacing_mm is not None:
            affine = np.diag([*spacing_mm, 1]) @ affine
        else:
            doubt = f"no voxel size is set; voxels are taken as 1 mm, and {doubt}"
    warnings.warn(f"{path}: {doubt}", stacklevel=4)
    return affine


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
    shifts_mm = np.linalg.norm(corner_shifts(affine, qform, image.shape[:3])[0], axis=0)
    if shifts_mm.max() > PLACE_TOLERANCE * sizes_mm.min():
        apart = f"sform and qform place voxels up to {shifts_mm.max():.3g} mm apart"
        others = "the sform is in force, while other programs may take the qform"
        warnings.warn(f"{path}: {apart}; {others}.", stacklevel=4)


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
    if same_sizes(sizes_mm, pixdim_mm):
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


def same_sizes(sizes_mm, other_mm):
    """Whether voxel sizes agree but for rounding."""
    return np.allclose(sizes_mm, other_mm, rtol=SIZE_TOLERANCE, atol=0)


def corner_shifts(affine_a, affine_b, shape):
    """Return how far corners of grid b lie from those of a, in mm and in voxels of a: (3, 8)."""
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    shifts_mm = (affine_b - affine_a)[:3] @ np.vstack([corners, np.ones(8)])
    return shifts_mm, np.linalg.solve(affine_a[:3, :3], shifts_mm)
