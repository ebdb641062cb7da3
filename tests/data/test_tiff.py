"""TIFF and BigTIFF: whole stacks are read, and what SimpleITK would read otherwise is refused."""

import json
import struct
import tracemalloc

import numpy as np
import pytest

from segcal_lite.data.formats.tiff import check_tiff
from segcal_lite.data.volumes import read_volume

pytest.importorskip("SimpleITK")
tifffile = pytest.importorskip("tifffile")
pytestmark = pytest.mark.filterwarnings("ignore:.*no orientation is set")

GREY = np.random.default_rng(0).integers(0, 200, (9, 8)).astype(np.uint8)
DAMAGED = "a.tif: found a damaged or unknown file, expected a whole volume"
FORMS = {
    "classic": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "big-endian BigTIFF": {"bigtiff": True, "byteorder": ">"},
}


def write(path, *pages, form="classic", **options):
    """Write pages (Y, X): arrays, or an array with its own options."""
    with tifffile.TiffWriter(path, **FORMS[form]) as file:
        for page in pages:
            array, own = page if isinstance(page, tuple) else (page, {})
            told = {"photometric": "minisblack", "metadata": None, "contiguous": False}
            file.write(array, **(told | options | own))
    path.with_suffix(".json").write_text(json.dumps({"spacing": [1, 1, 1]}))
    return path


def set_tag(path, tag, value, page=0):
    """Overwrite the one number of a tag in place."""
    with tifffile.TiffFile(path) as file:
        found = file.pages[page].tags[tag]
        kind = {3: "H", 4: "I", 16: "Q"}[found.dtype]
        place, packed = found.valueoffset, struct.pack(file.byteorder + kind, value)
    blob = bytearray(path.read_bytes())
    blob[place : place + len(packed)] = packed
    path.write_bytes(blob)


def chain_places(path):
    """Return where the offset of each next directory stands, and the form of one."""
    with tifffile.TiffFile(path) as file:
        n_entry, n_count = (20, 8) if file.is_bigtiff else (12, 2)
        kind = file.byteorder + ("Q" if file.is_bigtiff else "I")
        return [page.offset + n_count + n_entry * len(page.tags) for page in file.pages], kind


def set_next(path, index, value):
    places, kind = chain_places(path)
    blob = bytearray(path.read_bytes())
    blob[places[index] : places[index] + struct.calcsize(kind)] = struct.pack(kind, value)
    path.write_bytes(blob)


def refused_in_little_memory(path):
    """Assert that a file is called damaged before room is made for what it promises."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=DAMAGED):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_whole_stacks_are_read(tmp_path, form, dtype, compression):
    pages = [(GREY + k).astype(dtype) for k in range(3)]
    path = write(tmp_path / "a.tif", *pages, form=form, compression=compression)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data.T, pages)
    assert volume.data.dtype == dtype


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_cut_stacks_are_refused(tmp_path, form, compression):
    path = write(
        tmp_path / "a.tif", *[GREY + k for k in range(4)], form=form, compression=compression
    )
    whole = path.read_bytes()
    assert read_volume(path).data.shape == (8, 9, 4)
    for keep in (*np.linspace(0.05, 0.99, 12), 1 - 1 / len(whole)):
        path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match=DAMAGED):
            read_volume(path)


def test_a_cut_stack_whose_directories_stand_last_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY] * 6), photometric="minisblack")
    path.with_suffix(".json").write_text('{"spacing": [1, 1, 1]}')
    whole = path.read_bytes()
    assert read_volume(path).data.shape == (8, 9, 6)
    for keep in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match=DAMAGED):
            read_volume(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [0, 1, "itself", "end", 10**9])
def test_chains_that_lead_nowhere_or_back_are_refused(tmp_path, form, target):
    path = write(tmp_path / "a.tif", GREY, GREY + 1, GREY + 2, form=form)
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    value = {0: offsets[0], 1: offsets[1], "itself": offsets[2], "end": path.stat().st_size}
    set_next(path, 2, value.get(target, target))
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tag", [256, 257])  # width, length
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_more_pixels_than_the_file_can_hold_are_refused(tmp_path, form, tag, compression):
    for rows in (9, 2**31 - 1):  # of the one strip: a few, or all that there may be
        path = write(tmp_path / "a.tif", GREY, form=form, compression=compression)
        set_tag(path, tag, 2**16 - 1 if tag == 256 else 2**31 - 1)
        set_tag(path, 278, rows)
        refused_in_little_memory(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tag", "value"), [(273, 10**6), (279, 10**6), (278, 2), (258, 10**4)])
def test_strips_that_are_not_in_the_file_are_refused(tmp_path, form, tag, value):
    path = write(tmp_path / "a.tif", GREY, form=form)
    set_tag(path, tag, value)
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(path)


def test_every_damaged_byte_of_a_deflated_page_is_noticed(tmp_path):
    """SimpleITK need not come to the checksum of a strip."""
    path = write(tmp_path / "a.tif", GREY, compression="zlib")
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        (start,), (size,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    for place in range(start + 2, start + size):
        blob = bytearray(whole)
        blob[place] ^= 0x55
        path.write_bytes(blob)
        with pytest.raises(ValueError, match=DAMAGED):
            read_volume(path)


@pytest.mark.parametrize("n_samples", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["classic", "BigTIFF"])
def test_grey_levels_beside_other_numbers_are_refused(tmp_path, form, n_samples):
    pixels = np.stack([GREY] * n_samples, axis=-1)
    path = write(tmp_path / "a.tif", pixels, form=form, planarconfig="contig")
    found = f"grey levels with {n_samples} numbers a pixel, expected grey levels, or red, green"
    with pytest.raises(ValueError, match=f"a.tif: found a picture of {found}"):
        read_volume(path)
    pixels = np.moveaxis(pixels, -1, 0)
    write(path, pixels.astype(np.uint16), form=form, planarconfig="separate")
    with pytest.raises(ValueError, match=f"a.tif: found a picture of {found}"):
        read_volume(path)


@pytest.mark.parametrize("form", ["classic", "BigTIFF"])
@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        ("float16", "floats of 16 bits"),
        ("float64", "floats of 64 bits"),
        ("int64", "signed numbers of 64 bits"),
        ("complex64", "complex numbers of 64 bits"),
    ],
)
def test_numbers_that_would_be_taken_for_others_are_refused(tmp_path, form, dtype, found):
    path = write(tmp_path / "a.tif", GREY.astype(dtype), form=form)
    expected = "grey levels of 1, 8, 16 or 32 bits, or floats of 32"
    with pytest.raises(ValueError, match=f"a.tif: found {found}, expected {expected}"):
        read_volume(path)


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_a_palette_is_refused_on_any_page(tmp_path, form, page):
    levels = np.tile(np.arange(256, dtype=np.uint16)[::-1] * 257, (3, 1))
    coloured = (GREY, {"photometric": "palette", "colormap": levels})
    path = write(tmp_path / "a.tif", *([GREY] * page), coloured, form=form)
    found = "pages of different forms" if page else "a picture with a palette"
    with pytest.raises(ValueError, match=f"found {found}"):
        read_volume(path)


@pytest.mark.parametrize(
    "other",
    [
        np.vstack([GREY, GREY]),
        np.hstack([GREY, GREY]),
        GREY[:, :4].copy(),
        GREY.astype(np.uint16),
        GREY.view(np.int8),
        GREY > 100,
        (np.stack([GREY] * 3, axis=-1), {"photometric": "rgb"}),
    ],
    ids=["longer", "wider", "narrower", "16 bits", "signed", "1 bit", "colours"],
)
def test_pages_of_different_forms_are_refused(tmp_path, other):
    """SimpleITK reads the numbers of all pages as those of the first."""
    for pages in ((GREY, other), (other, GREY)):
        path = write(tmp_path / "a.tif", *pages)
        found = "found pages of different forms, expected pages of one size and kind"
        with pytest.raises(ValueError, match=f"a.tif: {found}"):
            read_volume(path)


def test_thumbnails_may_end_a_file(tmp_path):
    thumbnail = (GREY[:3, :4].copy(), {"subfiletype": 1})
    for n_pages in (1, 3):
        pages = [GREY + k for k in range(n_pages)]
        volume = read_volume(write(tmp_path / "a.tif", *pages, thumbnail))
        np.testing.assert_array_equal(volume.data.T, pages)
    for pages in ((thumbnail, GREY), (GREY, thumbnail, GREY)):
        with pytest.raises(ValueError, match="found pages of different forms"):
            read_volume(write(tmp_path / "a.tif", *pages))


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_one_bit_keep_their_values(tmp_path, form):
    masks = [level < GREY for level in (50, 100, 150)]
    volume = read_volume(write(tmp_path / "a.tif", *masks, form=form))
    np.testing.assert_array_equal(volume.data.T, masks)


@pytest.mark.parametrize(
    "compression", ["group3", "group4", "packbits", "tiff_lzw", "tiff_deflate"]
)
def test_a_blank_mask_packs_well_and_is_read(tmp_path, compression):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.tif"
    image.new("1", (3000, 2000), 1).save(path, compression=compression)
    data = read_volume(path, (1, 1, 1)).data
    assert data.shape == (3000, 2000, 1) and data.min() == 1
    assert path.stat().st_size < data.size / 8 / 20


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiles_are_refused_but_of_masks_of_one_bit(tmp_path, dtype):
    square = np.tile(GREY, (5, 5))[:40, :40].copy()
    path = write(tmp_path / "a.tif", square > 100, tile=(16, 16))
    np.testing.assert_array_equal(read_volume(path).data[..., 0].T, square > 100)
    write(path, square.astype(dtype), tile=(16, 16))
    with pytest.raises(ValueError, match="a.tif: found a picture in tiles, expected strips"):
        read_volume(path)


@pytest.mark.parametrize("tag", [256, 257])  # width, length
def test_tiles_that_are_not_there_are_refused(tmp_path, tag):
    square = np.tile(GREY, (5, 5))[:40, :40] > 100
    path = write(tmp_path / "a.tif", square, tile=(16, 16))
    set_tag(path, tag, 50)  # no more pixels than the file could hold, and three tiles too few
    with pytest.raises(ValueError, match=DAMAGED):
        check_tiff(path, "grey levels")  # by itself, whatever SimpleITK would say


def test_a_strip_that_has_begun_counts(tmp_path):
    path = write(tmp_path / "a.tif", GREY[:8].copy(), rowsperstrip=4)
    set_tag(path, 257, 9)  # a row in a third strip
    with pytest.raises(ValueError, match=DAMAGED):
        check_tiff(path, "grey levels")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_rows_of_all_colours_have_to_be_in_the_one_strip(tmp_path, compression):
    colours = {"photometric": "rgb", "planarconfig": "contig", "compression": compression}
    path = write(tmp_path / "a.tif", np.stack([GREY] * 3, axis=-1), **colours)
    assert check_tiff(path, "grey levels") == (8, 1)
    n_rows = path.stat().st_size // 8 - 1  # as many as one colour would have room for
    for tag in (257, 278):
        set_tag(path, tag, n_rows)
    with pytest.raises(ValueError, match=DAMAGED):
        check_tiff(path, "grey levels")


def test_colours_apart_are_refused(tmp_path):
    """SimpleITK would read them as red, green, blue and alpha of 8 bits."""
    colours = np.stack([GREY, GREY + 1, GREY + 2])
    apart = colours, {"photometric": "rgb", "planarconfig": "separate"}
    together = np.moveaxis(colours, 0, -1), {"photometric": "rgb", "planarconfig": "contig"}
    with pytest.raises(ValueError, match="a.tif: found a picture of colours apart, expected those"):
        read_volume(write(tmp_path / "a.tif", apart))
    with pytest.raises(ValueError, match="found pages of different forms"):
        read_volume(write(tmp_path / "a.tif", together, apart))


@pytest.mark.parametrize(("form", "at"), [("classic", "count"), ("BigTIFF", "entries")])
def test_more_entries_or_numbers_than_the_file_can_hold_are_refused(tmp_path, form, at):
    path = write(tmp_path / "a.tif", GREY, form=form)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        place = page.offset if at == "entries" else page.tags[273].offset + 4
    blob = bytearray(path.read_bytes())
    value = struct.pack("<Q", 2**42) if at == "entries" else struct.pack("<I", 2**32 - 1)
    blob[place : place + len(value)] = value
    path.write_bytes(blob)
    refused_in_little_memory(path)


def test_undefined_numbers_of_32_bits_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", GREY.astype(np.int32))
    set_tag(path, 339, 4)
    with pytest.raises(ValueError, match="a.tif: found undefined numbers of 32 bits, expected"):
        read_volume(path)


def test_grey_levels_whose_least_is_white_pass_the_same_checks(tmp_path):
    white = {"photometric": "miniswhite", "planarconfig": "contig"}
    for pixels, found in (
        (np.stack([GREY] * 2, axis=-1), "a picture of grey levels with 2 numbers a pixel"),
        (GREY.astype(np.float64), "floats of 64 bits"),
    ):
        path = write(tmp_path / "a.tif", pixels, **white)
        with pytest.raises(ValueError, match=f"a.tif: found {found}"):
            read_volume(path)


def test_a_mask_of_transparency_is_no_page_and_one_of_several_pages_is(tmp_path):
    mask = (GREY > 100, {"subfiletype": 4})
    volume = read_volume(write(tmp_path / "a.tif", GREY, mask))
    np.testing.assert_array_equal(volume.data.T, [GREY])
    pages = GREY, (GREY + 1, {"subfiletype": 2})
    volume = read_volume(write(tmp_path / "a.tif", *pages))
    np.testing.assert_array_equal(volume.data.T, [GREY, GREY + 1])
