import gzip
import struct
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segcal_lite.data import nifti, volumes
from segcal_lite.data.preprocessing import plan_preprocessing
from segcal_lite.data.volumes import (
    LABEL_SHIFT,
    Volume,
    check_same_grid,
    doubt_lines,
    foreground_box,
    read_label,
    read_volume,
    resolve_affine,
    write_volume,
)

ANGLE = np.deg2rad(20)
ROTATION = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]]
)
OBLIQUE = nib.affines.from_matvec(ROTATION @ np.diag([-0.75, 1.25, 6.0]), [10, -20, 30])
PIXDIM, XYZT_UNITS, QFORM_CODE, QUATERNION, SROW = 76, 123, 252, 256, 280  # bytes of the header
SIZEOF_HDR, DIM, VOX_OFFSET, SCL_SLOPE = 0, 40, 108, 112


def counting(shape, dtype="int16"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path, data, affine=OBLIQUE, **patches):
    """Write with nibabel alone, then overwrite header bytes: {offset: (format, values)}."""
    nib.save(nib.Nifti1Image(data, affine), path)
    raw = bytearray(path.read_bytes())
    for offset, (form, *values) in patches.get("header", {}).items():
        struct.pack_into(form, raw, offset, *values)
    path.write_bytes(raw)
    return path


# ---- writing and reading back


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 5, 4, 3), (5, 4, 1)])
def test_written_volume_comes_back(tmp_path, dtype, suffix, shape):
    data = counting(shape, dtype)
    path = tmp_path / f"case{suffix}"
    write_volume(path, data, OBLIQUE)
    volume = read_volume(path)
    assert volume.data.dtype == dtype
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    assert volume.affine.dtype == np.float64
    assert volume.path == path
    assert volume.grid_shape == shape[-3:]
    np.testing.assert_allclose(volume.spacing_mm, (0.75, 1.25, 6.0), rtol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_header_states_one_geometry_three_times(tmp_path):
    write_volume(tmp_path / "a.nii.gz", counting((2, 5, 4, 3), "float32"), OBLIQUE)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.shape == (5, 4, 3, 2)
    np.testing.assert_allclose(image.get_sform(), OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), OBLIQUE, atol=1e-4)
    np.testing.assert_allclose(image.header.get_zooms()[:3], (0.75, 1.25, 6.0), rtol=1e-6)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.img", np.zeros((2, 2, 2), "f4"), "path: found .*a.img, expected a name that ends"),
        ("a.nii", np.zeros((2, 2, 2)), "data: found dtype float64"),
        ("a.nii", np.zeros((2, 2, 2), "f2"), "data: found dtype float16"),
        ("a.nii", np.zeros((2, 2, 2), bool), "data: found dtype bool"),
        ("a.nii", np.zeros((2, 2), "f4"), r"data: found shape \(2, 2\)"),
        ("a.nii", np.zeros((1, 2, 2, 2, 2), "f4"), "data: found shape"),
    ],
)
def test_write_refuses(tmp_path, name, data, message):
    with pytest.raises(ValueError, match=message):
        write_volume(tmp_path / name, data, np.eye(4))
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_volume(path, counting((3, 3, 3)), np.eye(4))
    before = path.read_bytes()

    def stop_half_way(image, target):
        assert str(target).endswith(".nii.gz")
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(volumes.nib, "save", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        write_volume(path, counting((4, 4, 4)), np.eye(4))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- files that are wrong


def only_sentence(error, path):
    text = str(error.value)
    assert str(path) in text
    assert "expected" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 10, 200, 348, 2000, -1])
def test_truncated_file(tmp_path, suffix, kept):
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype("int16")
    write_volume(path, noise, np.eye(4))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError) as error:
        read_volume(path)
    assert "expected a whole NIfTI file" in only_sentence(error, path)


def test_gzip_with_a_flipped_byte(tmp_path):
    path = tmp_path / "bad.nii.gz"
    write_volume(path, np.random.default_rng(0).random((20, 20, 20), "f4"), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ValueError) as error:
        read_volume(path)
    only_sentence(error, path)


@pytest.mark.parametrize("name", ["text.nii.gz", "text.nii", "text.txt"])
def test_not_an_image(tmp_path, name):
    path = tmp_path / name
    path.write_text("a letter, not a volume " * 100)
    with pytest.raises(ValueError) as error:
        read_volume(path)
    only_sentence(error, path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.nii.gz", tmp_path):
        with pytest.raises(ValueError) as error:
            read_volume(path)
        only_sentence(error, path)


def test_another_image_format_is_refused(tmp_path):
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(np.zeros((3, 3, 3), "f4"), np.eye(4)), path)
    with pytest.raises(ValueError, match="MGHImage, expected a NIfTI file"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mnc", "Minc1Image"),
        ("a.PAR", "PARRECImage"),
        ("a.HEAD", "AFNIImage"),
        ("a.gii", "GiftiImage"),
    ],
)
def test_formats_that_nibabel_knows_are_no_nifti(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"CDF\x01" + bytes(200))
    with pytest.raises(ValueError, match=f"{name}: found {kind}, expected a NIfTI file"):
        read_volume(tmp_path / name)


def test_surfaces_in_a_nifti_file_are_no_volume(tmp_path):
    time = nib.cifti2.SeriesAxis(0, 1, 3)
    voxels = nib.cifti2.BrainModelAxis.from_mask(np.ones((2, 2, 2)), "thalamus_left", np.eye(4))
    path = tmp_path / "a.dtseries.nii"
    nib.save(nib.Cifti2Image(np.zeros((3, 8), "f4"), (time, voxels)), path)
    with pytest.raises(ValueError, match="a.dtseries.nii: found Cifti2Image, expected a NIfTI"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nii.gz", b"", "found an empty file, expected a whole NIfTI file"),
        ("a.nrrd", b"", "found an empty file, expected a whole volume"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "git lfs pull"),
        ("a.mha", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "git lfs pull"),
        ("a.nii", b"/annex/objects/MD5E-s1--4d.nii", "found a pointer .* git annex get"),
    ],
)
def test_files_without_a_volume_are_told_apart(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        read_volume(tmp_path / name)


def test_a_name_must_say_whether_a_file_is_compressed(tmp_path):
    save(tmp_path / "a.nii", counting((4, 3, 2)))
    (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match=r"b.nii.gz: found no gzip .* called .nii if it is no"):
        read_volume(tmp_path / "b.nii.gz")
    save(tmp_path / "c.nii.gz", counting((4, 3, 2)))
    (tmp_path / "c.nii.gz").rename(tmp_path / "d.nii")
    with pytest.raises(ValueError, match=r"d.nii: found gzip .* called .nii.gz if it is gzip"):
        read_volume(tmp_path / "d.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(2000,) * 3, (32767,) * 7])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path, suffix, shape):
    dims = [len(shape), *shape, *[1] * (7 - len(shape))]
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={DIM: ("<8h", *dims)})
    if suffix == ".nii.gz":
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    message = f"a{suffix}: found .* bytes for {shape[0]} x .* voxels of int16, expected a whole"
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("offset", "patch", "message"),
    [
        (VOX_OFFSET, ("<f", np.inf), "found a damaged file .cannot convert float infinity"),
        (VOX_OFFSET, ("<f", np.nan), "found a damaged file .cannot convert float NaN"),
        (VOX_OFFSET, ("<f", 1e9), "found 400 bytes for 4 x 3 x 2 voxels"),
        (VOX_OFFSET, ("<f", 0), "found voxels from byte 0 on, expected 352 or more"),
        (SIZEOF_HDR, ("<i", 12345), "found sizeof_hdr 12345, expected 348"),
        (SCL_SLOPE, ("<2f", np.inf, 0), "found scl_slope inf, expected a finite number"),
        (SCL_SLOPE, ("<2f", -np.inf, 0), "found scl_slope -inf, expected a finite number"),
        (SCL_SLOPE, ("<2f", 1, np.inf), "found a damaged file .Valid slope but invalid"),
    ],
)
def test_numbers_of_a_header_that_make_no_sense(tmp_path, offset, patch, message):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={offset: patch})
    with pytest.raises(ValueError, match=f"a.nii: {message}") as error:
        read_volume(path)
    only_sentence(error, path)


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_slope_that_says_nothing_is_none(tmp_path, slope):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={SCL_SLOPE: ("<2f", slope, 0)})
    np.testing.assert_array_equal(read_volume(path).data, counting((4, 3, 2)))


def test_what_stands_behind_the_voxels_is_read_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "LONGEST_TAIL", 1000)
    volume = save(tmp_path / "a.nii", counting((4, 3, 2))).read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(volume + bytes(1000)))
    np.testing.assert_array_equal(read_volume(path).data, counting((4, 3, 2)))
    path.write_bytes(gzip.compress(volume + bytes(1001)))
    with pytest.raises(ValueError, match="a.nii.gz: found over 1000 bytes behind the last voxel"):
        read_volume(path)


def test_the_checksum_of_a_packed_pair_is_that_of_its_voxels(tmp_path):
    nib.save(nib.Nifti1Pair(counting((4, 3, 2)), OBLIQUE), tmp_path / "a.img.gz")
    raw = bytearray((tmp_path / "a.img.gz").read_bytes())
    raw[-8] ^= 0xFF  # of the checksum
    (tmp_path / "a.img.gz").write_bytes(raw)
    with pytest.raises(ValueError, match="a.img.gz: found a damaged file .CRC check failed"):
        read_volume(tmp_path / "a.img.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.mha"])
def test_too_little_memory_is_one_sentence(tmp_path, monkeypatch, name):
    def greedy(*arguments):
        raise MemoryError

    (tmp_path / name).write_bytes(b"something")
    monkeypatch.setattr(volumes, "read_nifti", greedy)
    monkeypatch.setattr(volumes.other_formats, "read_other", greedy)
    with pytest.raises(ValueError, match=f"{name}: found too little memory for its voxels"):
        read_volume(tmp_path / name)


def test_nan_and_inf_are_counted(tmp_path):
    data = np.zeros((4, 4, 4), "f4")
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    path = save(tmp_path / "nan.nii", data)
    with pytest.raises(ValueError, match="3 NaN or infinite") as error:
        read_volume(path)
    only_sentence(error, path)


@pytest.mark.parametrize("dtype", ["complex64", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_rgb_are_refused(tmp_path, dtype):
    path = save(tmp_path / "odd.nii", np.zeros((3, 3, 3), dtype))
    with pytest.raises(ValueError, match="voxels of type .*expected real numbers"):
        read_volume(path)


def test_dimensions(tmp_path):
    squeezed = read_volume(save(tmp_path / "a.nii", counting((4, 3, 2, 1, 1))))
    np.testing.assert_array_equal(squeezed.data, counting((4, 3, 2)))
    one_channel = read_volume(save(tmp_path / "b.nii", counting((4, 3, 2, 2, 1))))
    np.testing.assert_array_equal(one_channel.data[1], counting((4, 3, 2, 2))[..., 1])
    for shape in [(4, 3), (4, 3, 2, 1, 2)]:
        with pytest.raises(ValueError, match="three or four dimensions"):
            read_volume(save(tmp_path / "c.nii", counting(shape)))


def test_scaled_and_big_endian_voxels(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype("int16")
    image = nib.Nifti1Image(counting((4, 3, 2)), OBLIQUE, header)
    nib.save(image, tmp_path / "big.nii")
    big = read_volume(tmp_path / "big.nii")
    assert big.data.dtype.isnative
    assert big.data.dtype == np.int16
    np.testing.assert_array_equal(big.data, counting((4, 3, 2)))
    image.header.set_slope_inter(2, -1000)
    image = nib.Nifti1Image(counting((4, 3, 2)).astype("f8") * 2 - 1000, OBLIQUE, image.header)
    nib.save(image, tmp_path / "scaled.nii")
    scaled = read_volume(tmp_path / "scaled.nii")
    np.testing.assert_allclose(scaled.data, counting((4, 3, 2)) * 2.0 - 1000, atol=1e-2)


def test_voxels_are_read_at_once(tmp_path):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)))
    volume = read_volume(path)
    with path.open("r+b") as handle:  # in place: a memory map would follow
        handle.seek(352)
        handle.write(bytes(48))
    np.testing.assert_array_equal(volume.data, counting((4, 3, 2)))


# ---- which affine is in force


def test_unit_sform_takes_sizes_from_pixdim_and_keeps_directions(tmp_path):
    path = tmp_path / "heart.nii"
    patches = {PIXDIM + 4: ("<3f", 1.37, 1.4, 10)}
    save(path, counting((4, 3, 2)), np.diag([-1.0, -1, 1, 1]), header=patches)
    with pytest.warns(UserWarning, match="heart.nii: found voxel sizes") as caught:
        volume = read_volume(path)
    assert len(caught) == 1
    assert "pixdim are used" in str(caught[0].message)
    np.testing.assert_allclose(volume.affine, np.diag([-1.37, -1.4, 10, 1]), rtol=1e-6)


def test_unit_oblique_affine_is_scaled_along_its_columns():
    unit = nib.affines.from_matvec(ROTATION, [1, 2, 3])
    with pytest.warns(UserWarning, match="pixdim are used"):
        resolved = resolve_affine(unit, (2, 3, 4), "a.nii")
    expected = nib.affines.from_matvec(ROTATION @ np.diag([2, 3, 4]), [1, 2, 3])
    np.testing.assert_allclose(resolved, expected, atol=1e-12)
    np.testing.assert_array_equal(unit, nib.affines.from_matvec(ROTATION, [1, 2, 3]))


def test_unit_pixdim_is_overruled_by_a_real_affine():
    with pytest.warns(UserWarning, match="the affine are used"):
        np.testing.assert_array_equal(resolve_affine(OBLIQUE, (1, 1, 1), "a.nii"), OBLIQUE)


@pytest.mark.parametrize("factor", [0.993, 1.0, 1.007])
def test_rounded_sizes_are_no_conflict(factor):
    with warnings.catch_warnings(action="error"):
        pixdim_mm = np.array([0.75, 1.25, 6.0]) * factor
        np.testing.assert_array_equal(resolve_affine(OBLIQUE, pixdim_mm, "a.nii"), OBLIQUE)


@pytest.mark.parametrize(
    "pixdim_mm", [(0.75, 1.25, 5.9), (1, 1, 6), (1.25, 0.75, 6), (0.74, 1.25, 6)]
)
def test_two_real_sizes_are_an_error(pixdim_mm):
    with pytest.raises(ValueError, match=r"a.nii: found voxel sizes .*expected sizes that agree"):
        resolve_affine(OBLIQUE, pixdim_mm, "a.nii")


def test_half_unit_sform_is_an_error():
    with pytest.raises(ValueError, match="expected sizes that agree"):
        resolve_affine(np.diag([1, 1, 8.0, 1]), (1.4, 1.4, 10), "a.nii")


@pytest.mark.parametrize("bad", [0.0, -1.5, np.nan, np.inf])
def test_bad_pixdim_on_file(tmp_path, bad, caplog):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={PIXDIM + 8: ("<f", bad)})
    with pytest.raises(ValueError, match="a.nii: found pixdim .*expected positive voxel sizes"):
        read_volume(path)
    assert caplog.records == []  # nibabel says nothing beside our sentence


def test_what_nibabel_mends_is_told_once_and_with_the_file(tmp_path, caplog):
    patches = {QFORM_CODE + 2: ("<h", 99)}
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header=patches)
    with pytest.warns(UserWarning) as caught:
        read_volume(path)
    mended = [str(warning.message) for warning in caught if "99" in str(warning.message)]
    assert mended == [f"{path}: sform_code 99 not valid; setting to 0."]
    assert caplog.records == []
    nib.imageglobals.logger.warning("of somebody else's file")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((3, 3)),
        np.diag([1.0, 1.0, 0.0]),
        np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]),
        np.array([[1.0, 1, 0], [1, 1.001, 0], [0, 0, 1]]),
        np.diag([1.0, np.nan, 1.0]),
    ],
)
def test_singular_affine(rows):
    with pytest.raises(ValueError, match="a.nii: found singular affine"):
        resolve_affine(nib.affines.from_matvec(rows), (1, 1, 1), "a.nii")


def test_singular_sform_on_file(tmp_path):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={SROW: ("<4f", 0, 0, 0, 0)})
    with pytest.raises(ValueError, match="a.nii: found singular affine"):
        read_volume(path)


def test_without_any_orientation_a_warning(tmp_path):
    patches = {QFORM_CODE: ("<2h", 0, 0), PIXDIM + 4: ("<3f", 2, 3, 4)}
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header=patches)
    with pytest.warns(UserWarning, match="no orientation is set"):
        volume = read_volume(path)
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-2, 3, 4]))
    refused = pytest.raises(ValueError, match="found voxel sizes .* which spacing_mm says")
    with pytest.warns(UserWarning, match="no orientation is set"), refused:
        read_volume(path, (1, 3, 4))  # sizes that are stated stay, with or without axes


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti1Pair, nib.AnalyzeImage])
def test_without_orientation_three_sizes_of_1_mm_are_none(tmp_path, kind):
    path = tmp_path / ("a.nii" if kind is nib.Nifti1Image else "a.img")
    nib.save(kind(counting((4, 3, 2)), None), path)
    with pytest.warns(UserWarning) as caught:
        volume = read_volume(path)
    axes = "no orientation is set; axes are taken as L, A, S"
    doubt = f"{path}: no voxel size is set; voxels are taken as 1 mm, and {axes}."
    assert [str(warning.message) for warning in caught] == [doubt]
    assert volume.spacing_mm == (1, 1, 1)
    with pytest.warns(UserWarning) as caught:
        volume = read_volume(path, (0.8, 0.9, 3))
    assert [str(warning.message) for warning in caught] == [f"{path}: {axes}."]
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-0.8, 0.9, 3]))
    np.testing.assert_allclose(volume.affine @ [1.5, 1, 0.5, 1], [0, 0, 0, 1])  # centred, as before


def test_qform_alone_is_enough(tmp_path):
    image = nib.Nifti1Image(counting((4, 3, 2)), None)
    image.set_qform(OBLIQUE, code=1)
    nib.save(image, tmp_path / "a.nii")
    with warnings.catch_warnings(action="error"):
        volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)


# ---- axes at right angles


def sheared(degrees, spacing_mm=(0.5, 0.5, 5.0)):
    """Affine of a CT whose gantry is tilted: slices shift along Y as they rise along Z."""
    tilt = np.deg2rad(degrees)
    directions = np.array([[1, 0, 0], [0, 1, np.sin(tilt)], [0, 0, np.cos(tilt)]])
    return nib.affines.from_matvec(directions @ np.diag(spacing_mm), [1, 2, 3])


@pytest.mark.parametrize("degrees", [1.2, 5.0, -20.0])
def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path, degrees):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), sheared(degrees))
    text = f"a.nii: found axes {abs(degrees):g} degrees off right angles, expected right angles: "
    with pytest.raises(ValueError, match=f"{text}resample image and label"):
        read_volume(path)
    with pytest.raises(ValueError, match="^affine: found axes"):
        plan_preprocessing((4, 3, 2), sheared(degrees))
    with pytest.raises(ValueError, match="right angles"):
        Volume(counting((4, 3, 2)), sheared(degrees), path)


def test_voxels_of_metres_are_named_with_their_file(tmp_path):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), np.diag([1500.0, 1500, 3000, 1]))
    with pytest.raises(ValueError, match="a.nii, spacing_mm: found .1500.0"):
        read_volume(path)


@pytest.mark.parametrize("degrees", [0.0, 0.05, 1.0])
def test_rounded_directions_pass_and_distances_are_within_one_percent(tmp_path, degrees):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), sheared(degrees))
    with warnings.catch_warnings(action="error"):
        volume = read_volume(path)
    steps = np.random.default_rng(0).normal(size=(3, 1000))
    true_mm = np.linalg.norm(volume.affine[:3, :3] @ steps, axis=0)
    assumed_mm = np.linalg.norm(np.array(volume.spacing_mm)[:, None] * steps, axis=0)
    np.testing.assert_allclose(assumed_mm, true_mm, rtol=0.01)


# ---- two places for one volume


def save_both(path, sform, qform, codes=(1, 1)):
    image = nib.Nifti1Image(counting((4, 3, 2)), None)
    image.set_sform(sform, code=codes[0])
    image.set_qform(qform, code=codes[1])
    nib.save(image, path)
    return path


MOVED = OBLIQUE + np.array([[0, 0, 0, 4.0], [0, 0, 0, -3.0], [0, 0, 0, 0], [0, 0, 0, 0]])
MIRRORED = nib.affines.from_matvec(ROTATION @ np.diag([0.75, 1.25, 6.0]), [10, -20, 30])


def test_an_sform_that_contradicts_the_qform_is_said(tmp_path):
    path = save_both(tmp_path / "a.nii", OBLIQUE, MOVED)
    with pytest.warns(UserWarning) as caught:
        volume = read_volume(path)
    apart = "sform and qform place voxels up to 5 mm apart"
    others = "the sform is in force, while other programs may take the qform"
    assert [str(doubt.message) for doubt in caught] == [f"{path}: {apart}; {others}."]
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    with pytest.warns(UserWarning, match="up to 4.5 mm apart"):  # 3 voxels of 0.75 mm, twice
        read_volume(save_both(tmp_path / "a.nii", OBLIQUE, MIRRORED))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1)])
def test_one_form_alone_is_no_contradiction(tmp_path, codes):
    with warnings.catch_warnings(action="error"):
        volume = read_volume(save_both(tmp_path / "a.nii", OBLIQUE, MOVED, codes))
    np.testing.assert_allclose(volume.affine, OBLIQUE if codes[0] else MOVED, atol=1e-5)


@pytest.mark.parametrize(("shift_mm", "n"), [(0.07, 0), (0.08, 1)])
def test_a_tenth_of_a_voxel_is_rounding(tmp_path, shift_mm, n):
    qform = OBLIQUE.copy()
    qform[2, 3] += shift_mm
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_volume(save_both(tmp_path / "a.nii", OBLIQUE, qform))
    assert len(caught) == n


def test_a_unit_sform_is_told_once(tmp_path):
    sform, qform = np.diag([-1.0, -1, 1, 1]), np.diag([-1.5, -1.5, 9, 1])
    with pytest.warns(UserWarning, match="pixdim are used") as caught:
        read_volume(save_both(tmp_path / "a.nii", sform, qform))
    assert len(caught) == 1


def test_a_unit_pixdim_is_told_once(tmp_path):
    path = save_both(tmp_path / "a.nii", OBLIQUE, OBLIQUE)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<3f", raw, PIXDIM + 4, 1, 1, 1)
    path.write_bytes(raw)
    with pytest.warns(UserWarning, match="those of the affine are used") as caught:
        read_volume(path)
    assert len(caught) == 1


def test_a_broken_qform_beside_an_sform_hurts_nobody(tmp_path):
    patches = {QFORM_CODE: ("<h", 1), QUATERNION: ("<3f", 1.0, 1.0, 1.0)}
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header=patches)
    with pytest.warns(UserWarning, match="the qform is no rotation; the sform is in force"):
        np.testing.assert_allclose(read_volume(path).affine, OBLIQUE, atol=1e-5)


# ---- pairs of header and voxels


def test_a_nifti_pair_is_nifti(tmp_path):
    nib.save(nib.Nifti1Pair(counting((4, 3, 2)), OBLIQUE), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        with warnings.catch_warnings(action="error"):
            volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.data, counting((4, 3, 2)))
        np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)


def test_analyze_leaves_the_orientation_open(tmp_path):
    path = tmp_path / "a.img"
    nib.save(nib.AnalyzeImage(counting((4, 3, 2)), np.diag([-0.8, 0.9, 3, 1])), path)
    with pytest.warns(UserWarning, match="a.img: no orientation is set; axes .* L, A, S") as caught:
        volume = read_volume(path)
    assert len(caught) == 1
    assert volume.spacing_mm == pytest.approx((0.8, 0.9, 3))
    np.testing.assert_array_equal(volume.data, counting((4, 3, 2)))


def test_a_stated_voxel_size_must_be_the_files(tmp_path):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)))
    assert read_volume(path, (0.75, 1.25, 6)).grid_shape == (4, 3, 2)
    with pytest.raises(ValueError, match="a.nii: found voxel sizes .* which spacing_mm says"):
        read_volume(path, (1, 1, 6))
    with pytest.raises(ValueError, match="^spacing_mm: found"):
        read_volume(path, (1, 1, 0))


@pytest.mark.parametrize("unit", [1, 3])
def test_metres_and_microns_are_refused(tmp_path, unit):
    path = save(tmp_path / "a.nii", counting((4, 3, 2)), header={XYZT_UNITS: ("<B", unit)})
    with pytest.raises(ValueError, match="length unit other than mm"):
        read_volume(path)


# ---- labels


def test_labels_of_any_whole_type(tmp_path):
    labels = counting((3, 3, 3)) % 4
    for dtype in ("uint8", "int16", "float32"):
        volume = read_label(save(tmp_path / "a.nii", labels.astype(dtype)))
        assert volume.data.dtype == np.uint8
        np.testing.assert_array_equal(volume.data, labels)
    wide = read_label(save(tmp_path / "a.nii", labels * 100))
    assert wide.data.dtype == np.int32
    assert wide.data.max() == 300


@pytest.mark.parametrize("value", [0.5, -1.0, 1.0001])
def test_wrong_labels(tmp_path, value):
    labels = np.zeros((3, 3, 3), "f4")
    labels[1, 1, 1] = value
    with pytest.raises(ValueError, match="a.nii: found fractions or negative"):
        read_label(save(tmp_path / "a.nii", labels))


def test_labels_stored_as_scaled_numbers_are_rounded(tmp_path):
    stored = counting((3, 3, 3), "f8") % 9 - 2e-10
    label = read_label(save(tmp_path / "a.nii", stored))
    assert label.data.dtype == np.uint8
    np.testing.assert_array_equal(label.data, counting((3, 3, 3)) % 9)


def test_a_fraction_is_named(tmp_path):
    labels = np.zeros((3, 3, 3), "f4")
    labels[1, 1] = 1, 1.5, 0.25
    with pytest.raises(ValueError, match="fractions or negative numbers such as 1.5, expected"):
        read_label(save(tmp_path / "a.nii", labels))


@pytest.mark.parametrize("value", [65536, 3e9, 1e300])
def test_labels_that_no_segmentation_has(tmp_path, value):
    labels = np.zeros((3, 3, 3))
    labels[1, 1, 1] = 65535
    assert read_label(save(tmp_path / "a.nii", labels)).data.max() == 65535
    labels[1, 1, 1] = value
    with pytest.raises(ValueError, match="a.nii: found the value .*, expected labels up to 65535"):
        read_label(save(tmp_path / "a.nii", labels))


def test_labels_of_four_dimensions(tmp_path):
    with pytest.raises(ValueError, match="labels of three dimensions"):
        read_label(save(tmp_path / "a.nii", counting((3, 3, 3, 2))))


# ---- one grid


def volume_at(affine, name, shape=(100, 50, 20)):
    return Volume(np.zeros(shape, "u1"), np.asarray(affine, float), Path(name))


def test_same_grid():
    image = volume_at(OBLIQUE, "image.nii.gz", (2, 100, 50, 20))
    check_same_grid(image, volume_at(OBLIQUE, "label.nii.gz"))
    nudged = OBLIQUE.copy()
    nudged[0, 3] += 0.05
    check_same_grid(image, volume_at(nudged, "label.nii.gz"))


@pytest.mark.parametrize(
    ("column", "size"),
    [(3, 0.1), (0, 0.001), (1, -0.002), (2, 0.005)],  # far corners: 0.1, 0.099, 0.098, 0.095 mm
)
def test_shifted_corner_is_seen(column, size):
    other = OBLIQUE.copy()
    other[1, column] += size
    with pytest.raises(ValueError, match="a.nii and b.nii: found voxels up to 0.* mm apart"):
        check_same_grid(volume_at(OBLIQUE, "a.nii"), volume_at(other, "b.nii"))


def test_other_shape_is_seen():
    with pytest.raises(ValueError, match="a.nii and b.nii: found .*expected one shape"):
        check_same_grid(volume_at(OBLIQUE, "a.nii"), volume_at(OBLIQUE, "b.nii", (100, 50, 21)))


def moved_by(voxels):
    """A label on the oblique grid, moved by voxels along its axes."""
    affine = OBLIQUE.copy()
    affine[:3, 3] += OBLIQUE[:3, :3] @ voxels
    return volume_at(affine, "label.nii.gz")


@pytest.mark.parametrize("voxels", [(0.49, 0, 0), (0, -0.3, 0), (0.4, 0.4, -0.49)])
def test_a_label_less_than_half_a_voxel_away_is_taken_with_a_note(voxels):
    image, label = volume_at(OBLIQUE, "image.nii.gz"), moved_by(voxels)
    shift_mm = np.linalg.norm(OBLIQUE[:3, :3] @ voxels)
    text = f"^label.nii.gz: moved against its image by {shift_mm:.3g} mm, less than half a voxel; "
    with pytest.warns(UserWarning, match=text) as caught:
        check_same_grid(image, label, LABEL_SHIFT)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="mm apart"):  # two channels have one place
        check_same_grid(image, label)


def test_what_is_moved_and_against_what_is_told_in_the_callers_words():
    label, kinds = volume_at(OBLIQUE, "label.nii.gz"), ("label", "prediction")
    text = "moved against its label by .* half a voxel; the label's place is in force"
    with pytest.warns(UserWarning, match=text):
        check_same_grid(label, moved_by((0.4, 0, 0)), LABEL_SHIFT, kinds)
    with pytest.raises(ValueError, match="correct the wrong header, or resample the prediction"):
        check_same_grid(label, moved_by((0.6, 0, 0)), LABEL_SHIFT, kinds)


@pytest.mark.parametrize("voxels", [(0.501, 0, 0), (0, -0.51, 0), (0.1, 0.1, 0.6)])
def test_half_a_voxel_is_refused(voxels):
    with pytest.raises(ValueError, match="image.nii.gz and label.nii.gz: found voxels up to .* mm"):
        check_same_grid(volume_at(OBLIQUE, "image.nii.gz"), moved_by(voxels), LABEL_SHIFT)


@pytest.mark.parametrize("degrees", [0.3, 1.0])
def test_a_turned_label_is_refused(degrees):
    """Turned about the middle, so that the centres agree and no corner is half a voxel away."""
    angle = np.deg2rad(degrees)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = nib.affines.apply_affine(OBLIQUE, (np.array((100, 50, 20)) - 1) / 2)
    turned = nib.affines.from_matvec(turn, centre - turn @ centre) @ OBLIQUE
    with pytest.raises(ValueError, match="found voxels up to .* mm apart"):
        check_same_grid(
            volume_at(OBLIQUE, "image.nii.gz"), volume_at(turned, "label.nii.gz"), LABEL_SHIFT
        )


def test_a_nudged_label_needs_no_note():
    with warnings.catch_warnings(action="error"):
        check_same_grid(volume_at(OBLIQUE, "a.nii"), moved_by((0.05, 0, 0)), LABEL_SHIFT)


def test_a_frequent_doubt_hides_no_other():
    doubts = [f"/data/case {k}.nii: found {k}.5e-3 mm; nothing else." for k in range(4)]
    doubts.insert(2, "/data/x.nii: sform and qform differ.")
    assert doubt_lines(doubts) == [
        f"4 headers were resolved, the first: {doubts[0]}",
        "1 headers were resolved, the first: /data/x.nii: sform and qform differ.",
    ]
    assert doubt_lines([]) == []


# ---- the box around the foreground


def test_box_by_hand():
    labels = np.zeros((40, 40, 12), int)
    labels[10:13, 20, 5] = 1
    labels[12, 25, 6] = 3
    # 8 mm: 4 voxels of 2 mm, 6 of 1.5 mm (5.33 rounded up); two slices whatever their thickness
    box = foreground_box(labels, (2.0, 1.5, 10.0))
    assert box == (slice(6, 17), slice(14, 32), slice(3, 9))
    assert foreground_box(labels, (2, 1.5, 1)) == box
    tight = foreground_box(labels, (2, 1.5, 10), dilation_mm=0, dilation_slices=0)
    assert tight == (slice(10, 13), slice(20, 26), slice(5, 7))


def test_box_is_clipped():
    labels = np.zeros((10, 10, 4), int)
    labels[1, 8, 0] = 1
    assert foreground_box(labels, (2, 2, 5)) == (slice(0, 6), slice(4, 10), slice(0, 3))
    within = (slice(1, 5), slice(5, 9), slice(0, 2))
    assert foreground_box(labels, (2, 2, 5), within=within) == within
    labels[9, 0, 3] = 1  # outside the valid box: padding holds no foreground
    assert foreground_box(labels, (2, 2, 5), within=within) == within


@pytest.mark.parametrize(
    ("size_mm", "n"), [(0.8, 10), (0.799999, 10), (0.79, 11), (8.1, 1), (3, 3)]
)
def test_reach_in_voxels(size_mm, n):
    labels = np.zeros((41, 41, 1), int)
    labels[20, 20] = 1
    box = foreground_box(labels, (size_mm, size_mm, 1))
    assert box[0] == box[1] == slice(20 - n, 21 + n)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    reach=st.tuples(st.integers(0, 4), st.integers(0, 3)),
)
def test_box_matches_find_objects(seed, shape, reach):
    rng = np.random.default_rng(seed)
    labels = (rng.random(shape) < 0.05).astype(int) * rng.integers(1, 4, shape)
    labels[tuple(rng.integers(0, shape))] = 2
    (tight,) = ndimage.find_objects((labels > 0).astype(int))
    in_plane, slices = reach
    grown = [
        slice(max(0, span.start - n), min(size, span.stop + n))
        for span, n, size in zip(tight, (in_plane, in_plane, slices), shape, strict=True)
    ]
    assert foreground_box(labels, (1, 1, 7), in_plane, slices) == tuple(grown)


def test_box_refuses():
    labels = np.zeros((5, 5, 5), int)
    with pytest.raises(ValueError, match="labels: found no foreground"):
        foreground_box(labels, (1, 1, 1))
    labels[4, 4, 4] = 1
    with pytest.raises(ValueError, match="labels: found no foreground"):
        foreground_box(labels, (1, 1, 1), within=(slice(0, 4),) * 3)
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="dilation_mm"):
            foreground_box(labels, (1, 1, 1), dilation_mm=bad)
    with pytest.raises(ValueError, match="dilation_slices"):
        foreground_box(labels, (1, 1, 1), dilation_slices=-1)
    with pytest.raises(ValueError, match="spacing_mm"):
        foreground_box(labels, (1, 0, 1))
    with pytest.raises(ValueError, match="labels: found shape"):
        foreground_box(labels[0], (1, 1, 1))


# ---- official files


@pytest.fixture
def heart_folder(real_data):
    return real_data / "ACDC" / "training" / "patient001"


def test_official_heart_files(heart_folder):
    with pytest.warns(UserWarning, match="pixdim are used"):
        image = read_volume(heart_folder / "patient001_frame01.nii.gz")
        labels = read_label(heart_folder / "patient001_frame01_gt.nii.gz")
    assert image.spacing_mm == labels.spacing_mm == (1.5625, 1.5625, 10.0)
    assert image.grid_shape == (216, 256, 10)
    assert np.unique(labels.data).tolist() == [0, 1, 2, 3]
    check_same_grid(image, labels)


def test_unannotated_voxels_are_no_foreground_of_a_box():
    labels = np.full((9, 9, 9), -1)
    labels[4, 4, 4] = 1
    found = foreground_box(labels, (1.0, 1.0, 1.0), dilation_mm=1, dilation_slices=0)
    assert found == (slice(3, 6), slice(3, 6), slice(4, 5))
    with pytest.raises(ValueError, match="labels: found no foreground"):
        foreground_box(np.full((3, 3, 3), -1), (1.0, 1.0, 1.0))
