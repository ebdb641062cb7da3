"""What the datasets come in beyond single volumes: DICOM series and masks of slices.

They are read by SimpleITK, whose axes (left, posterior, superior) become NIfTI's (right, anterior,
superior). Single volumes of any format are read by the package.
"""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from segcal_lite._checks import wrong_input
from segcal_lite.data.formats.pictures import check_all_bits
from segcal_lite.data.other_formats import LPS_TO_RAS, dtype_of, simpleitk
from segcal_lite.data.volumes import Volume, read_label, read_volume

EQUAL_GAPS = 0.01  # relative: slices may be this unevenly spaced and still be one grid
PIXEL_SPACING, ORIENTATION = "0028|0030", "0020|0037"  # DICOM's tags


def read_case(case):
    """Read a case: one volume or series a channel, one volume of labels.

    Parameters
    ----------
    case : cases.SourceCase

    Returns
    -------
    images : list of Volume
        One a channel, or one of all channels, (C, X, Y, Z).
    label : Volume
        Values as stored.
    """
    images = [
        read_series(entry) if isinstance(entry, tuple) else read_volume(entry, case.spacing_mm)
        for entry in case.images
    ]
    if case.channels:
        images = [_channels(volume, case.channels) for volume in images]
    return images, read_label(case.labels[0], case.spacing_mm)


def _channels(volume, numbers):
    """Return some channels of a volume that has several."""
    n_channels = len(volume.data) if volume.data.ndim == 4 else 1
    if max(numbers) >= n_channels:
        raise wrong_input(volume.path, f"{n_channels} channels", f"channel {max(numbers)} as well")
    data = volume.data[list(numbers)] if volume.data.ndim == 4 else volume.data
    return Volume(data, volume.affine, volume.path)


def turned_like(volume, other):
    """Return `volume` with its axes in the order and directions of another, nothing resampled.

    DICOM and what was made from it by other software differ by turned axes only.
    """
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.io_orientation(other.affine)
    )
    channels = volume.data.reshape(-1, *volume.grid_shape)
    turned = np.stack([nib.apply_orientation(channel, turn) for channel in channels])
    data = turned if volume.data.ndim == 4 else turned[0]
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.grid_shape)
    return Volume(data, affine, volume.path)


def read_series(paths):
    """Read the DICOM slices of one series, in the order of their positions.

    Parameters
    ----------
    paths : sequence of Path
        In any order.

    Returns
    -------
    Volume
        Intensities after the rescale of each slice's header (Hounsfield units in CT), whole numbers
        unless a slice has fractions; its last axis runs as the cross product of the rows and
        columns.

    Raises
    ------
    ValueError
        Naming the folder or file: unreadable, no voxel size, slices of different orientation, size
        or spacing, two at one place, one that is missing in between, a tilted gantry.

    Warns
    -----
    UserWarning
        No orientation is set.
    """
    slices = sorted((read_slice_place(path) for path in paths), key=lambda place: place["height"])
    folder = Path(paths[0]).parent if paths else "DICOM series"
    if len(slices) < 2:
        raise wrong_input(folder, f"{len(slices)} slices", "at least 2")
    _check_one_grid(folder, slices)
    if not all(place["oriented"] for place in slices):
        warnings.warn(f"{folder}: no orientation is set; axes are taken as L, P, S.", stacklevel=2)
    try:
        array = _read_slices(slices)
    except RuntimeError as error:
        raise wrong_input(folder, "a damaged slice", "a whole DICOM series") from error
    affine = np.eye(4)
    affine[:3, :2] = slices[0]["directions"][:, :2] * slices[0]["spacing_mm"]
    affine[:3, 2] = (slices[-1]["origin"] - slices[0]["origin"]) / (len(slices) - 1)
    affine[:3, 3] = slices[0]["origin"]
    return Volume(array, LPS_TO_RAS @ affine, folder)


def _read_slices(slices):
    """Return the voxels (X, Y, Z) of slices in order, in a type that holds those of each slice.

    SimpleITK finds for each slice the smallest type for its rescale, and would read all slices in
    that of the first: a slice below 0 wraps around in numbers without a sign, fractions are cut.
    """
    sitk = simpleitk()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(place["path"]) for place in slices])
    dtypes = [place["dtype"] for place in slices]
    if len(set(dtypes)) > 1:
        voxel = np.zeros((1, 1), np.result_type(*dtypes))
        reader.SetOutputPixelType(sitk.GetImageFromArray(voxel).GetPixelID())
    array = np.ascontiguousarray(sitk.GetArrayFromImage(reader.Execute()).T)
    if array.dtype == dtypes[0]:
        return array
    with np.errstate(invalid="ignore"):  # numbers that the first slice's type does not hold
        as_first = array.astype(dtypes[0])
    return as_first if np.array_equal(as_first, array) else array


def read_slice_place(path):
    """Return where one DICOM slice lies: path, origin, directions, spacing_mm, size, height.

    ``height`` is the origin's distance from the scanner's centre along the normal, in mm;
    ``oriented`` says whether the header states directions, ``dtype`` what holds its intensities.
    A slice that states no voxel size is a ``ValueError``.
    """
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise wrong_input(path, "no readable DICOM header", "one DICOM slice") from error
    _check_spacing(path, reader)
    directions = np.reshape(reader.GetDirection(), (3, 3))
    origin = np.array(reader.GetOrigin())
    return {
        "path": Path(path),
        "origin": origin,
        "directions": directions,
        "spacing_mm": np.array(reader.GetSpacing()[:2]),
        "size": reader.GetSize()[:2],
        "height": float(origin @ directions[:, 2]),
        "oriented": bool(_stated(reader, ORIENTATION)),
        "dtype": dtype_of(reader),
    }


def _check_spacing(path, reader):
    """Refuse a slice without voxel sizes, for which SimpleITK takes 1 mm.

    Some kinds of pictures state them under another tag, where SimpleITK finds them.
    """
    stated = _stated(reader, PIXEL_SPACING)
    try:
        numbers = [float(number) for number in stated.split("\\")] if stated else []
    except ValueError:
        numbers = []
    is_said = len(numbers) == 2 and all(0 < number < np.inf for number in numbers)
    if not is_said and (stated or reader.GetSpacing()[:2] == (1, 1)):
        found = f"PixelSpacing {stated}" if stated else "no PixelSpacing"
        raise wrong_input(path, found, "voxel sizes in mm")


def _stated(reader, tag):
    """Return what a header says under a tag, or an empty text."""
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _check_one_grid(folder, slices):
    """Raise unless the slices are parallel, of one size and evenly spaced."""
    first = slices[0]
    for place in slices[1:]:
        for name, tolerance in (("directions", 1e-3), ("spacing_mm", 1e-3), ("size", 0)):
            if not np.allclose(place[name], first[name], rtol=0, atol=tolerance):
                found = f"another {name} than in {first['path'].name}"
                raise wrong_input(place["path"], found, "slices of one grid")
    origins = np.array([place["origin"] for place in slices])
    gaps_mm = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    typical_mm = np.median(gaps_mm)
    if typical_mm == 0 or np.abs(gaps_mm / typical_mm - 1).max() > EQUAL_GAPS:
        found = f"gaps between slices from {gaps_mm.min():.3g} to {gaps_mm.max():.3g} mm"
        raise wrong_input(folder, found, "equal ones (a slice is missing or there twice)")


def read_picture(path):
    """Read one PNG of a mask as (X, Y), first index to the right, second downwards."""
    sitk = simpleitk()
    try:
        check_all_bits(path)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
    except (RuntimeError, OSError) as error:
        raise wrong_input(path, "a damaged or missing picture", "a PNG mask") from error
