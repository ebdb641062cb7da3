"""MetaImage, NRRD, PNG and TIFF, read by SimpleITK, with what their headers leave open said aloud.

SimpleITK fills what a header does not state with a voxel size of 1 mm and axes to the left,
posterior, superior; so the headers are read here as well. Pictures state no geometry at all: their
voxel size stands in nnU-Net's ``<case>.json`` beside them, ``{"spacing": [z, y, x]}``.
"""

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np

from .._checks import check_spacing, is_file, wrong_input
from .formats.headers import METAIMAGE, NRRD, detached_files, read_header
from .formats.packed import DAMAGED, check_packed
from .formats.pictures import PICTURES, check_picture, picture_voxels

READERS = {  # by name: SimpleITK itself goes by the ending, and knows no .MHA
    **dict.fromkeys(METAIMAGE, "MetaImageIO"),
    **dict.fromkeys(NRRD, "NrrdImageIO"),
    **{".png": "PNGImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"},
}
ENDINGS = tuple(READERS)
INSTALL = "it in .venv: pip install -e '.[data]' in the project's folder"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ANATOMICAL_SPACES = {
    *("ras", "las", "lps", "right-anterior-superior"),
    *("left-anterior-superior", "left-posterior-superior"),
}
VOXEL_SIZES = {METAIMAGE: ("elementspacing", "elementsize"), NRRD: ("space directions", "spacings")}
LENGTH_UNITS = {METAIMAGE: ("distanceunits",), NRRD: ("space units", "units")}
MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres", "?"}


def simpleitk():
    """Import SimpleITK, or say how to get it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise wrong_input("SimpleITK", "no such package", INSTALL) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def dtype_of(reader):
    """Return NumPy's type for the numbers of a file whose header SimpleITK has read."""
    sitk = simpleitk()
    return sitk.GetArrayViewFromImage(sitk.Image([1, 1], reader.GetPixelID())).dtype


def read_other(path, spacing_mm=None):
    """Read a file of one of the `ENDINGS`: voxels (X, Y, Z) or (3, X, Y, Z), and the affine.

    `spacing_mm` is the voxel size to take where the file states none; a picture alone is taken at 1
    mm, with a warning, any other file is refused. A picture of one page has Z = 1. Axes that the
    file does not name are taken as left, posterior, superior, or for pictures as right, posterior,
    superior, with a warning.
    """
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[path.suffix.lower()])
    try:
        if path.suffix.lower() in PICTURES:
            return _read_picture(path, reader, spacing_mm)
        return _read_volume(path, reader, spacing_mm)
    except RuntimeError as error:
        raise wrong_input(path, *DAMAGED) from error


def _read_volume(path, reader, spacing_mm):
    """Read MetaImage or NRRD, as `read_other`."""
    reader.ReadImageInformation()
    n_numbers, shape = reader.GetNumberOfComponents(), reader.GetSize()
    if len(shape) != 3 or n_numbers != 1:
        found = f"{len(shape)} dimensions, {n_numbers} numbers a voxel"
        raise wrong_input(path, found, "three dimensions, one number a voxel")
    check_packed(path, dtype_of(reader).itemsize * math.prod(shape), shape[-1])
    image = reader.Execute()
    unsaid, sizes_mm = _check_header(path), image.GetSpacing()
    if any(unsaid):
        sizes_mm = np.where(unsaid, _asked_for(path, spacing_mm), sizes_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * sizes_mm
    affine[:3, 3] = image.GetOrigin()
    return simpleitk().GetArrayFromImage(image).T, LPS_TO_RAS @ affine


def _read_picture(path, reader, spacing_mm):
    """Read PNG or TIFF, as `read_other`."""
    n_bits, n_pages = check_picture(path)
    image = reader.Execute()
    array = simpleitk().GetArrayFromImage(image)
    data = picture_voxels(path, array, image.GetDimension(), n_bits, n_pages)
    return data, _picture_affine(path, data.shape[-1], spacing_mm)


def companion_files(path):
    """Return what belongs to a file beside it: voxels, header, or a picture's voxel size."""
    suffix = path.suffix.lower()
    if suffix == ".img":
        return (_paired(path, ".hdr"),)
    if suffix in PICTURES and is_file(_spacing_file(path)):
        return (_spacing_file(path),)
    return voxel_files(path)


def voxel_files(path):
    """Return the files with the voxels of a header, if they are others than its own."""
    path = Path(path)
    if path.suffix.lower() == ".hdr":
        return (_paired(path, ".img"),)
    return detached_files(path)


def _paired(path, ending):
    """Return the other file of an Analyze pair: in capitals if this one is, as nibabel looks."""
    return path.with_suffix(ending.upper() if path.suffix.isupper() else ending)


def _check_header(path):
    """Return of which axes a header states no voxel size in mm; warn of unnamed axes."""
    fields, _ = read_header(path)
    kind = METAIMAGE if path.suffix.lower() in METAIMAGE else NRRD
    units = " ".join(fields.get(name, "") for name in LENGTH_UNITS[kind]).replace('"', "").lower()
    if set(units.split()) - MILLIMETRES:
        raise wrong_input(path, f"the length unit {units.strip()}", "mm")
    if kind is METAIMAGE:
        named = {"transformmatrix", "rotation", "orientation"} & set(fields)
    else:
        named = "space directions" in fields and fields.get("space", "").lower() in (
            ANATOMICAL_SPACES
        )
    if not named:
        warnings.warn(f"{path}: no orientation is set; axes are taken as L, P, S.", stacklevel=5)
    stated = [fields[name] for name in VOXEL_SIZES[kind] if name in fields]
    unsaid = np.any([_unsaid(text) for text in stated], axis=0) if stated else [True] * 3
    if named and stated and any(unsaid):
        doubt = "an axis without a direction is taken as L, P or S by its place."
        warnings.warn(f"{path}: {doubt}", stacklevel=5)
    return unsaid


def _unsaid(text):
    """Return which of three numbers or vectors are none, as NRRD writes it, or NaN."""
    sizes = re.findall(r"\([^)]*\)|[^\s()]+", text.lower())
    unsaid = ["none" in size or "nan" in size for size in sizes]
    return unsaid if len(unsaid) == 3 else [any(unsaid)] * 3


def _asked_for(path, spacing_mm):
    """Return the voxel size that the caller knows, or ask for one."""
    if spacing_mm is None:
        expected = "one in its header (python -m data_scripts.pairs has a column spacing_mm for it)"
        raise wrong_input(path, "no voxel size", expected)
    return spacing_mm


def _picture_affine(path, n_pages, spacing_mm):
    """Return the affine of a picture from its JSON, the caller's voxel size, or 1 mm a pixel."""
    doubt, beside = "no orientation is set; axes are taken as R, P, S.", _spacing_file(path)
    if is_file(beside):
        sizes_mm = _read_spacing(beside)
    elif spacing_mm is not None:
        sizes_mm = spacing_mm
    elif n_pages == 1:
        sizes_mm = (1.0, 1.0, 1.0)
        doubt = f"no voxel size is set; pixels are taken as 1 mm, and {doubt}"
    else:
        raise wrong_input(path, "no voxel size", f'{beside} with {{"spacing": [z, y, x]}} in mm')
    warnings.warn(f"{path}: {doubt}", stacklevel=5)
    return np.diag([*sizes_mm, 1.0]) @ np.diag([1.0, -1.0, 1.0, 1.0])


def _spacing_file(path):
    """Return the JSON that states a picture's voxel size: without the number of the channel."""
    own = path.with_suffix(".json")
    return own if is_file(own) else own.with_name(re.sub(r"_[0-9]{4}\.json$", ".json", own.name))


def _read_spacing(path):
    """Return the voxel size along X, Y, Z that nnU-Net's JSON states the other way round."""
    try:
        sizes_mm = json.loads(path.read_text(encoding="utf-8"))["spacing"]
        return check_spacing(sizes_mm, 3)[::-1]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        expected = '{"spacing": [z, y, x]} with three positive numbers in mm'
        raise wrong_input(path, "no such spacing", expected) from error
