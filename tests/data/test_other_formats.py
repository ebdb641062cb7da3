"""MetaImage, NRRD, PNG and TIFF: the geometry is right, and what a header leaves open is said."""

import json
import struct
import sys
import warnings
import zlib

import numpy as np
import official_layouts as official
import pytest

from segcal_lite.data.cases import check_case, load_case
from segcal_lite.data.datasets import read_dataset, task_of
from segcal_lite.data.other_formats import companion_files, voxel_files
from segcal_lite.data.volumes import read_label, read_volume

sitk = pytest.importorskip("SimpleITK")

VOXELS = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nendian: little\n"
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
DIRECTIONS = "space directions: (0.8,0,0) (0,0.9,0) (0,0,3)\n"
NO_AXES = "no orientation is set; axes are taken as"


def write_nrrd(path, lines):
    """Write `VOXELS` by hand, so that the header says just what the test wants."""
    path.write_bytes((NRRD + lines + "\n").encode() + VOXELS.T.tobytes())
    return path


def write_meta(path, lines):
    end = "DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes((META + lines + end).encode() + VOXELS.T.tobytes())
    return path


def picture(path, array):
    """Write (X, Y), (X, Y, Z) or with three colours first."""
    is_vector = array.shape[0] == 3 and array.ndim > 2
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T), isVector=is_vector)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def doubts_of(path, *arguments):
    """Read quietly; return the volume and what was said about its header."""
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        volume = read_volume(path, *arguments)
    return volume, [str(doubt.message) for doubt in doubts]


# ---- the same place as in NIfTI


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("index", range(3))
def test_written_by_simpleitk_it_lies_where_it_lay(tmp_path, ending, index):
    channels, _, affine = official.make_case(index)
    path = tmp_path / f"a{ending}"
    official.write_metaimage(path, channels[0], affine)
    volume, doubts = doubts_of(path)
    np.testing.assert_array_equal(volume.data, channels[0])
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert (volume.data.dtype, doubts, volume.path) == (np.int16, [], path)
    assert volume.data.flags.c_contiguous


def test_upper_case_endings_and_labels(tmp_path):
    _, labels, affine = official.make_case(0, (1, 2))
    official.write_metaimage(tmp_path / "a.mha", labels.astype(np.float32), affine)
    path = (tmp_path / "a.mha").rename(tmp_path / "A.MHA")
    label = read_label(path)
    assert label.data.dtype == np.uint8
    np.testing.assert_array_equal(label.data, labels)


# ---- what a header leaves open


@pytest.mark.parametrize("space", ["RAS", "right-anterior-superior", "LPS", "LAS"])
def test_nrrd_with_an_anatomical_space_leaves_nothing_open(tmp_path, space):
    path = write_nrrd(tmp_path / "a.nrrd", f"space: {space}\n{DIRECTIONS}")
    volume, doubts = doubts_of(path)
    signs = {"R": (1, 1, 1), "L": (-1, 1, 1)}[space[0].upper()]
    signs = (-1, -1, 1) if space == "LPS" else signs
    np.testing.assert_allclose(volume.affine.diagonal()[:3], np.multiply(signs, (0.8, 0.9, 3)))
    assert doubts == []
    np.testing.assert_array_equal(volume.data, VOXELS)


@pytest.mark.parametrize(
    "lines",
    [
        "spacings: 0.8 0.9 3\n",
        f"space dimension: 3\n{DIRECTIONS}",
        f"space: scanner-xyz\n{DIRECTIONS}",
    ],
)
def test_nrrd_without_anatomical_axes(tmp_path, lines):
    path = write_nrrd(tmp_path / "a.nrrd", lines)
    volume, doubts = doubts_of(path)
    assert doubts == [f"{path}: {NO_AXES} L, P, S."]
    np.testing.assert_allclose(volume.affine.diagonal(), (-0.8, -0.9, 3, 1))


@pytest.mark.parametrize("lines", ["", "space: LPS\n", "spacings: 0.8 NaN 3\n"])
def test_nrrd_without_voxel_sizes_asks_for_them(tmp_path, lines):
    path = write_nrrd(tmp_path / "a.nrrd", lines)
    with pytest.raises(ValueError, match="a.nrrd: found no voxel size, expected one in its header"):
        doubts_of(path)
    volume, doubts = doubts_of(path, (0.8, 0.9, 3))
    assert volume.spacing_mm == pytest.approx((0.8, 0.9, 3))
    assert doubts == [f"{path}: {NO_AXES} L, P, S."]  # a space without directions names no axes


@pytest.mark.parametrize("unsaid", ["none", "(nan,nan,nan)"])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("space", ["LPS", "scanner-xyz"])
def test_nrrd_with_an_axis_of_none_asks_for_its_size(tmp_path, space, axis, unsaid):
    """SimpleITK takes such an axis at 1 mm, along L, P or S."""
    directions = ["(0.8,0,0)", "(0,0.9,0)", "(0,0,3)"]
    directions[axis] = unsaid
    lines = f"space: {space}\nspace directions: {' '.join(directions)}\n"
    path = write_nrrd(tmp_path / "a.nrrd", lines)
    with pytest.raises(ValueError, match="a.nrrd: found no voxel size, expected one in its header"):
        doubts_of(path)
    volume, doubts = doubts_of(path, (0.8, 0.9, 3))
    np.testing.assert_allclose(volume.affine.diagonal(), (-0.8, -0.9, 3, 1))
    one = "an axis without a direction is taken as L, P or S by its place."
    assert doubts == [f"{path}: {one if space == 'LPS' else f'{NO_AXES} L, P, S.'}"]
    with pytest.raises(ValueError, match="expected .*, which spacing_mm says"):
        doubts_of(path, (0.7, 0.7, 0.7))  # the other axes state their sizes


def test_metaimage_without_element_spacing_asks_for_it(tmp_path):
    path = write_meta(tmp_path / "a.mha", "TransformMatrix = 1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(ValueError, match="a.mha: found no voxel size"):
        doubts_of(path)
    volume, doubts = doubts_of(path, (0.8, 0.9, 3))
    np.testing.assert_allclose(volume.affine.diagonal(), (-0.8, -0.9, 3, 1))
    assert doubts == []


@pytest.mark.parametrize("name", ["ElementSpacing", "ElementSize"])
def test_metaimage_without_axes(tmp_path, name):
    path = write_meta(tmp_path / "a.mha", f"{name} = 0.8 0.9 3\n")
    volume, doubts = doubts_of(path)
    assert doubts == [f"{path}: {NO_AXES} L, P, S."]
    assert volume.spacing_mm == pytest.approx((0.8, 0.9, 3))


def test_a_stated_size_must_agree_with_the_header(tmp_path):
    path = write_meta(
        tmp_path / "a.mha", "ElementSpacing = 0.8 0.9 3\nOrientation = 1 0 0 0 1 0 0 0 1\n"
    )
    assert doubts_of(path, (0.8, 0.9, 3.001))[1] == []
    message = (
        r"a.mha: found voxel sizes \[0.8, 0.9, 3.0\], expected \[1.0, 1.0, 3.0\], which spacing"
    )
    with pytest.raises(ValueError, match=message):
        read_volume(path, (1, 1, 3))


def test_other_units_are_refused(tmp_path):
    meta = write_meta(tmp_path / "a.mha", "DistanceUnits = cm\nElementSpacing = 0.8 0.9 3\n")
    units = 'space units: "cm" "cm" "cm"\n'
    nrrd = write_nrrd(tmp_path / "a.nrrd", f"space: LPS\n{DIRECTIONS}{units}")
    for path in (meta, nrrd):
        with pytest.raises(ValueError, match="found the length unit cm.*, expected mm"):
            read_volume(path)
    write_nrrd(nrrd, f"space: LPS\n{DIRECTIONS}{units.replace('cm', 'mm')}")
    assert doubts_of(nrrd)[1] == []


def test_a_tilted_gantry_is_refused(tmp_path):
    sheared = "space: LPS\nspace directions: (0.8,0,0) (0,0.9,0) (0,1.0260604,2.8190779)\n"
    for path in (
        write_nrrd(tmp_path / "a.nrrd", sheared),
        write_meta(
            tmp_path / "a.mha",
            "ElementSpacing = 0.8 0.9 3\nTransformMatrix = 1 0 0 0 1 0 0 0.3420201 0.9396926\n",
        ),
    ):
        with pytest.raises(
            ValueError, match="axes 20 degrees off right angles, expected .*resample"
        ):
            read_volume(path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.png", "a.tif"])
def test_damaged_and_missing(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}: found no such file"):
        read_volume(tmp_path / name)
    (tmp_path / name).write_bytes(b"a letter, not a volume")
    with pytest.raises(ValueError, match=f"{name}: found a damaged or unknown file"):
        read_volume(tmp_path / name)


def test_several_numbers_a_voxel_are_refused(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    found, expected = "3 dimensions, 3 numbers a voxel", "three dimensions, one number a voxel"
    with pytest.raises(ValueError, match=f"found {found}, expected {expected}"):
        read_volume(tmp_path / "a.mha")


def test_without_simpleitk_one_sentence(tmp_path, monkeypatch):
    path = write_nrrd(tmp_path / "a.nrrd", f"space: LPS\n{DIRECTIONS}")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ValueError, match=r"SimpleITK: found no such package, expected .*\[data\]"):
        read_volume(path)


# ---- pictures


GREY = np.arange(12, dtype=np.uint8).reshape(4, 3)


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff"])
def test_a_grey_picture_is_one_slice_of_1_mm_with_a_doubt(tmp_path, ending):
    path = picture(tmp_path / f"a{ending}", GREY)
    volume, doubts = doubts_of(path)
    np.testing.assert_array_equal(volume.data, GREY[..., np.newaxis])
    np.testing.assert_array_equal(volume.affine, np.diag([1, -1, 1, 1]))
    size = "no voxel size is set; pixels are taken as 1 mm, and"
    assert doubts == [f"{path}: {size} {NO_AXES} R, P, S."]


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_three_colours_are_three_channels(tmp_path, ending):
    colours = np.stack([GREY, GREY + 100, GREY + 200])
    volume, _ = doubts_of(picture(tmp_path / f"a{ending}", colours))
    np.testing.assert_array_equal(volume.data, colours[..., np.newaxis])
    assert volume.grid_shape == (4, 3, 1)


def by_hand(path, n_bits, colours, rows, *chunks):
    """Write a PNG of 3 x 2 pixels from its packed rows."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 3, 2, n_bits, colours, 0, 0, 0)
    parts = [
        chunk(b"IHDR", head),
        *(chunk(*c) for c in chunks),
        chunk(b"IDAT", zlib.compress(rows)),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("n_bits", "rows", "expected"),
    [
        (1, b"\x00\x60\x00\xa0", [[0, 1, 1], [1, 0, 1]]),
        (2, b"\x00\x18\x00\xd0", [[0, 1, 2], [3, 1, 0]]),
        (4, b"\x00\x01\x20\x00\x31\xf0", [[0, 1, 2], [3, 1, 15]]),
    ],
)
def test_levels_of_few_bits_keep_their_values(tmp_path, n_bits, rows, expected):
    volume, _ = doubts_of(by_hand(tmp_path / "a.png", n_bits, 0, rows))
    assert volume.data[..., 0].T.tolist() == expected


@pytest.mark.parametrize("bits", [(5,), (7,)])
@pytest.mark.parametrize("n_bits", [8, 16])
def test_png_with_fewer_significant_bits_is_refused(tmp_path, n_bits, bits):
    """SimpleITK would shift the others out of its numbers."""
    row = b"\x00" + bytes(range(3 * n_bits // 8))
    chunks = [(b"gAMA", struct.pack(">I", 100_000)), (b"sBIT", bytes(bits))]
    path = by_hand(tmp_path / "a.png", n_bits, 0, row * 2, *chunks)
    found = f"a.png: found fewer significant bits than its {n_bits} .*, expected a PNG without"
    with pytest.raises(ValueError, match=found):
        read_volume(path)
    path = by_hand(tmp_path / "a.png", 8, 2, (b"\x00" + bytes(9)) * 2, (b"sBIT", b"\x08\x05\x08"))
    with pytest.raises(ValueError, match="found fewer significant bits than its 8"):
        read_volume(path)


@pytest.mark.parametrize("n_bits", [8, 16])
def test_png_whose_bits_are_all_significant_keeps_its_values(tmp_path, n_bits):
    row = b"\x00" + bytes(range(3 * n_bits // 8))
    path = by_hand(tmp_path / "a.png", n_bits, 0, row * 2, (b"sBIT", bytes([n_bits])))
    volume, _ = doubts_of(path)
    stored = np.frombuffer(row[1:], dtype=f">u{n_bits // 8}")
    np.testing.assert_array_equal(volume.data[..., 0], np.stack([stored] * 2, axis=1))


@pytest.mark.parametrize(
    ("colours", "n_numbers", "found"),
    [(3, 1, "a palette"), (4, 2, "grey with alpha"), (6, 4, "RGB with alpha")],
)
def test_palette_and_alpha_are_refused(tmp_path, colours, n_numbers, found):
    row = b"\x00" + bytes(3 * n_numbers)
    path = by_hand(tmp_path / "a.png", 8, colours, row * 2, (b"PLTE", bytes(6)))
    with pytest.raises(
        ValueError, match=f"found a picture with {found}, expected grey levels, or red"
    ):
        read_volume(path)


def test_tiff_with_a_palette_or_alpha_is_refused(tmp_path):
    image = pytest.importorskip("PIL.Image")
    palette = image.fromarray(GREY, mode="P")
    palette.putpalette(list(range(36)))
    palette.save(tmp_path / "p.tif")
    greys = image.fromarray(GREY, mode="P")
    greys.putpalette([level for k in range(12) for level in [128 - 8 * k] * 3])
    greys.save(tmp_path / "g.tif")  # SimpleITK reads it as grey levels, each another one
    image.fromarray(np.stack([GREY] * 4, axis=-1)).save(tmp_path / "a.tif")
    for name, found in (("p", "a palette"), ("g", "a palette"), ("a", "numbers a pixel.*")):
        with pytest.raises(ValueError, match=f"{found}, expected grey levels, or red"):
            read_volume(tmp_path / f"{name}.tif")


def test_colours_of_a_big_endian_tiff_are_no_bits(tmp_path):
    """The bits of three colours lie elsewhere, and where is no number of bits."""
    image = pytest.importorskip("PIL.Image")
    colours = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
    entries = [(256, 3, 160), (257, 3, 160), (259, 3, 1), (262, 3, 2), (277, 3, 3), (278, 3, 160)]
    n_bytes, start = colours.size, 8 + 2 + 12 * 9 + 4
    entries += [(258, 3, start + n_bytes), (273, 4, start), (279, 4, n_bytes)]
    packed = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    for tag, kind, value in sorted(entries):
        count = 3 if tag == 258 else 1
        number = (
            struct.pack(">HH", value, 0) if (kind, count) == (3, 1) else struct.pack(">I", value)
        )
        packed += struct.pack(">HHI", tag, kind, count) + number
    path = tmp_path / "a.tif"
    path.write_bytes(packed + bytes(4) + colours.tobytes() + struct.pack(">3H", 8, 8, 8))
    assert 65536 <= start + n_bytes < 131072
    np.testing.assert_array_equal(np.asarray(image.open(path)), colours)
    volume, _ = doubts_of(path)
    np.testing.assert_array_equal(volume.data[..., 0], np.moveaxis(colours, -1, 0).swapaxes(1, 2))


def test_tiff_of_one_bit_is_a_mask(tmp_path):
    image = pytest.importorskip("PIL.Image")
    mask = np.median(GREY) < GREY
    image.fromarray(mask).save(tmp_path / "m.tif")
    volume, _ = doubts_of(tmp_path / "m.tif")
    np.testing.assert_array_equal(volume.data[..., 0], mask.T)


def test_voxels_in_a_folder_below_their_header(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.raw").write_bytes(VOXELS.T.tobytes())
    end = "DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = raw/a.raw\n"
    path = tmp_path / "a.mhd"
    path.write_text(META + "ElementSpacing = 1 1 1\n" + end)
    assert voxel_files(path) == (tmp_path / "raw" / "a.raw",)
    np.testing.assert_array_equal(doubts_of(path)[0].data, VOXELS)


def test_tiff_of_many_pages_takes_its_voxel_size_from_nnunets_json(tmp_path):
    voxels = VOXELS.astype(np.uint16)
    image, label = picture(tmp_path / "a_0000.tif", voxels), picture(tmp_path / "a.tif", voxels)
    with pytest.raises(
        ValueError, match=r"a_0000.tif: found no voxel size, expected .*a.json with"
    ):
        read_volume(image)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3.0, 0.9, 0.8]}))  # z, y, x
    for path in (image, label):
        volume, doubts = doubts_of(path)
        np.testing.assert_array_equal(volume.data, voxels)
        np.testing.assert_allclose(volume.affine, np.diag([0.8, -0.9, 3, 1]))
        assert doubts == [f"{path}: {NO_AXES} R, P, S."]


def test_a_case_whose_name_ends_like_a_channel_has_its_own_json(tmp_path):
    for name, size in (("a", 1.0), ("a_0001", 2.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"spacing": [size] * 3}))
    for name, size in (("a_0000", 1), ("a", 1), ("a_0001_0000", 2), ("a_0001", 2)):
        volume, _ = doubts_of(picture(tmp_path / f"{name}.tif", VOXELS))
        assert volume.spacing_mm == (size, size, size)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"spacing": [1, 1]}', '{"spacing": [1, 1, -1]}', '{"spacing": "no"}']
)
def test_a_json_without_a_spacing_is_named(tmp_path, text):
    path = picture(tmp_path / "a.tif", VOXELS)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a.json: found no such spacing, expected .*\[z, y, x\]"):
        read_volume(path)


# ---- files that lie beside


def test_companions(tmp_path):
    _, labels, affine = official.make_case(0)
    for name in ("a.mhd", "b.nhdr", "c.mha", "d.nrrd"):
        official.write_metaimage(tmp_path / name, labels, affine)
    beside = {path.suffix: voxel_files(path) for path in tmp_path.glob("[a-d].*")}
    assert beside[".mhd"][0].name in ("a.raw", "a.zraw")
    assert beside[".nhdr"][0].name in ("b.raw", "b.raw.gz")
    assert beside[".mha"] == beside[".nrrd"] == ()
    header, voxels = tmp_path / "f.hdr", tmp_path / "f.img"
    assert (voxel_files(header), voxel_files(voxels)) == ((voxels,), ())
    assert (companion_files(header), companion_files(voxels)) == ((voxels,), (header,))
    header, voxels = tmp_path / "g.HDR", tmp_path / "g.IMG"
    assert (companion_files(header), companion_files(voxels)) == ((voxels,), (header,))
    path = picture(tmp_path / "e_0000.png", GREY)
    assert companion_files(path) == ()
    (tmp_path / "e.json").write_text('{"spacing": [1, 1, 1]}')
    assert (companion_files(path), voxel_files(path)) == ((tmp_path / "e.json",), ())


# ---- whole datasets in nnU-Net's layout


def make_dataset(folder, ending, channels, write):
    """Three cases, `write(path, index, kind)` a file; kind is a channel or "label"."""
    for index, name in enumerate("abc"):
        for subfolder in ("imagesTr", "labelsTr"):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        write(folder / f"imagesTr/{name}_0000{ending}", index, "image")
        write(folder / f"labelsTr/{name}{ending}", index, "label")
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "x": 1},
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
def test_a_dataset_in_another_format_is_read_like_nifti(tmp_path, ending):
    def write(path, index, kind):
        channels, labels, affine = official.make_case(index)
        official.write_metaimage(path, labels if kind == "label" else channels[0], affine)

    dataset = read_dataset(make_dataset(tmp_path / "d", ending, ["MR"], write))
    assert {case.split for case in dataset.cases} == {"train", "validation", "test"}
    for index, case in enumerate(dataset.cases):
        channels, labels, affine = official.make_case(index)
        image, found, found_affine = load_case(dataset, case)
        np.testing.assert_array_equal(image[0], channels[0])
        np.testing.assert_array_equal(found, labels)
        np.testing.assert_allclose(found_affine, affine, atol=1e-6)
    assert task_of(dataset).spacing_mm == (0.8 + 0.2, 1.0, None)
    (tmp_path / "d/dataset.json").unlink()
    again = read_dataset(tmp_path / "d")
    assert [case.label_path for case in again.cases] == [c.label_path for c in dataset.cases]


def test_the_fingerprint_sees_voxels_beside_a_header_and_a_pictures_size(tmp_path):
    def write(path, index, kind):
        channels, labels, affine = official.make_case(index)
        official.write_metaimage(path, labels if kind == "label" else channels[0], affine)

    dataset = read_dataset(make_dataset(tmp_path / "d", ".mhd", ["MR"], write))
    before = dataset.fingerprint()
    (raw,) = voxel_files(dataset.cases[0].image_paths[0])
    raw.write_bytes(raw.read_bytes()[:-1] + b"!")
    assert dataset.fingerprint() != before
    pages = make_dataset(
        tmp_path / "t", ".tif", ["light"], lambda path, n, _: picture(path, VOXELS + n)
    )
    for subfolder in ("imagesTr", "labelsTr"):
        (pages / subfolder / "a.json").write_text('{"spacing": [1, 1, 1]}')
    dataset = read_dataset(pages)
    before = dataset.fingerprint()
    (pages / "imagesTr/a.json").write_text('{"spacing": [2, 1, 1]}')
    assert dataset.fingerprint() != before


def coloured(path, index, kind):
    rng = np.random.default_rng(index)
    labels = np.zeros((20, 16), np.uint8)
    labels[5:12, 6 : 10 + index] = 1
    colours = rng.integers(0, 200, (3, 20, 16)).astype(np.uint8)
    picture(path, labels if kind == "label" else colours)


@pytest.mark.filterwarnings("ignore:.*no voxel size is set")
def test_natural_images_have_three_channels_in_one_file(tmp_path):
    folder = make_dataset(tmp_path / "d", ".png", ["R", "G", "B"], coloured)
    dataset = read_dataset(folder)
    image, labels, affine = load_case(dataset, dataset.cases[0])
    assert (image.shape, labels.shape) == ((3, 20, 16, 1), (20, 16, 1))
    assert labels.sum() == 7 * 4
    assert task_of(dataset).spacing_mm == (1.0, 1.0, None)
    (folder / "dataset.json").unlink()
    assert read_dataset(folder).channels == ("channel 0", "channel 1", "channel 2")
    make_dataset(folder, ".png", ["R", "G"], coloured)
    two = read_dataset(folder)
    with pytest.raises(ValueError, match="a_0000.png: found 3 channels, expected 2: R, G"):
        check_case(two, two.cases[0])


def test_pictures_beside_volumes_are_no_volumes(tmp_path):
    def write(path, index, kind):
        channels, labels, affine = official.make_case(index)
        official.write_metaimage(path, labels if kind == "label" else channels[0], affine)

    folder = make_dataset(tmp_path / "d", ".mha", ["MR"], write)
    for subfolder in ("imagesTr", "labelsTr"):
        picture(folder / subfolder / "preview.png", GREY)
    assert [case.name for case in read_dataset(folder).cases] == ["a", "b", "c"]
    (folder / "dataset.json").unlink()
    assert [case.name for case in read_dataset(folder).cases] == ["a", "b", "c"]


# ---- real volumes


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_real_volume_is_the_same_in_another_format(real_data, tmp_path, ending):
    folder = real_data / "Task04_Hippocampus"
    source = sorted((folder / "imagesTr").glob("hippocampus_*.nii.gz"))[0]
    for path, read in (
        (source, read_volume),
        (folder / "labelsTr" / source.name, read_label),
    ):
        converted = tmp_path / f"{read.__name__}{ending}"
        sitk.WriteImage(sitk.ReadImage(str(path)), str(converted))
        volume, expected = read(converted), read(path)
        np.testing.assert_array_equal(volume.data, expected.data)
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
