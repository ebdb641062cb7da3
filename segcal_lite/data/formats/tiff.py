"""TIFF and BigTIFF: whether all pages are there, and are numbers that SimpleITK reads as they are.

SimpleITK ends a stack where a page cannot be found, and takes the first page's form for all.
"""

import math
import struct
import zlib

from ..._checks import wrong_input
from ..nifti import PACKED_AT_MOST
from .packed import DAMAGED, n_unpacked

FORMS = {  # the byte order, the number of entries, and what offsets and counts are
    **{b"II*\0": ("<", "H", "I"), b"MM\0*": (">", "H", "I")},
    **{b"II+\0": ("<", "Q", "Q"), b"MM\0+": (">", "Q", "Q")},  # BigTIFF
}
KINDS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # whole numbers from 0 on
TAGS = {
    **{254: "subfile", 256: "width", 257: "length", 258: "bits", 259: "compression"},
    **{262: "photometric", 277: "samples", 278: "rows", 284: "planes", 339: "formats"},
    **{273: "places", 279: "n_bytes", 324: "places", 325: "n_bytes"},  # of strips, of tiles
    **{322: "tile_width", 323: "tile_length"},
}
UNSAID = {
    **{"subfile": (0,), "bits": (1,), "compression": (1,), "photometric": (1,), "samples": (1,)},
    **{"rows": (2**32 - 1,), "planes": (1,), "formats": (1,), "places": ()},
}
FORM = ("width", "length", "bits", "photometric", "samples", "formats", "planes")
DEFLATED = (8, 32946)
AT_MOST = {  # bytes that one byte can hold: plain, of LZW, of PackBits
    **{1: 1, 5: 2**11, 32773: 64},
    **dict.fromkeys(DEFLATED, PACKED_AT_MOST[".gz"]),
}
AT_MOST_ELSE = 2**14  # a blank row of a fax takes one bit
GREY, PALETTE = (0, 1), 3
APART = 2  # of `planes`: first all that is red, and so on
NOT_A_PAGE = 5  # bits of `subfile`: a smaller copy, a mask of transparency
NUMBERS = {1: (1, 8, 16, 32), 2: (8, 16, 32), 3: (32,), 4: (1, 8, 16)}
FORMAT_NAMES = {1: "whole numbers", 2: "signed numbers", 3: "floats", 4: "undefined numbers"}
BROKEN = (
    *(KeyError, IndexError, ValueError, OverflowError, ZeroDivisionError),
    *(EOFError, struct.error, zlib.error),
)
EXPECTED_GREY = "grey levels of 1, 8, 16 or 32 bits, or floats of 32"


def check_tiff(path, expected_colours):
    """Return the bits of a number and how many pages there are; refuse what would be read wrongly.

    Of colours the bits are 8, whatever the file says: `pictures.picture_voxels` looks at what came.

    Parameters
    ----------
    path : Path
    expected_colours : str
        What is asked for instead of other colours.

    Raises
    ------
    ValueError
        Naming the file: damaged or cut, more pixels than it can hold, a palette, grey levels
        beside other numbers of a pixel or of a kind that SimpleITK takes for another, colours
        apart or tiles, of which it keeps 8 bits, or pages of different forms.
    """
    try:
        n_stored = path.stat().st_size
        with path.open("rb") as file:
            pages = list(_directories(file, n_stored))
            for page in pages:
                _check_whole(file, page, n_stored)
    except BROKEN as error:
        raise wrong_input(path, *DAMAGED) from error
    shown = [page for page in pages if not page["subfile"][0] & NOT_A_PAGE] or pages
    forms = {tuple(page[name] for name in FORM) for page in shown}
    if len(forms) != 1 or shown != pages[: len(shown)]:  # thumbnails may end a file
        raise wrong_input(path, "pages of different forms", "pages of one size and kind")
    _check_numbers(path, shown[0], expected_colours)
    return shown[0]["bits"][0] if shown[0]["samples"][0] == 1 else 8, len(shown)


def _directories(file, n_stored):
    """Yield what `TAGS` names of each page, as tuples; one of `BROKEN` if the chain is."""
    order, counts, word = FORMS[file.read(4)]
    n_word = struct.calcsize(f"<{word}")
    entry = struct.Struct(f"{order}HH{word}{n_word}s")

    def number(kind):
        return struct.unpack(order + kind, file.read(struct.calcsize(order + kind)))[0]

    file.seek(n_word)  # BigTIFF says how long its words are first
    place, seen = number(word), set()
    while place or not seen:
        if place in seen or place >= n_stored:
            raise EOFError("a chain of pages that does not end in the file")
        seen.add(place)
        file.seek(place)
        n_entries = number(counts)
        if n_entries * entry.size > n_stored:
            raise EOFError("a page of more entries than the file can hold")
        entries, place = file.read(n_entries * entry.size), number(word)
        page = dict(UNSAID)
        for tag, kind, count, field in entry.iter_unpack(entries):
            if tag in TAGS:
                code = f"{order}{count}{KINDS[kind]}"
                page[TAGS[tag]] = _values(file, n_stored, code, field, order + word)
        yield page


def _values(file, n_stored, code, field, word):
    """Return the numbers of an entry: in its own field if they fit, else where it says."""
    n_bytes = struct.calcsize(code)
    if n_bytes == 0:
        raise EOFError("an entry without a number")
    if n_bytes > len(field):
        (place,) = struct.unpack(word, field)
        if place + n_bytes > n_stored:
            raise EOFError("numbers beyond the end of the file")
        file.seek(place)
        field = file.read(n_bytes)
    return struct.unpack(code, field[:n_bytes])


def _check_whole(file, page, n_stored):
    """Raise one of `BROKEN` where a page has fewer pixels in the file than it states."""
    width, length, samples = (page[name][0] for name in ("width", "length", "samples"))
    n_bytes = width * length * samples * page["bits"][0] // 8
    if n_bytes > n_stored * AT_MOST.get(page["compression"][0], AT_MOST_ELSE):
        raise EOFError("more pixels than the file can hold")
    if "tile_width" in page:
        n_parts = math.ceil(width / page["tile_width"][0])
        n_parts *= math.ceil(length / page["tile_length"][0])
    else:
        n_parts = math.ceil(length / page["rows"][0])
    sizes = page.get("n_bytes", (0,) * len(page["places"]))
    ends = [place + size for place, size in zip(page["places"], sizes, strict=True)]
    if len(ends) < max(n_parts, 1) or max(ends) > n_stored:
        raise EOFError("strips or tiles beyond the end of the file")
    if page["compression"][0] in DEFLATED:
        _check_checksums(file, zip(page["places"], ends, strict=True), n_bytes)


def _check_checksums(file, parts, n_bytes):
    """Raise one of `BROKEN` for a damaged stream, which SimpleITK need not read to its end."""
    found = 0
    for start, end in parts:
        file.seek(start)
        found += n_unpacked(file, end, math.inf, zlib.MAX_WBITS)
    if found < n_bytes:
        raise EOFError("fewer pixels than the page states")


def _check_numbers(path, page, expected_colours):
    """Refuse a page whose numbers SimpleITK takes for others."""
    (photometric, *_), (n_samples, *_) = page["photometric"], page["samples"]
    if photometric == PALETTE:
        raise wrong_input(path, "a picture with a palette", expected_colours)
    if photometric in GREY and n_samples > 1:
        found = f"a picture of grey levels with {n_samples} numbers a pixel"
        raise wrong_input(path, found, expected_colours)
    kind, n_bits = page["formats"][0], page["bits"][0]
    if photometric in GREY and n_bits not in NUMBERS.get(kind, ()):
        found = f"{FORMAT_NAMES.get(kind, 'complex numbers')} of {n_bits} bits"
        raise wrong_input(path, found, EXPECTED_GREY)
    if page["planes"][0] == APART and n_samples > 1:  # arrives as four colours, as tiles do
        raise wrong_input(path, "a picture of colours apart", "those of a pixel together")
    if "tile_width" in page and n_bits > 1:
        raise wrong_input(path, "a picture in tiles", "strips of whole rows")
