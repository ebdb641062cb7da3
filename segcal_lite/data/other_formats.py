"""MetaImage, NRRD, PNG and TIFF, read by SimpleITK, with what their headers leave open said aloud.

SimpleITK fills what a header does not state with a voxel size of 1 mm and axes to the left,
posterior, superior; so the headers are read here as well. Pictures state no geometry at all: their
voxel size stands in nnU-Net's ``<case>.json`` beside them, ``{"spacing": [z, y, x]}``.
"""

import json
import re
import struct
import warnings
from pathlib import Path

import numpy as np

from .._checks import check_spacing, is_file, wrong_input

METAIMAGE, NRRD, PICTURES = (".mha", ".mhd"), (".nrrd", ".nhdr"), (".png", ".tif", ".tiff")
READERS = {  # by name: SimpleITK itself goes by the ending, and knows no .MHA
    **dict.fromkeys(METAIMAGE, "MetaImageIO"),
    **dict.fromkeys(NRRD, "NrrdImageIO"),
    **{".png": "PNGImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"},
}
ENDINGS = tuple(READERS)
INSTALL = "it in .venv: pip install -e '.[data]' in the project's folder"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LONGEST_HEADER = 2**22  # bytes; Slicer's segmentations list every segment
ANATOMICAL_SPACES = {
    *("ras", "las", "lps", "right-anterior-superior"),
    *("left-anterior-superior", "left-posterior-superior"),
}
VOXEL_SIZES = {METAIMAGE: ("elementspacing", "elementsize"), NRRD: ("space directions", "spacings")}
LENGTH_UNITS = {METAIMAGE: ("distanceunits",), NRRD: ("space units", "units")}
MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres", "?"}
EXPECTED_COLOURS = "grey levels, or red, green and blue of 8 bits as three channels"
BITS_PER_SAMPLE, PHOTOMETRIC, PALETTE, TIFF_SHORT = 258, 262, 3, 3  # TIFF's numbers
PNG_COLOURS = {0: "grey", 2: "RGB", 3: "a palette", 4: "grey with alpha", 6: "RGB with alpha"}


def simpleitk():
    """Import SimpleITK, or say how to get it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise wrong_input("SimpleITK", "no such package", INSTALL) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def read_other(path, spacing_mm=None):
    """Read a file of one of the `ENDINGS`: voxels (X, Y, Z) or (3, X, Y, Z), and the affine.

    `spacing_mm` is the voxel size to take where the file states none; a picture alone is taken at 1
    mm, with a warning, any other file is refused. A picture of one page has Z = 1. Axes that the
    file does not name are taken as left, posterior, superior, or for pictures as right, posterior,
    superior, with a warning.
    """
    sitk = simpleitk()
    if not path.is_file():
        raise wrong_input(path, "no such file", "a volume")
    n_bits = min(_check_png(path), _check_tiff(path))
    try:
        image = sitk.ReadImage(str(path), imageIO=READERS[path.suffix.lower()])
    except RuntimeError as error:
        raise wrong_input(path, "a damaged or unknown file", "a whole volume") from error
    if path.suffix.lower() in PICTURES:
        data = _picture_voxels(path, sitk.GetArrayFromImage(image), image.GetDimension(), n_bits)
        return data, _picture_affine(path, data.shape[-1], spacing_mm)
    n_numbers = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or n_numbers != 1:
        found = f"{image.GetDimension()} dimensions, {n_numbers} numbers a voxel"
        raise wrong_input(path, found, "three dimensions, one number a voxel")
    has_sizes = _check_header(path)
    sizes_mm = image.GetSpacing() if has_sizes else _asked_for(path, spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * sizes_mm
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS_TO_RAS @ affine


def companion_files(path):
    """Return what belongs to a file beside it: voxels, header, or a picture's voxel size."""
    suffix = path.suffix.lower()
    if suffix == ".img":
        return (_paired(path, ".hdr"),)
    if suffix in PICTURES and is_file(_spacing_file(path)):
        return (_spacing_file(path),)
    return voxel_files(path)


def voxel_files(path):
    """Return the file with the voxels of a header, if it is another one."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        return (_paired(path, ".img"),)
    if suffix not in (".mhd", ".nhdr") or not path.is_file():
        return ()
    fields = _header_fields(path)
    found = [fields[n] for n in ("elementdatafile", "data file", "datafile") if fields.get(n)]
    name = found[0] if found else "LOCAL"
    return () if name.upper() == "LOCAL" else (path.parent / name,)


def _paired(path, ending):
    """Return the other file of an Analyze pair: in capitals if this one is, as nibabel looks."""
    return path.with_suffix(ending.upper() if path.suffix.isupper() else ending)


def _header_fields(path):
    """Return the fields of a MetaImage's or NRRD's text header, names in small letters."""
    between = "=" if path.suffix.lower() in METAIMAGE else ":"
    fields = {}
    with path.open("rb") as file:
        for line in file.read(LONGEST_HEADER).split(b"\n"):
            name, _, value = line.decode("latin-1").partition(between)
            fields[name.strip().lower()] = value.strip()
            if not line.strip() or name.strip().lower() == "elementdatafile":  # voxels follow
                break
    return fields


def _check_header(path):
    """Return whether a header states voxel sizes in mm; warn of axes that it does not name."""
    fields = _header_fields(path)
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
        warnings.warn(f"{path}: no orientation is set; axes are taken as L, P, S.", stacklevel=4)
    stated = [fields[name] for name in VOXEL_SIZES[kind] if name in fields]
    return bool(stated) and not any(re.search("nan", text, re.IGNORECASE) for text in stated)


def _asked_for(path, spacing_mm):
    """Return the voxel size that the caller knows, or ask for one."""
    if spacing_mm is None:
        expected = "one in its header (python -m data_scripts.pairs has a column spacing_mm for it)"
        raise wrong_input(path, "no voxel size", expected)
    return spacing_mm


def _check_png(path):
    """Return the bits of a grey level; refuse the PNGs whose numbers are no intensities."""
    with path.open("rb") as file:
        start = file.read(26)
    if not start.startswith(b"\x89PNG") or len(start) < 26:
        return 8
    n_bits, colours = start[24:]
    if colours not in (0, 2):
        found = f"a picture with {PNG_COLOURS.get(colours, 'unknown colours')}"
        raise wrong_input(path, found, EXPECTED_COLOURS)
    return n_bits


def _check_tiff(path):
    """Return the bits of a pixel, 1 or at least 8; refuse a palette, whose colours are no numbers.

    Both stand in the first directory, as short numbers; of a BigTIFF's nothing is read.
    """
    try:
        with path.open("rb") as file:
            order = {b"II*\0": "<", b"MM\0*": ">"}[file.read(4)]
            file.seek(*struct.unpack(f"{order}I", file.read(4)))
            (n_entries,) = struct.unpack(f"{order}H", file.read(2))
            entries = [struct.unpack(f"{order}HHIHH", file.read(12)) for _ in range(n_entries)]
    except (KeyError, struct.error):  # no TIFF, or a damaged one
        return 8
    tags = {  # several numbers, as the bits of red, green and blue, lie elsewhere
        tag: value if (kind, count) == (TIFF_SHORT, 1) else None
        for tag, kind, count, value, _ in entries
    }
    if tags.get(PHOTOMETRIC) == PALETTE:
        raise wrong_input(path, "a picture with a palette", EXPECTED_COLOURS)
    return 1 if tags.get(BITS_PER_SAMPLE, 1) == 1 else 8  # one is what TIFF leaves unsaid


def _picture_voxels(path, array, n_dims, n_bits):
    """Return pages (Y, X), each pixel one number or red, green and blue, as (X, Y, Z) or with C."""
    n_colours = array.shape[-1] if array.ndim > n_dims else 1
    if n_bits == 1 and n_colours == 4:  # a TIFF's bits arrive as red, green, blue and alpha
        array, n_colours = array[..., 0], 1
    # A TIFF's palette arrives as 16 bits a colour.
    if n_colours not in (1, 3) or (n_colours == 3 and array.dtype != np.uint8):
        found = f"a picture of {n_colours} numbers a pixel, {array.dtype}"
        raise wrong_input(path, found, EXPECTED_COLOURS)
    if n_bits < 8:  # stretched to 0 to 255 as it was read
        array = array // (255 // (2**n_bits - 1))
    pages = array if n_dims == 3 else array[np.newaxis]
    return pages.T


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
