from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from segcal_lite._checks import IGNORED
from segcal_lite.data.cases import Case, Dataset, Selection, check_case, load_case

SPACING_MM = (1.5, 1.5, 5.0)


def write(path, data, spacing_mm=SPACING_MM):
    """Write a NIfTI file with nibabel alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*spacing_mm, 1.0])), path)
    return path


def images_of(folder, **changes):
    """Write two channels that tell every voxel apart; return them and their paths."""
    channels = np.arange(2 * 6 * 5 * 3, dtype=np.float32).reshape(2, 6, 5, 3)
    names = [folder / "imagesTr" / f"a_000{number}.nii.gz" for number in range(2)]
    paths = [write(path, data, **changes) for path, data in zip(names, channels, strict=True)]
    return channels, tuple(paths)


@pytest.fixture
def dataset(tmp_path):
    """Hold one case of two channels, with labels stored as 0, 2 and 7."""
    _, image_paths = images_of(tmp_path)
    labels = np.zeros((6, 5, 3), dtype=np.uint8)
    labels[1:3], labels[4, 2] = 2, 7
    label_path = write(tmp_path / "labelsTr" / "a.nii.gz", labels)
    case = Case("a", image_paths, label_path, "source", "train", None, "a")
    of_folder = {"folder": tmp_path, "name": tmp_path.name, "channels": ("T1", "T2")}
    return Dataset(("x", "y"), (0, 2, 7), **of_folder, cases=(case,))


def with_label(dataset, labels, **changes):
    """Return the case after its label was overwritten."""
    write(dataset.cases[0].label_path, labels, **changes)
    return dataset.cases[0]


def test_load_case(dataset):
    image, labels, affine = load_case(dataset, dataset.cases[0])
    expected, _ = images_of(dataset.folder)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, expected)
    assert np.issubdtype(labels.dtype, np.signedinteger)
    assert [(labels == k).sum() for k in range(3)] == [6 * 5 * 3 - 30 - 3, 30, 3]
    assert labels[1, 0, 0] == 1
    assert labels[4, 2, 0] == 2
    np.testing.assert_allclose(affine, np.diag([*SPACING_MM, 1]))
    assert check_case(dataset, dataset.cases[0]) == (33, 0, 90)


def test_all_channels_in_one_file(dataset):
    channels, _ = images_of(dataset.folder)
    path = write(dataset.folder / "imagesTr" / "a.nii.gz", np.moveaxis(channels, 0, 3))
    image, _, _ = load_case(dataset, replace(dataset.cases[0], image_paths=(path,)))
    np.testing.assert_array_equal(image, channels)


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5, 3, 1)])
def test_one_channel_with_and_without_an_axis(dataset, shape):
    data = np.arange(90, dtype=np.int16).reshape(shape)
    path = write(dataset.folder / "imagesTr" / "b.nii.gz", data)
    case = replace(dataset.cases[0], image_paths=(path,))
    image, _, _ = load_case(replace(dataset, channels=("CT",)), case)
    np.testing.assert_array_equal(image, data.reshape(1, 6, 5, 3))


@pytest.mark.parametrize("n_channels", [1, 3])
def test_wrong_number_of_channels_in_one_file(dataset, n_channels):
    data = np.ones((6, 5, 3, n_channels), dtype=np.float32)
    path = write(dataset.folder / "imagesTr" / "a.nii.gz", data)
    with pytest.raises(ValueError) as error:
        load_case(dataset, replace(dataset.cases[0], image_paths=(path,)))
    assert str(error.value) == f"{path}: found {n_channels} channels, expected 2: T1, T2."


def test_unknown_label_values(dataset):
    labels = np.arange(90).reshape(6, 5, 3).astype(np.uint8) % 10
    case = with_label(dataset, labels)
    for check in (check_case, load_case):
        with pytest.raises(ValueError) as error:
            check(dataset, case)
        expected = "found label values [1, 3, 4, 5, 6, 8, 9], expected only [0, 2, 7]."
        assert str(error.value) == f"{case.label_path}: {expected}"


def test_a_label_that_is_all_background(dataset):
    case = with_label(dataset, np.zeros((6, 5, 3), dtype=np.uint8))
    assert not load_case(dataset, case)[1].any()
    assert check_case(dataset, case) == (0, 0, 90)


def test_what_nobody_annotated_is_no_class(dataset):
    labels = np.zeros((6, 5, 3), dtype=np.uint8)
    labels[0, 0], labels[1, :2], labels[2] = 9, 7, 2
    case = with_label(dataset, labels)
    with pytest.raises(ValueError, match=r"found label values \[9\], expected only \[0, 2, 7\]"):
        check_case(dataset, case)
    ignoring = replace(dataset, ignore_value=9)
    found = load_case(ignoring, case)[1]
    assert found.dtype == np.int16
    expected = np.zeros((6, 5, 3))
    expected[0, 0], expected[1, :2], expected[2] = IGNORED, 2, 1
    np.testing.assert_array_equal(found, expected)
    assert check_case(ignoring, case) == (21, 3, 90)
    for change in ({}, {"regions": ((1, 2), (2,))}, {"region_order": (1, 2)}):
        assert replace(dataset, ignore_value=9, **change).fingerprint() != dataset.fingerprint()
        if change:
            assert replace(dataset, **change).fingerprint() != dataset.fingerprint()


def test_a_label_that_nobody_annotated_is_refused(dataset):
    case = with_label(dataset, np.full((6, 5, 3), 9, dtype=np.uint8))
    message = r"a.nii.gz: found 9 \(ignore\) only, expected some of \[0, 2, 7\]"
    with pytest.raises(ValueError, match=message):
        check_case(replace(dataset, ignore_value=9), case)


def test_an_organ_that_one_image_does_not_show():
    labels = np.array([0, 1, 2, IGNORED]).reshape(2, 2, 1)
    image = np.zeros((1, 2, 2, 1))
    for classes, expected in (((2,), [0, 0, 1]), ((3,), [0, 0, 0]), ((1, 2), [0, 1, 1])):
        found = Selection(0, classes).of(image, labels)[1]
        assert found.ravel().tolist() == [*expected, IGNORED]


def test_label_of_another_shape(dataset):
    case = with_label(dataset, np.full((6, 5, 4), 2, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a_0000.* and .*labelsTr.*\(6, 5, 3\) and \(6, 5, 4\)"):
        check_case(dataset, case)


def test_label_of_another_geometry(dataset):
    case = with_label(dataset, np.full((6, 5, 3), 2, dtype=np.uint8), spacing_mm=(1.5, 1.5, 4.0))
    with pytest.raises(ValueError, match="a_0000.* and .*labelsTr.*same positions"):
        check_case(dataset, case)


def test_second_channel_of_another_shape(dataset):
    case = dataset.cases[0]
    write(case.image_paths[1], np.ones((6, 5, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=r"a_0000.* and .*a_0001.*\(6, 5, 3\) and \(6, 5, 2\)"):
        check_case(dataset, case)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(dataset, bad):
    data = np.ones((6, 5, 3), dtype=np.float32)
    data[2, 3, 1] = bad
    write(dataset.cases[0].image_paths[1], data)
    message = "a_0001.nii.gz: found 1 NaN or infinite values, expected finite values only"
    with pytest.raises(ValueError, match=message):
        check_case(dataset, dataset.cases[0])


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_voxels_beyond_float32(dataset):
    write(dataset.cases[0].image_paths[0], np.full((6, 5, 3), 1e39))
    with pytest.raises(ValueError, match="a_0000.nii.gz: found 90 NaN or infinite values"):
        check_case(dataset, dataset.cases[0])


def test_one_slice(dataset):
    case = dataset.cases[0]
    for path in (*case.image_paths, case.label_path):
        write(path, np.full((6, 5, 1), 2, dtype=np.uint8))
    image, labels, _ = load_case(dataset, case)
    assert (image.shape, labels.shape) == ((2, 6, 5, 1), (6, 5, 1))


def write_moved(path, data, shift_mm):
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = shift_mm
    nib.save(nib.Nifti1Image(data, affine), path)


def test_a_label_moved_by_less_than_half_a_voxel_is_noted_and_the_images_affine_is_in_force(
    dataset,
):
    case = dataset.cases[0]
    write_moved(case.label_path, np.full((6, 5, 3), 2, dtype=np.uint8), (0.7, 0, -2.4))
    text = "a.nii.gz: moved against its image by 2.5 mm, less than half a voxel"
    with pytest.warns(UserWarning, match=text) as caught:
        _, labels, affine = load_case(dataset, case)
    assert len(caught) == 1
    np.testing.assert_array_equal(affine, np.diag([*SPACING_MM, 1]))
    assert labels.sum() == 90
    write_moved(case.label_path, np.full((6, 5, 3), 2, dtype=np.uint8), (0.8, 0, 0))
    with pytest.raises(ValueError, match="mm apart"):
        check_case(dataset, case)


def test_a_second_channel_that_is_moved_is_refused(dataset):
    case = dataset.cases[0]
    write_moved(case.image_paths[1], np.ones((6, 5, 3), dtype=np.float32), (0.3, 0, 0))
    with pytest.raises(ValueError, match="a_0000.* and .*a_0001.*: found voxels up to 0.3 mm"):
        check_case(dataset, case)


@pytest.mark.parametrize("which", ["image", "label"])
def test_truncated_file(dataset, which):
    case = dataset.cases[0]
    path = case.label_path if which == "label" else case.image_paths[1]
    data = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    contents = write(path, data).read_bytes()
    path.write_bytes(contents[: len(contents) - 40])
    with pytest.raises(ValueError, match=f"{path.name}: found "):
        check_case(dataset, case)


def test_fingerprint_ignores_the_place(dataset, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    before = dataset.fingerprint()
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert dataset.fingerprint() == before
    dataset.folder.rename(elsewhere)
    case = dataset.cases[0]
    paths = tuple(elsewhere / path.relative_to(dataset.folder) for path in case.image_paths)
    label_path = elsewhere / case.label_path.relative_to(dataset.folder)
    moved = replace(case, image_paths=paths, label_path=label_path)
    assert replace(dataset, folder=elsewhere, cases=(moved,)).fingerprint() == before
    elsewhere.rename(dataset.folder)


@pytest.mark.parametrize("which", ["image", "label", "posterior"])
def test_fingerprint_sees_one_bit(dataset, which):
    posterior_path = write(dataset.folder / "posteriorsTr" / "a.nii.gz", np.ones((6, 5, 3, 3)))
    case = replace(dataset.cases[0], posterior_path=posterior_path)
    dataset = replace(dataset, cases=(case,))
    paths = {"image": case.image_paths[1], "label": case.label_path, "posterior": posterior_path}
    before = dataset.fingerprint()
    contents = bytearray(paths[which].read_bytes())
    contents[-1] ^= 1
    paths[which].write_bytes(contents)
    assert dataset.fingerprint() != before


@pytest.mark.parametrize("field", ["name", "patient", "domain", "split"])
def test_fingerprint_sees_each_field_of_a_case(dataset, field):
    changed = replace(dataset.cases[0], **{field: "test"})
    assert replace(dataset, cases=(changed,)).fingerprint() != dataset.fingerprint()


@pytest.mark.parametrize(
    "change", [{"channels": ("T1", "T")}, {"segments": ("x", "z")}, {"label_values": (0, 2, 8)}]
)
def test_fingerprint_sees_channels_and_classes(dataset, change):
    assert replace(dataset, **change).fingerprint() != dataset.fingerprint()


def test_fingerprint_sees_swapped_channels(dataset):
    case = dataset.cases[0]
    swapped = replace(case, image_paths=case.image_paths[::-1])
    assert replace(dataset, cases=(swapped,)).fingerprint() != dataset.fingerprint()
