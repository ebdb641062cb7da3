"""PNG and TIFF: pages whose numbers are intensities or classes, as they stand in the file."""

import struct

import numpy as np

from ..._checks import wrong_input
from .tiff import check_tiff

PICTURES = (".png", ".tif", ".tiff")
EXPECTED_COLOURS = "grey levels, or red, green and blue of 8 bits as three channels"
PNG_COLOURS = {0: "grey", 2: "RGB", 3: "a palette", 4: "grey with alpha", 6: "RGB with alpha"}


def check_picture(path):
    """Return the bits of a grey level and the number of pages; refuse what is no intensity."""
    if path.suffix.lower() == ".png":
        return check_png(path), 1
    return check_tiff(path, EXPECTED_COLOURS)


def check_png(path):
    """Return the bits of a grey level; refuse the PNGs whose numbers are no intensities."""
    with path.open("rb") as file:
        n_bits, colours = _bits_and_colours(file) or (8, 0)
    if colours not in (0, 2):
        found = f"a picture with {PNG_COLOURS.get(colours, 'unknown colours')}"
        raise wrong_input(path, found, EXPECTED_COLOURS)
    check_all_bits(path)
    return n_bits


def check_all_bits(path):
    """Refuse a PNG that calls fewer bits significant than it has.

    SimpleITK cuts the others off: where 12 of 16 bits are significant, 4080 arrives as 255.
    """
    with path.open("rb") as file:
        n_bits, colours = _bits_and_colours(file) or (0, 0)
        n_bits = 8 if colours == 3 else n_bits  # of the palette's colours
        significant = [n for kind, start in _chunks(file) if kind == b"sBIT" for n in start]
    if min(significant, default=n_bits) < n_bits:
        found = f"fewer significant bits than its {n_bits} (a chunk sBIT)"
        raise wrong_input(path, found, "a PNG without that chunk: write it anew")


def _bits_and_colours(file):
    """Return the bits of a number and the kind of colours of a PNG, or nothing of another file."""
    start = file.read(26)
    return tuple(start[24:]) if start.startswith(b"\x89PNG") and len(start) == 26 else None


def _chunks(file):
    """Yield the kind and the first four bytes of each chunk that stands before a PNG's pixels."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return
        (n_bytes,) = struct.unpack(">I", head[:4])
        yield head[4:], file.read(min(n_bytes, 4))
        place += 12 + n_bytes


def picture_voxels(path, array, n_dims, n_bits, n_pages):
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
    if len(pages) != n_pages:
        raise wrong_input(path, f"{len(pages)} of {n_pages} pages", "a whole volume")
    return pages.T
