"""Predictions of every form come back on the label's grid, in the label's classes."""

import itertools
import json
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import io_orientation

import segcal_lite.data.predictions as room
from segcal_lite.data.labels import LabelNames, region_labels
from segcal_lite.data.predictions import (
    grid_of_prediction,
    open_predictions,
    orders,
    read_prediction,
)
from segcal_lite.data.predictions.arrays import settle_classes, settle_regions, with_background
from segcal_lite.data.volumes import Volume, read_label, write_volume

NAMES = LabelNames(("a", "b"), (0, 1, 2))
REGIONS = LabelNames(("whole", "core"), (0, 1, 2), ((1, 2), (2,)), (1, 2))
LPS = np.array([[-1.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 3, -5], [0, 0, 0, 1]])
TURNED = np.array([[0, 0, -3.0, 7], [1, 0, 0, 8], [0, 2, 0, 9], [0, 0, 0, 1]])  # axes permuted too
SHAPE = (7, 6, 5)


def random_probs(shape=SHAPE, n_classes=3, seed=0):
    """Class probabilities of a lopsided blob, so that every turn of it is another one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_classes, *shape))
    logits[0] += 2
    logits[1, 1:4, 1:3, 1:3] += 6
    logits[-1, 1:3, 3:5, 2:4] += 6
    exp = np.exp(logits)
    return (exp / exp.sum(axis=0)).astype(np.float32)


def random_regions(shape=SHAPE, seed=0):
    probs = random_probs(shape, seed=seed)
    return np.stack([probs[1:].sum(axis=0), probs[2]]).clip(0, 1)


def painted(inside, order=(1, 2)):
    """The label map that nnU-Net writes of regions."""
    classes = np.zeros(inside.shape[1:], dtype=np.uint8)
    for region, left in zip(inside, order, strict=True):
        classes[region > 0.5] = left
    return classes


def to_ras(array, affine):
    """An array (C, X, Y, Z) as nnU-Net's reorienting reader has it, made by nibabel alone."""
    turned = [
        nib.Nifti1Image(one, affine).as_reoriented(io_orientation(affine)).get_fdata(dtype="f4")
        for one in array
    ]
    return np.stack(turned)


def write_nnunet(folder, probs, affine=LPS, case="c1", reader="SimpleITKIO", **options):
    """Write what nnU-Net v2 leaves of one case; `segmentation` None leaves none beside."""
    folder.mkdir(exist_ok=True)
    stored = to_ras(probs, affine) if "Reorient" in reader else probs
    stored = stored.transpose(0, 3, 2, 1).astype(options.get("dtype", "f4"))
    np.savez_compressed(folder / f"{case}.npz", **{options.get("key", "probabilities"): stored})
    segmentation = options.get("segmentation", probs.argmax(axis=0).astype(np.uint8))
    if segmentation is not None:
        write_volume(folder / f"{case}.nii.gz", segmentation, affine)
    if reader:
        (folder / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
    return folder


def describe(folder, labels, **more):
    fields = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"} | more
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(fields))


def grid(affine=LPS, shape=SHAPE):
    return Volume(np.zeros(shape, np.uint8), affine, "label.nii.gz")


def read(folder, names=NAMES, on=None, case="c1"):
    return read_prediction(open_predictions(folder, names), case, on or grid())


# ---- forms


def test_the_face_hands_on_what_it_names():
    assert all(getattr(room, name) is not None for name in room.__all__)


def test_nnunet(tmp_path):
    probs = random_probs()
    (write_nnunet(tmp_path, probs) / "c1.pkl").write_bytes(b"never read")
    folder = open_predictions(tmp_path, NAMES)
    assert (folder.form, folder.cases, folder.reader) == ("nnunet", ("c1",), "SimpleITKIO")
    found = read_prediction(folder, "c1", grid())
    np.testing.assert_array_equal(found.probs, probs)
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))
    assert found.probs.dtype == np.float32 and found.probs.flags.c_contiguous
    assert found.predicted.dtype.kind == "i"
    assert not any(found.counts.values()) and found.notes == ()
    assert grid_of_prediction(folder, "c1").grid_shape == SHAPE


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path):
    probs, two_letters, one_letter = random_probs(), "mu\u0308ller", "m\u00fcller"
    folder = open_predictions(write_nnunet(tmp_path, probs, case=two_letters), NAMES)
    assert folder.cases == (one_letter,)
    np.testing.assert_array_equal(read_prediction(folder, one_letter, grid()).probs, probs)
    assert len(folder.files_of(one_letter)) == 2


def test_nnunet_of_regions(tmp_path):
    inside = random_regions()
    write_nnunet(tmp_path, inside, segmentation=painted(inside))
    found = read(tmp_path, REGIONS)
    np.testing.assert_array_equal(found.probs, np.stack([1 - inside, inside]))
    np.testing.assert_array_equal(found.predicted, inside > 0.5)
    assert found.notes == ()


def test_nnunet_v1(tmp_path):
    probs = random_probs()
    write_nnunet(tmp_path, probs, key="softmax", dtype="f2", reader="")
    found = read(tmp_path)
    assert open_predictions(tmp_path, NAMES).form == "nnunet_v1"
    np.testing.assert_allclose(found.probs, probs, atol=1e-3)
    np.testing.assert_allclose(found.probs.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_one_4d_file_a_case(tmp_path, suffix):
    probs = random_probs()
    write_volume(tmp_path / f"c1{suffix}", probs, LPS)
    folder = open_predictions(tmp_path, NAMES)
    assert folder.form == "nifti_4d"
    np.testing.assert_array_equal(read_prediction(folder, "c1", grid()).probs, probs)
    place = grid_of_prediction(folder, "c1")
    assert place.grid_shape == place.data.shape == SHAPE


@pytest.mark.parametrize("with_background", [True, False])
@pytest.mark.parametrize("between", ["_class", "_class_", "_class-"])
def test_one_file_a_class(tmp_path, with_background, between):
    probs = random_probs()
    for k in range(0 if with_background else 1, 3):
        write_volume(tmp_path / f"c1{between}{k}.nii.gz", probs[k], LPS)
    folder = open_predictions(tmp_path, NAMES)
    assert (folder.form, folder.cases) == ("nifti_classes", ("c1",))
    found = read_prediction(folder, "c1", grid())
    np.testing.assert_allclose(found.probs, probs, atol=1e-6)
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))
    assert grid_of_prediction(folder, "c1").grid_shape == SHAPE


def test_two_files_of_one_class_are_refused(tmp_path):
    probs = random_probs()
    for name, k in (("c1_class1", 1), ("c1_class01", 2), ("c1_class2", 2)):
        write_volume(tmp_path / f"{name}.nii.gz", probs[k], LPS)
    folder = open_predictions(tmp_path, NAMES)
    with pytest.raises(ValueError, match="c1: found c1_class0?1.nii.gz and .*, expected one vol"):
        read_prediction(folder, "c1", grid())


def test_cases_of_hard_labels_may_be_called_like_classes(tmp_path):
    """A whole set of classes, or a known case, tells; one segment has sets of a single file."""
    classes = random_probs().argmax(axis=0).astype(np.uint8)
    for name in ("c1", "c1_class1", "c2_class1"):
        write_volume(tmp_path / f"{name}.nii.gz", classes, LPS)
    folder = open_predictions(tmp_path, NAMES)
    assert (folder.form, folder.cases) == ("labels", ("c1", "c1_class1", "c2_class1"))
    one_segment = LabelNames(("a",), (0, 1))
    assert open_predictions(tmp_path, one_segment).form == "nifti_classes"
    known = open_predictions(tmp_path, one_segment, known=["c1_class1", "c2_class1"])
    assert (known.form, known.cases) == (folder.form, folder.cases)
    assert open_predictions(tmp_path, NAMES, known=["c2"]).form == "nifti_classes"
    write_volume(tmp_path / "c2_class2.nii.gz", classes, LPS)
    assert open_predictions(tmp_path, NAMES).form == "nifti_classes"


def test_one_file_a_region(tmp_path):
    inside = random_regions()
    write_volume(tmp_path / "c1_class0.nii.gz", 1 - inside[0], LPS)  # no region
    for number, one in enumerate(inside, start=1):
        write_volume(tmp_path / f"c1_class{number}.nii.gz", one, LPS)
    np.testing.assert_array_equal(read(tmp_path, REGIONS).probs[1], inside)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy(tmp_path, dtype, order):
    probs = random_probs()
    np.save(tmp_path / "c1.npy", np.asarray(probs.astype(dtype), order=order))
    found = read(tmp_path)
    np.testing.assert_allclose(found.probs, probs, atol=1e-3 if dtype == "f2" else 1e-7)
    assert found.counts["is_float16"] == (dtype == "f2")
    assert any("could not be checked" in note for note in found.notes)


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_endings_in_capitals(tmp_path, ending):
    """Arrays that were passed over would leave the segmentation beside them: hard labels."""
    probs = random_probs()
    write_nnunet(tmp_path, probs)
    (tmp_path / "c1.npz").rename(tmp_path / "c1.NPZ")
    (tmp_path / "c1.nii.gz").rename(tmp_path / "c1.NII.GZ")
    if ending == ".npy":
        np.save(tmp_path / "c1.npy", probs)
        (tmp_path / "c1.npy").rename(tmp_path / "c1.NPY")
        (tmp_path / "c1.NPZ").unlink()
    folder = open_predictions(tmp_path, NAMES)
    assert (folder.form, folder.cases) == ("nnunet" if ending == ".npz" else "numpy", ("c1",))
    np.testing.assert_array_equal(read_prediction(folder.only("c1"), "c1", grid()).probs, probs)
    beside = [tmp_path / f"c1{ending.upper()}", tmp_path / "c1.NII.GZ"]
    assert folder.only("c1").files_of("c1") == beside


ONE_CLASS = LabelNames(("a",), (0, 1))
ONE_REGION = LabelNames(("whole",), (0, 1, 2), ((1, 2),), (1,))


def write_one_channel(folder, p, form):
    """One channel of probabilities (X, Y, Z) in each form that has no other."""
    if form == ".npy":
        np.save(folder / "c1.npy", p[np.newaxis])
    elif form == ".nrrd":
        sitk = pytest.importorskip("SimpleITK")
        image = sitk.GetImageFromArray(p.T)
        image.SetSpacing((1, 2, 3))
        image.SetOrigin((-30, -40, -5))
        sitk.WriteImage(image, str(folder / "c1.nrrd"))
    else:
        write_volume(folder / "c1.nii.gz", p if form == "X, Y, Z" else p[np.newaxis], LPS)


@pytest.mark.parametrize("form", ["X, Y, Z", "X, Y, Z, 1", ".npy", ".nrrd"])
@pytest.mark.parametrize("names", [ONE_CLASS, ONE_REGION], ids=["class", "region"])
def test_one_channel_of_one_segment(tmp_path, names, form):
    p = random_regions()[0]
    write_one_channel(tmp_path, p, form)
    found = read(tmp_path, names)
    np.testing.assert_allclose(found.probs.reshape(2, *SHAPE), [1 - p, p], atol=1e-7)
    np.testing.assert_array_equal(found.predicted.reshape(SHAPE), p > 0.5)
    told = any("one channel was taken" in note for note in found.notes)
    assert told == (form != ".npy" or names is ONE_CLASS)
    folder = open_predictions(tmp_path, names)
    assert form == ".npy" or grid_of_prediction(folder, "c1").grid_shape == SHAPE


def test_one_channel_of_nnunet_has_to_be_its_segmentation_as_well(tmp_path):
    p = random_regions()[0]
    write_nnunet(tmp_path, p[np.newaxis], segmentation=(p > 0.5).astype(np.uint8))
    found = read(tmp_path, ONE_CLASS)
    np.testing.assert_allclose(found.probs, [1 - p, p], atol=1e-7)
    assert len(found.notes) == 1 and "one channel" in found.notes[0]


@pytest.mark.parametrize("names", [ONE_CLASS, ONE_REGION], ids=["class", "region"])
def test_labels_of_one_segment_may_be_stored_as_floats(tmp_path, names):
    """An empty case tells nothing; the first that is not says that all are labels."""
    labels = (random_regions()[0] > 0.5).astype(np.float32)
    write_volume(tmp_path / "c0.nii.gz", np.zeros(SHAPE, np.float32), LPS)
    (tmp_path / "c00.nii.gz").write_bytes(b"broken")
    write_volume(tmp_path / "c1.nii.gz", labels, LPS)
    assert open_predictions(tmp_path, names).form == "labels"
    np.testing.assert_array_equal(read(tmp_path, names).predicted.reshape(SHAPE), labels)
    write_volume(tmp_path / "c0.nii.gz", labels * 0.5, LPS)
    assert open_predictions(tmp_path, names).form == "nifti_4d"


def test_hard_labels(tmp_path):
    classes = random_probs().argmax(axis=0).astype(np.uint8)
    write_volume(tmp_path / "c1.nii.gz", classes, LPS)
    folder = open_predictions(tmp_path, NAMES)
    found = read_prediction(folder, "c1", grid())
    assert folder.form == "labels" and found.probs is None
    np.testing.assert_array_equal(found.predicted, classes)
    regions = read(tmp_path, REGIONS)
    np.testing.assert_array_equal(regions.predicted, region_labels(classes, REGIONS.regions))


@pytest.mark.parametrize("form", ["4D", "uint8", "numpy", "nnunet", "a file a class", "regions"])
def test_a_channel_a_class_of_0_and_1_is_noted(tmp_path, form):
    """It may be hard labels, which is for who sees all cases to tell."""
    hard = np.moveaxis(np.eye(3, dtype=np.float32)[random_probs().argmax(axis=0)], 3, 0)
    names = REGIONS if form == "regions" else NAMES
    if form == "nnunet":
        write_nnunet(tmp_path, hard)
    elif form == "numpy":
        np.save(tmp_path / "c1.npy", hard)
    elif form == "a file a class":
        for k in (1, 2):
            write_volume(tmp_path / f"c1_class{k}.nii.gz", hard[k], LPS)
    else:
        stored = np.stack([hard[1:].sum(axis=0), hard[2]]) if form == "regions" else hard
        stored = stored.astype(np.uint8) if form == "uint8" else stored
        write_volume(tmp_path / "c1.nii.gz", stored, LPS)
    found = read(tmp_path, names)
    assert found.counts["is_one_hot"] == 1 and found.probs is not None
    assert any(note.startswith("only 0 and 1: hard labels") for note in found.notes)
    folder = replace(open_predictions(tmp_path, names), is_one_hot=True)
    as_hard = read_prediction(folder, "c1", grid())
    assert as_hard.probs is None and not folder.has_probabilities
    np.testing.assert_array_equal(as_hard.predicted, found.predicted)


def test_one_voxel_of_doubt_makes_probabilities(tmp_path):
    hard = np.moveaxis(np.eye(3, dtype=np.float32)[random_probs().argmax(axis=0)], 3, 0)
    for names, stored in ((NAMES, hard), (REGIONS, hard[1:])):
        stored = stored.copy()
        for doubt in ([0.5, 0.25, 0.25], [1, 1e-20, 0]):
            stored[:, 3, 3, 3] = doubt[-len(stored) :]
            np.save(tmp_path / "c1.npy", stored)
            found = read(tmp_path, names)
            assert not found.counts["is_one_hot"]
            assert not any("only 0 and 1" in note for note in found.notes)


def test_hard_labels_of_another_ending_and_values(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    classes = random_probs().argmax(axis=0).astype(np.uint8)
    image = sitk.GetImageFromArray(np.array([0, 1, 5], np.uint8)[classes].T)
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((-30, -40, -5))
    sitk.WriteImage(image, str(tmp_path / "c1.nrrd"))
    found = read(tmp_path, LabelNames(("a", "b"), (0, 1, 5)))
    np.testing.assert_array_equal(found.predicted, classes)


# ---- what nnU-Net's versions leave


def test_older_nnunet_leaves_nothing_outside_its_crop(tmp_path):
    probs = random_probs()
    probs[:, :, :, 4] = np.array([1, 0, 0])[:, np.newaxis, np.newaxis]
    stored = probs.copy()
    stored[0, :, :, 4] = 0
    write_nnunet(tmp_path, stored, dtype="f2")
    found = read(tmp_path)
    assert found.counts["n_all_zero"] == 7 * 6
    assert (found.probs[0, :, :, 4] == 1).all() and (found.predicted[:, :, 4] == 0).all()
    assert found.counts["is_float16"] == found.counts["is_rescaled"] == 1
    assert len(found.notes) == 3
    np.testing.assert_allclose(found.probs.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(found.probs, probs, atol=1e-3)


def test_newer_nnunet_leaves_background_there(tmp_path):
    probs = random_probs()
    probs[:, :, :, 4] = np.array([1, 0, 0])[:, np.newaxis, np.newaxis]
    write_nnunet(tmp_path, probs)
    found = read(tmp_path)
    assert found.counts["n_all_zero"] == 0 and found.notes == ()


def test_float16_on_the_way_to_float32(tmp_path):
    """As the mean of members of older versions, or of a network in mixed precision."""
    probs = np.mean([random_probs(seed=s).astype(np.float16) for s in (0, 1)], axis=0, dtype="f4")
    np.save(tmp_path / "c1.npy", probs)
    found = read(tmp_path)
    assert {name for name, n in found.counts.items() if n} == {"is_rescaled"}


@pytest.mark.parametrize("form", ["slope", "own slope", "4D", "a file a class"])
def test_probabilities_of_8_bits_are_scaled_to_sums_of_1(tmp_path, form):
    """Five classes miss a sum of 1 by more than 16 bits would."""
    probs = random_probs(n_classes=5)
    probs = (probs**0.3 / (probs**0.3).sum(axis=0)).astype(np.float32)
    names = LabelNames(tuple("abcd"), (0, 1, 2, 3, 4))
    rounded = np.rint(255 * probs)
    if form == "slope":
        image = nib.Nifti1Image(np.moveaxis(rounded, 0, 3).astype(np.uint8), LPS)
        nib.save(image, tmp_path / "c1.nii")
        content = bytearray((tmp_path / "c1.nii").read_bytes())
        content[112:120] = struct.pack("<ff", 1 / 255, 0)  # scl_slope, scl_inter
        (tmp_path / "c1.nii").write_bytes(content)
    elif form == "own slope":
        image = nib.Nifti1Image(np.moveaxis(probs, 0, 3), LPS)
        image.set_data_dtype(np.uint8)
        nib.save(image, tmp_path / "c1.nii.gz")
    elif form == "4D":
        write_volume(tmp_path / "c1.nii.gz", (rounded / 255).astype(np.float32), LPS)
    else:
        for k, one in enumerate(rounded):
            write_volume(tmp_path / f"c1_class{k}.nii.gz", (one / 255).astype(np.float32), LPS)
    found = read(tmp_path, names)
    np.testing.assert_allclose(found.probs, probs, atol=0.008)
    np.testing.assert_allclose(found.probs.sum(axis=0), 1, atol=1e-6)
    assert any("as 8 or 16 bits leave them" in note for note in found.notes)


def test_regions_of_0_are_certainly_outside(tmp_path):
    inside = random_regions()
    inside[:, 0] = 0
    write_nnunet(tmp_path, inside, segmentation=painted(inside))
    found = read(tmp_path, REGIONS)
    assert found.counts["n_all_zero"] == 6 * 5
    assert (found.probs[0, :, 0] == 1).all()


@pytest.mark.parametrize("with_regions", [False, True])
def test_a_crop_of_v1_is_placed_by_its_foreground(tmp_path, with_regions):
    box = (slice(None), slice(1, 6), slice(0, 5), slice(1, 5))
    whole = random_regions() if with_regions else random_probs()
    full = np.zeros_like(whole)
    full[0] = 0 if with_regions else 1
    full[box] = whole[box]
    segmentation = painted(full) if with_regions else full.argmax(axis=0).astype(np.uint8)
    write_nnunet(tmp_path, full[box], key="softmax", reader="", segmentation=None)
    write_volume(tmp_path / "c1.nii.gz", segmentation, LPS)
    found = read(tmp_path, REGIONS if with_regions else NAMES)
    np.testing.assert_array_equal(found.probs[1] if with_regions else found.probs, full)
    assert found.counts["n_all_zero"] == 7 * 6 * 5 - 5 * 5 * 4
    assert any("placed by its foreground" in note for note in found.notes)


def islands(place, value=1):
    """Classes of a blob in a crop, and an island apart from it."""
    classes = np.zeros((12, 11, 10), np.uint8)
    classes[4:8, 4:7, 4:6] = 1
    classes[5, 5, 4:6] = 2
    classes[place] = value
    return classes


def write_crop(folder, classes, segmentation, box):
    """Write a crop of nnU-Net v1 beside a segmentation that is postprocessed."""
    probs = np.moveaxis(np.eye(3, dtype=np.float32)[classes] * 0.9 + 0.1 / 3, 3, 0)
    write_nnunet(folder, probs[(slice(None), *box)], key="softmax", reader="", segmentation=None)
    write_volume(folder / "c1.nii.gz", segmentation, LPS)
    return probs


BOX = (slice(1, 11), slice(1, 10), slice(1, 9))


@pytest.mark.parametrize("place", [(1, 2, 1), (9, 8, 8), (1, 8, 4), (5, 5, 1)])
def test_an_island_that_postprocessing_removed_moves_no_crop(tmp_path, place):
    classes, kept = islands(place), islands(place, 0)
    probs = write_crop(tmp_path, classes, kept, BOX)
    found = read(tmp_path, on=grid(shape=classes.shape))
    box = (slice(None), *BOX)
    np.testing.assert_array_equal(found.probs[box], probs[box])
    np.testing.assert_array_equal(found.predicted, classes)
    assert found.counts["n_differ"] == 1


def test_a_crop_that_fits_at_several_places_is_refused(tmp_path):
    classes = np.zeros((12, 11, 10), np.uint8)
    classes[2:4, 4:6, 4:6] = classes[6:8, 4:6, 4:6] = 1
    kept = classes.copy()
    kept[2:4] = 0
    write_crop(tmp_path, classes, kept, (slice(1, 8), *BOX[1:]))
    with pytest.raises(ValueError, match="a crop that fits at 2 places of its grid"):
        read(tmp_path, on=grid(shape=classes.shape))


def test_a_crop_of_v1_without_foreground_lies_nowhere(tmp_path):
    probs = np.zeros((3, 4, 4, 4), np.float32)
    probs[0] = 1
    write_nnunet(tmp_path, probs, key="softmax", reader="", segmentation=None)
    write_volume(tmp_path / "c1.nii.gz", np.zeros(SHAPE, np.uint8), LPS)
    with pytest.raises(ValueError, match="without foreground, expected foreground, which tells"):
        read(tmp_path)


def test_no_region_anywhere_is_a_prediction(tmp_path):
    write_nnunet(tmp_path, np.zeros((2, *SHAPE), np.float32), segmentation=np.zeros(SHAPE, "u1"))
    assert not read(tmp_path, REGIONS).predicted.any()


# ---- orders of voxels

AFFINES = {"LPS": LPS, "turned": TURNED, "RAS": np.diag([1.0, 2, 3, 1])}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("told", [True, False])
def test_a_reorienting_reader_is_found_out(tmp_path, affine, told):
    probs = random_probs()
    write_nnunet(tmp_path, probs, affine, reader="NibabelIOWithReorient")
    if not told:
        (tmp_path / "plans.json").unlink()
    found = read(tmp_path, on=grid(affine))
    np.testing.assert_array_equal(found.probs, probs)
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))


def test_simpleitks_reorienting_reader(tmp_path):
    """Written by SimpleITK alone, as that reader of nnU-Net does."""
    sitk = pytest.importorskip("SimpleITK")
    probs = random_probs()
    write_nnunet(tmp_path, probs, TURNED)
    image = sitk.ReadImage(str(tmp_path / "c1.nii.gz"))
    stored = []
    for one in probs:
        copy = sitk.GetImageFromArray(one.T)
        copy.CopyInformation(image)
        stored.append(sitk.GetArrayFromImage(sitk.DICOMOrient(copy, "RAS")))
    np.savez(tmp_path / "c1.npz", probabilities=np.stack(stored))
    plans = {"image_reader_writer": "SimpleITKIOWithReorient"}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    np.testing.assert_array_equal(read(tmp_path, on=grid(TURNED)).probs, probs)
    (tmp_path / "c1.nii.gz").unlink()
    np.testing.assert_array_equal(read(tmp_path, on=grid(TURNED)).probs, probs)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_reader_that_plans_name_wrongly(tmp_path, affine):
    probs = random_probs()
    write_nnunet(tmp_path, probs, affine)
    plans = {"image_reader_writer": "NibabelIOWithReorient"}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    np.testing.assert_array_equal(read(tmp_path, on=grid(affine)).probs, probs)


def test_without_a_segmentation_the_reader_decides_and_it_is_told(tmp_path):
    probs = random_probs()
    for number, affine in enumerate((LPS, TURNED)):  # flips, which no shape tells, and axes
        folder = tmp_path / str(number)
        write_nnunet(folder, probs, affine, reader="NibabelIOWithReorient", segmentation=None)
        found = read(folder, on=grid(affine))
        np.testing.assert_array_equal(found.probs, probs)
    assert found.notes == (
        "no segmentation beside the array, so the order of its voxels could not be checked",
    )


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_segmentation_that_fits_two_orders_settles_none_and_it_is_told(tmp_path, is_empty):
    classes = np.zeros(SHAPE, np.uint8)
    classes[2:5, 2:4, 1:4] = 0 if is_empty else 1
    write_nnunet(tmp_path, sure_probs(classes, 2))
    found = read(tmp_path, LabelNames(("a",), (0, 1)))
    assert len(found.notes) == 1 and "fits several orders" in found.notes[0]
    np.testing.assert_array_equal(found.probs, sure_probs(classes, 2))


@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=3)))
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_another_order_of_axes_is_turned_to_the_labels(tmp_path, flips, axes):
    probs = random_probs()
    orientation = np.column_stack([axes, flips])
    shape = nib.orientations.apply_orientation(probs[0], orientation).shape
    back = nib.orientations.inv_ornt_aff(orientation, SHAPE)
    write_volume(tmp_path / "c1.nii.gz", probs, LPS)
    found = read(tmp_path, on=grid(LPS @ back, shape))
    expected = [nib.orientations.apply_orientation(one, orientation) for one in probs]
    np.testing.assert_array_equal(found.probs, expected)
    np.testing.assert_array_equal(found.predicted, np.argmax(expected, axis=0))
    assert found.probs.flags.c_contiguous


def test_hard_labels_and_nnunet_are_turned_as_well(tmp_path):
    probs = random_probs()
    write_nnunet(tmp_path / "n", probs, TURNED)
    write_volume(tmp_path / "c1.nii.gz", probs.argmax(axis=0).astype(np.uint8), TURNED)
    label = nib.as_closest_canonical(nib.load(tmp_path / "c1.nii.gz"))
    on = Volume(np.asarray(label.dataobj), label.affine, "label")
    for folder in (tmp_path, tmp_path / "n"):
        np.testing.assert_array_equal(read(folder, on=on).predicted, on.data)
    np.testing.assert_array_equal(read(tmp_path / "n", on=on).probs, to_ras(probs, TURNED))


def test_a_label_moved_by_less_than_half_a_voxel(tmp_path):
    moved = LPS.copy()
    moved[0, 3] += 0.3
    write_nnunet(tmp_path, random_probs())
    told = (
        "moved against its label by 0.3 mm, less than half a voxel; the label's place is in force"
    )
    assert read(tmp_path, on=grid(moved)).notes == (f"header of the prediction: {told}.",)


@settings(max_examples=50)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([1, -1])] * 3), st.integers(0, 2))
def test_turned_is_nibabels_orientation(axes, flips, n_leading):
    array = np.arange(2**n_leading * 24).reshape(*(2,) * n_leading, 2, 3, 4)
    orientation = np.column_stack([axes, flips])
    expected = nib.orientations.apply_orientation(
        np.moveaxis(array, range(n_leading), range(-n_leading, 0)), orientation
    )
    expected = np.moveaxis(expected, range(-n_leading, 0), range(n_leading))
    np.testing.assert_array_equal(orders.turned(array, orientation), expected)


# ---- postprocessing


def blobs():
    """A large component of class 1 with a hole, a small one, and one of class 2."""
    classes = np.zeros((10, 8, 6), dtype=np.uint8)
    classes[1:5, 1:5, 1:4] = 1
    classes[2, 2, 2] = 0
    classes[8, 6, 4] = classes[8, 6, 5] = 1
    classes[5:7, 1:3, 1:3] = 2
    return classes


def sure_probs(classes, n_classes=3):
    probs = np.full((n_classes, *classes.shape), 0.2 / (n_classes - 1), dtype=np.float32)
    np.put_along_axis(probs, classes[np.newaxis], 0.8, axis=0)
    return probs


def postprocessed(tmp_path, change):
    """What comes back where the segmentation beside is the arg max after `change`."""
    classes = blobs()
    segmentation = classes.copy()
    change(segmentation)
    write_nnunet(tmp_path, sure_probs(classes), segmentation=segmentation)
    found = read(tmp_path, on=grid(shape=classes.shape))
    np.testing.assert_array_equal(found.predicted, classes)
    return found


@pytest.mark.parametrize(
    ("place", "value", "n_differ"),
    [((8, 6), 0, 2), ((8, 6), 2, 2), ((slice(5, 7), slice(1, 3), slice(1, 3)), 1, 8)],
)
def test_components_that_postprocessing_changed_are_counted(tmp_path, place, value, n_differ):
    def change(segmentation):
        segmentation[place] = np.where(segmentation[place] > 0, value, 0)

    found = postprocessed(tmp_path, change)
    assert found.counts["n_differ"] == n_differ
    assert any("postprocessed" in note for note in found.notes)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((8, 6, 4), 0),
        ((0, 0, 0), 1),
        (slice(None), 0),
        ((slice(1, 3), slice(1, 5)), 2),
        ((2, 2, 2), 1),
    ],
    ids=["half a component", "added", "nothing is left", "half an organ", "a hole filled"],
)
def test_what_postprocessing_does_not_explain_is_refused(tmp_path, place, value):
    def change(segmentation):
        segmentation[place] = value

    with pytest.raises(ValueError, match="another segmentation than its arg max in [0-9.]+ %"):
        postprocessed(tmp_path, change)


def test_a_flip_that_is_nobodys_order_is_refused_with_its_share(tmp_path):
    probs = random_probs()
    write_nnunet(tmp_path, probs, segmentation=probs.argmax(axis=0)[:, ::-1].astype(np.uint8))
    with pytest.raises(ValueError, match="c1.nii.gz beside c1.npz: found another .* or .* turned"):
        read(tmp_path)


@pytest.mark.parametrize("with_regions", [False, True])
def test_a_tie_by_float16_is_no_other_segmentation(tmp_path, with_regions):
    names = REGIONS if with_regions else NAMES
    exact = random_regions() if with_regions else random_probs()
    exact[:, 3, 3, 3] = (0.50001, 0.2) if with_regions else (0.49999, 0.50001, 0)
    segmentation = painted(exact) if with_regions else exact.argmax(axis=0).astype(np.uint8)
    write_nnunet(tmp_path, exact, dtype="f2", segmentation=segmentation)
    found = read(tmp_path, names)
    assert found.counts["n_differ"] == 0
    assert found.predicted.reshape(-1, *SHAPE)[0, 3, 3, 3] == 0 != segmentation[3, 3, 3]


# ---- classes by name


def test_classes_in_another_order_are_mapped_by_name(tmp_path):
    probs = random_probs()
    theirs = probs[[0, 2, 1]]
    write_nnunet(tmp_path / "n", theirs)
    write_volume(tmp_path / "c1.nii.gz", theirs.argmax(axis=0).astype(np.uint8), LPS)
    for folder in (tmp_path, tmp_path / "n"):
        describe(folder, {"background": 0, "b": 1, "a": 2})
        found = read(folder)
        np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))
    np.testing.assert_array_equal(found.probs, probs)


def test_three_classes_in_a_cycle_are_mapped_by_name(tmp_path):
    """Two that change places would not tell a mapping from its inverse."""
    probs = random_probs(n_classes=4)
    theirs = probs[[0, 2, 3, 1]]
    write_nnunet(tmp_path, theirs)
    describe(tmp_path, {"background": 0, "b": 1, "c": 2, "a": 3})
    found = read(tmp_path, LabelNames(("a", "b", "c"), (0, 1, 2, 3)))
    np.testing.assert_array_equal(found.probs, probs)
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))


def test_regions_in_another_order_are_mapped_by_name(tmp_path):
    inside = random_regions()
    names = LabelNames(("core", "whole"), (0, 1, 2), ((2,), (1, 2)), (2, 1))
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    write_nnunet(tmp_path, inside, segmentation=painted(inside))
    describe(tmp_path, labels, regions_class_order=[1, 2])
    found = read(tmp_path, names)
    np.testing.assert_array_equal(found.probs[1], inside[::-1])
    np.testing.assert_array_equal(found.predicted, inside[::-1] > 0.5)
    (tmp_path / "c1.npz").unlink()
    hard = read(tmp_path, names)
    expected = region_labels(painted(inside), ((2,), (1, 2)))
    np.testing.assert_array_equal(hard.predicted, expected)


def test_classes_are_added_up_to_the_regions_that_the_labels_have(tmp_path):
    """Region by region the sum of its classes, above one half also where no class of it leads."""
    probs = random_probs()
    probs[:, 0, 0, 0] = 0.4, 0.3, 0.3
    write_nnunet(tmp_path, probs)
    describe(tmp_path, {"background": 0, "oedema": 1, "core": 2})
    found = read(tmp_path, REGIONS)  # whole: 1 and 2, core: 2
    np.testing.assert_allclose(found.probs[1], [probs[1] + probs[2], probs[2]], atol=1e-6)
    np.testing.assert_allclose(found.probs.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(found.predicted, found.probs[1] > 0.5)
    assert found.predicted[:, 0, 0, 0].tolist() == [1, 0]
    assert any("added up" in note for note in found.notes)
    (tmp_path / "c1.npz").unlink()
    hard = read(tmp_path, REGIONS)
    classes = probs.argmax(axis=0)
    np.testing.assert_array_equal(hard.predicted, [classes > 0, classes == 2])


def test_an_ignore_label_is_no_class_of_a_prediction(tmp_path):
    probs = random_probs()
    write_nnunet(tmp_path, probs)
    describe(tmp_path, {"background": 0, "a": 1, "b": 2, "ignore": 3})
    names = LabelNames(("a", "b"), (0, 1, 2), ignore_value=3)
    np.testing.assert_array_equal(read(tmp_path, names).probs, probs)


def test_the_segmentation_beside_gives_the_grid_of_a_new_case(tmp_path):
    write_nnunet(tmp_path, random_probs())
    folder = open_predictions(tmp_path, NAMES)
    place = grid_of_prediction(folder, "c1")
    np.testing.assert_array_equal(place.data, read_label(tmp_path / "c1.nii.gz").data)
    np.testing.assert_array_equal(read_prediction(folder, "c1", place).predicted, place.data)


def test_what_rounding_has_put_above_1_is_cut():
    counts = {"n_all_zero": 0}
    probs = np.array([[1.00005, 0.25], [0, 0.75]], dtype=np.float32)
    settle_classes("a.npz", probs, counts, [])
    assert probs.tolist() == [[1, 0.25], [0, 0.75]]
    probs = np.array([[1.00005, 0.25], [0.5, 0.75]], dtype=np.float32)
    settle_regions("a.npz", probs, counts, [])
    assert probs.max() == 1 and counts == {"n_all_zero": 0}


def test_one_channel_above_1_by_rounding_leaves_classes_that_add_up(tmp_path):
    probs = with_background("a.npz", np.array([[1.00005, 0.25]], dtype=np.float32), [])
    settle_classes("a.npz", probs, {"n_all_zero": 0}, [])
    assert probs.tolist() == [[0, 0.75], [1, 0.25]]
