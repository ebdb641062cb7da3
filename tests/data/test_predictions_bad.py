"""Predictions that are wrong, damaged or hostile: one sentence each, and little memory."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_predictions import (
    LPS,
    NAMES,
    REGIONS,
    SHAPE,
    describe,
    grid,
    random_probs,
    random_regions,
    read,
    write_nnunet,
)

from segcal_lite.data.labels import LabelNames
from segcal_lite.data.predictions import grid_of_prediction, open_predictions, read_prediction
from segcal_lite.data.volumes import write_volume

STORED = (3, *SHAPE[::-1])


def one_sentence(error, *parts):
    text = str(error.value)
    assert "found" in text and "expected" in text and "\n" not in text
    for part in parts:
        assert part in text, text
    return text


def refused(folder, *parts, names=NAMES, on=None):
    with pytest.raises(ValueError) as error:
        read(folder, names, on)
    return one_sentence(error, *parts)


def npy_bytes(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def header_bytes(shape, descr="<f4"):
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def write_npz(folder, raw, key="probabilities", packing=zipfile.ZIP_DEFLATED):
    """An npz whose one member holds any bytes, beside a segmentation."""
    with zipfile.ZipFile(folder / "c1.npz", "w", packing) as archive:
        archive.writestr(f"{key}.npy", raw)
    write_volume(folder / "c1.nii.gz", np.zeros(SHAPE, np.uint8), LPS)
    return folder


# ---- folders


def test_no_folder_and_nothing_in_it(tmp_path):
    for folder, part in ((tmp_path / "x", "no such folder"), (tmp_path, "no prediction")):
        with pytest.raises(ValueError) as error:
            open_predictions(folder, NAMES)
        one_sentence(error, str(folder), part)


def test_mixtures_are_told(tmp_path):
    np.save(tmp_path / "a.npy", random_probs())
    np.savez(tmp_path / "b.npz", probabilities=random_probs())
    with pytest.raises(ValueError, match="found .npz and .npy, expected predictions of one form"):
        open_predictions(tmp_path, NAMES)
    (tmp_path / "b.npz").unlink()
    write_volume(tmp_path / "a_class1.nii.gz", random_probs()[1], LPS)
    with pytest.raises(ValueError, match="found .npy and one volume a class"):
        open_predictions(tmp_path, NAMES, known=["a"])


@pytest.mark.parametrize("ending", [".npz", ".npy", ".nii.gz"])
def test_one_name_in_small_and_capital_endings_is_told(tmp_path, ending):
    for name in (f"a{ending}", f"a{ending.upper()}"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("a disk that does not tell small from capital letters")
    with pytest.raises(ValueError, match="found a second a beside a[.].*, expected one of each"):
        open_predictions(tmp_path, NAMES)


def test_volumes_of_three_and_four_dimensions_are_a_mixture(tmp_path):
    write_volume(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.uint8), LPS)
    write_volume(tmp_path / "b.nii.gz", random_probs(), LPS)
    with pytest.raises(ValueError, match="a.nii.gz of 3 dimensions and b.nii.gz of 4 dimensions"):
        open_predictions(tmp_path, NAMES)


def test_volumes_of_two_endings_are_a_mixture_unless_one_is_announced(tmp_path):
    for ending in (".nii", ".nii.gz"):
        write_volume(tmp_path / f"a{ending}", np.zeros(SHAPE, np.uint8), LPS)
    with pytest.raises(ValueError, match="volumes .nii.gz and .nii, expected all of one ending"):
        open_predictions(tmp_path, NAMES)
    describe(tmp_path, {"background": 0, "a": 1, "b": 2})
    assert open_predictions(tmp_path, NAMES).cases == ("a",)


def test_a_damaged_archive_hides_neither_form_nor_other_cases(tmp_path):
    write_nnunet(tmp_path, random_probs(), case="b")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    folder = open_predictions(tmp_path, NAMES)
    assert (folder.form, folder.cases) == ("nnunet", ("a", "b"))
    assert read_prediction(folder, "b", grid()).probs is not None
    with pytest.raises(ValueError, match="a.npz: found a damaged file"):
        read_prediction(folder, "a", grid())


def test_archives_without_a_known_key(tmp_path):
    np.savez(tmp_path / "a.npz", logits=random_probs())
    with pytest.raises(ValueError, match="a.npz with logits, expected archives of NumPy with prob"):
        open_predictions(tmp_path, NAMES)
    write_nnunet(tmp_path, random_probs(), case="b")
    with pytest.raises(ValueError, match="a.npz: found logits.npy, expected an array prob"):
        read_prediction(open_predictions(tmp_path, NAMES), "a", grid())


@pytest.mark.parametrize("segments", [("a",), ("a", "b", "c"), ("a", "c")])
def test_other_classes_than_the_labels_have(tmp_path, segments):
    write_nnunet(tmp_path, random_probs())
    describe(tmp_path, {"background": 0} | {name: k for k, name in enumerate(segments, start=1)})
    found = f"dataset.json, labels: found {', '.join(segments)}, expected a, b, in any order"
    with pytest.raises(ValueError, match=found):
        open_predictions(tmp_path, NAMES)


def test_regions_where_the_labels_have_classes(tmp_path):
    write_nnunet(tmp_path, random_probs())
    describe(tmp_path, {"background": 0, "a": [1, 2], "b": 2}, regions_class_order=[1, 2])
    with pytest.raises(ValueError, match="found regions that may overlap, expected classes that"):
        open_predictions(tmp_path, NAMES)


def test_other_classes_than_regions_are_made_of(tmp_path):
    write_nnunet(tmp_path, random_probs())
    describe(tmp_path, {"background": 0, "a": 1, "b": 4})
    regions = LabelNames(("whole", "core"), (0, 1, 2), ((1, 2), (2,)), (1, 2))
    found = "labels: found values .0, 1, 4., expected .0, 1, 2., of which the labels' regions are"
    with pytest.raises(ValueError, match=found):
        open_predictions(tmp_path, regions)


def test_plans_that_are_no_json(tmp_path):
    write_nnunet(tmp_path, random_probs())
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(ValueError, match="plans.json: found text that is no JSON"):
        open_predictions(tmp_path, NAMES)


# ---- files that are missing


def test_a_case_without_its_probabilities(tmp_path):
    write_nnunet(tmp_path, random_probs())
    write_nnunet(tmp_path, random_probs(), case="c2")
    (tmp_path / "c1.npz").unlink()
    assert open_predictions(tmp_path, NAMES).cases == ("c1", "c2")
    refused(tmp_path, "c1.npz", "no such file", "the probabilities of c1")


def test_a_case_that_nobody_predicted(tmp_path):
    write_nnunet(tmp_path, random_probs(), case="c2")
    refused(tmp_path, "no prediction of c1")


@pytest.mark.parametrize(("numbers", "found"), [((1,), "1"), ((0, 2), "0, 2"), ((1, 2, 3), "3")])
def test_classes_that_are_missing_or_too_many(tmp_path, numbers, found):
    for k in numbers:
        write_volume(tmp_path / f"c1_class{k}.nii.gz", random_probs()[1], LPS)
    with pytest.raises(ValueError) as error:
        read_prediction(open_predictions(tmp_path, NAMES, known=["c1"]), "c1", grid())
    expected = f"{found}, expected classes 1 to 2: a, b"
    one_sentence(error, "c1: found volumes of class ", expected)


def test_an_array_alone_has_no_grid(tmp_path):
    np.save(tmp_path / "c1.npy", random_probs())
    with pytest.raises(ValueError, match="found an array alone, expected a segmentation beside"):
        grid_of_prediction(open_predictions(tmp_path, NAMES), "c1")


# ---- classes, axes and places


@pytest.mark.parametrize("n_classes", [2, 4])
def test_another_number_of_classes(tmp_path, n_classes):
    probs = random_probs(n_classes=n_classes)
    expected = f"{n_classes} classes, expected 3: background, a, b"
    refused(write_nnunet(tmp_path / "n", probs), "c1.npz", expected)
    np.save(tmp_path / "c1.npy", probs)
    refused(tmp_path, "c1.npy", expected)
    (tmp_path / "c1.npy").unlink()
    write_volume(tmp_path / "c1.nii.gz", probs, LPS)
    refused(tmp_path, "c1.nii.gz", expected)


def test_another_number_of_regions(tmp_path):
    write_nnunet(tmp_path, random_probs())
    refused(tmp_path, "3 regions, expected 2: whole, core", names=REGIONS)


def test_axes_in_another_order(tmp_path):
    probs = random_probs()
    write_nnunet(tmp_path, probs)
    np.savez(tmp_path / "c1.npz", probabilities=probs)  # K, X, Y, Z
    refused(tmp_path, "(5, 6, 7) voxels along X, Y, Z, expected (7, 6, 5) as")
    np.savez(tmp_path / "c1.npz", probabilities=np.moveaxis(probs, 0, -1))
    refused(tmp_path, "shape (7, 6, 5, 3), expected (3, 5, 6, 7) along K, Z, Y, X")
    np.savez(tmp_path / "c1.npz", probabilities=probs[0])
    refused(tmp_path, "shape (7, 6, 5), expected (3, 5, 6, 7)")


def test_axes_in_another_order_of_a_cube(tmp_path):
    """Shapes say nothing here; the segmentation beside does."""
    probs = random_probs((6, 6, 6))
    write_nnunet(tmp_path, probs.transpose(0, 3, 2, 1), segmentation=None)
    write_volume(tmp_path / "c1.nii.gz", probs.argmax(axis=0).astype(np.uint8), LPS)
    refused(tmp_path, "another segmentation than its arg max in", on=grid(shape=(6, 6, 6)))


@pytest.mark.parametrize("form", ["nnunet", "nifti_4d", "labels"])
@pytest.mark.parametrize("change", [(0, 3, 4.0), (1, 1, -2.5), (0, 1, 0.5)])
def test_another_affine(tmp_path, form, change):
    affine = LPS.copy()
    affine[change[:2]] += change[2]
    probs = random_probs()
    if form == "nnunet":
        write_nnunet(tmp_path, probs, affine)
    else:
        data = probs if form == "nifti_4d" else probs.argmax(axis=0).astype(np.uint8)
        write_volume(tmp_path / "c1.nii.gz", data, affine)
    try:
        refused(tmp_path, "label.nii.gz and ", "c1.nii.gz", "mm apart")
    except AssertionError as error:  # the shear is refused by itself
        assert change == (0, 1, 0.5) and "right angles" in str(error)


def test_another_shape_than_the_label(tmp_path):
    write_nnunet(tmp_path, random_probs())
    refused(tmp_path, "(7, 6, 4) and (7, 6, 5), expected one shape", on=grid(shape=(7, 6, 4)))


def test_classes_on_two_grids(tmp_path):
    write_volume(tmp_path / "c1_class1.nii.gz", random_probs()[1], LPS)
    write_volume(tmp_path / "c1_class2.nii.gz", random_probs()[2], np.diag([1.0, 2, 3, 1]))
    refused(tmp_path, "c1_class2.nii.gz and ", "c1_class1.nii.gz", "mm apart")


def test_classes_on_another_grid_than_the_segmentation_beside(tmp_path):
    probs = random_probs()
    for k in (1, 2):
        write_volume(tmp_path / f"c1_class{k}.nii.gz", probs[k], LPS)
    hard = probs.argmax(axis=0).astype(np.uint8)
    write_volume(tmp_path / "c1.nii.gz", hard, LPS)
    assert read(tmp_path).probs is not None
    write_volume(tmp_path / "c1.nii.gz", hard, np.diag([1.0, 2, 3, 1]))
    refused(tmp_path, "c1.nii.gz and ", "c1_class2.nii.gz", "mm apart")


def test_a_crop_of_no_voxels(tmp_path):
    raw = npy_bytes(np.zeros((3, 0, 6, 7), np.float32))
    write_npz(tmp_path, raw, key="softmax")
    refused(tmp_path, "c1.npz: found shape (3, 0, 6, 7)")


def test_label_values_that_no_class_has(tmp_path):
    hard = random_probs().argmax(axis=0).astype(np.uint8)
    hard[0, 0, 0] = 7
    write_volume(tmp_path / "c1.nii.gz", hard, LPS)
    refused(tmp_path, "c1.nii.gz: found label values [7], expected only [0, 1, 2]")
    names = LabelNames(("a", "b"), (0, 1, 2), ignore_value=7)
    refused(tmp_path, "label values [7]", names=names)
    write_nnunet(tmp_path / "n", random_probs(), segmentation=hard)
    refused(tmp_path / "n", "c1.nii.gz: found label values [7]")


# ---- numbers that are no probabilities


def in_logits(probs):
    return np.log(probs) * 3 + 1


CHANGES = {
    "per cent": (lambda probs: 100 * probs, "look like per cent: divide by 100"),
    "bytes": (lambda probs: np.rint(255 * probs), "look like bytes: divide by 255"),
    "logits": (in_logits, "look like logits"),
    "logarithms": (np.log, "look like logarithms"),
    "sigmoids": (lambda probs: np.clip(probs * 1.5, 0, 1), "name them as regions"),
    "not whole": (lambda probs: probs * 0.99, "class sums from 0.99 to 0.99"),
    "rounded": (lambda probs: probs * 0.995, "if this is rounding: save"),
    "cubic": (lambda probs: np.where(probs < 0.01, -0.02, probs), "cubic interpolation leaves"),
    "nothing": (np.zeros_like, "0 for all classes everywhere"),
    "NaN": (lambda probs: np.where(probs == probs.max(), np.nan, probs), "NaN or infinite"),
    "infinite": (lambda probs: np.where(probs == probs.min(), np.inf, probs), "NaN or infinite"),
    "minus infinite": (lambda probs: np.where(probs == probs.min(), -np.inf, probs), "NaN or inf"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("form", ["nnunet", "numpy"])
def test_numbers_that_are_no_probabilities(tmp_path, change, told, form):
    wrong = change(random_probs())
    if form == "nnunet":
        hard = random_probs().argmax(axis=0).astype(np.uint8)
        write_nnunet(tmp_path, wrong, segmentation=hard)
    else:
        np.save(tmp_path / "c1.npy", wrong.astype(np.float64))
    refused(tmp_path, "c1.np", told)


def test_regions_that_are_no_probabilities(tmp_path):
    for factor, told in ((94, "look like per cent"), (240, "bytes"), (np.nan, "NaN or infinite")):
        np.save(tmp_path / "c1.npy", random_regions() * factor)
        refused(tmp_path, told, names=REGIONS)


def test_classes_of_nifti_that_are_no_probabilities(tmp_path):
    for k in (1, 2):
        write_volume(tmp_path / f"c1_class{k}.nii.gz", 100 * random_probs()[k], LPS)
    refused(tmp_path, "values from 0 to")


@pytest.mark.parametrize("names", [NAMES, REGIONS], ids=["classes", "regions"])
def test_one_channel_of_several_segments_is_told_as_what_it_is(tmp_path, names):
    write_volume(tmp_path / "c1.nii.gz", random_regions()[0], LPS)
    told = "background, a, b" if names is NAMES else "whole, core"
    parts = (f"one channel of probabilities, expected labels, or one channel each for {told}: 4D",)
    refused(tmp_path, "c1.nii.gz: found fractions such as 0.", *parts, names=names)
    with pytest.raises(ValueError, match="look like one channel of probabilities"):
        grid_of_prediction(open_predictions(tmp_path, names), "c1")


@pytest.mark.parametrize(
    ("factor", "told"),
    [(100, "per cent"), (94, "per cent"), (10, "per cent"), (255, "bytes"), (240, "bytes")]
    + [(1.05, "what cubic"), (-1, "logarithms"), (300, "logits")],
)
def test_one_channel_that_is_no_probability(tmp_path, factor, told):
    one = random_regions()[0]
    write_volume(tmp_path / "c1.nii.gz", one / one.max() * np.float32(factor), LPS)
    told = f"expected probabilities from 0 to 1; these look like {told}"
    for names in (LabelNames(("a",), (0, 1)), LabelNames(("whole",), (0, 1, 2), ((1, 2),), (1,))):
        refused(tmp_path, told, names=names)


def test_nan_in_nifti_is_counted(tmp_path):
    probs = random_probs()
    probs[1, 2, 2, 2] = np.nan
    write_volume(tmp_path / "c1.nii.gz", probs, LPS)
    refused(tmp_path, "c1.nii.gz: found 1 NaN or infinite values")


def test_whole_numbers_are_no_probabilities(tmp_path):
    np.save(tmp_path / "c1.npy", random_probs().argmax(axis=0)[np.newaxis].repeat(3, axis=0))
    refused(tmp_path, "numbers of type int64, expected probabilities as floating point")


# ---- damaged and hostile files


def test_pickled_objects(tmp_path):
    objects = np.full(STORED, None, dtype=object)
    refused(write_npz(tmp_path, npy_bytes(objects)), "c1.npz: found pickled objects")
    (tmp_path / "c1.npz").unlink()
    np.save(tmp_path / "c1.npy", objects)
    refused(tmp_path, "c1.npy: found pickled objects")


def test_a_pickle_called_npy(tmp_path):
    import pickle

    (tmp_path / "c1.npy").write_bytes(pickle.dumps([1]))
    refused(tmp_path, "c1.npy: found a damaged file")


@pytest.mark.parametrize("kept", [0, 1, 30, 200, -100, -1])
def test_a_truncated_zip(tmp_path, kept):
    write_nnunet(tmp_path, random_probs(), case="c2")
    write_nnunet(tmp_path, random_probs())
    path = tmp_path / "c1.npz"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path, "c1.npz: found a damaged file", "expected a whole npz file")


@pytest.mark.parametrize("kept", [0, 5, 60, 300, -1])
def test_a_truncated_npy(tmp_path, kept):
    np.save(tmp_path / "c1.npy", random_probs())
    path = tmp_path / "c1.npy"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path, "c1.npy: found ", "expected a whole")


def test_bytes_behind_an_array(tmp_path):
    raw = npy_bytes(np.full(STORED, 1 / 3, np.float32)) + b"x"
    refused(write_npz(tmp_path, raw), "bytes behind the last number")


BOMBS = {
    "a shape beyond all memory": header_bytes((3, 10**6, 10**6, 10**6)),
    "fewer bytes than its shape": header_bytes(STORED) + bytes(99),
    "zeros behind its array": npy_bytes(np.full(STORED, 1 / 3, np.float32)) + bytes(2**27),
    "a header of 4 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(2**27),
    "a header that never ends": b"\x93NUMPY\x01\x00\xff\xff" + b"[" * 2**16,
    "a negative shape": header_bytes((3, -5, -6, 7)),
    "fields": header_bytes(STORED, [("a", "<f4"), ("b", "<f4")]),
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_memory_is_asked_for(tmp_path, raw):
    write_npz(tmp_path, raw)
    tracemalloc.start()
    try:
        refused(tmp_path, "c1.npz: found ")
        assert tracemalloc.get_traced_memory()[1] < 2**25  # of which 2**24 for the NIfTI beside
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("is_patched", [False, True])
def test_a_promise_larger_than_the_file(tmp_path, is_patched):
    """The header fits the grid, which is large; the archive cannot hold so many numbers.

    Patched, its directory says that it does.
    """
    shape = (400, 400, 400)
    write_npz(tmp_path, header_bytes((3, *shape)))
    if is_patched:
        raw = bytearray((tmp_path / "c1.npz").read_bytes())
        struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, 128 + 12 * 400**3)
        (tmp_path / "c1.npz").write_bytes(raw)
    (tmp_path / "c1.nii.gz").unlink()
    place = grid(shape=(1, 1, 1))
    object.__setattr__(place, "data", np.broadcast_to(np.uint8(0), shape))
    tracemalloc.start()
    try:
        refused(tmp_path, "bytes for shape (3, 400, 400, 400) of float32", on=place)
        assert tracemalloc.get_traced_memory()[1] < 2**25  # of which 2**24 for the NIfTI beside
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_whose_size_is_unbounded(tmp_path, packing):
    raw = npy_bytes(np.full(STORED, 1 / 3, np.float32))
    refused(write_npz(tmp_path, raw, packing=packing), "an unusual compression")


def test_stored_archives_are_read(tmp_path):
    raw = npy_bytes(random_probs().transpose(0, 3, 2, 1))
    write_npz(tmp_path, raw, packing=zipfile.ZIP_STORED)
    (tmp_path / "c1.nii.gz").unlink()
    np.testing.assert_array_equal(read(tmp_path).probs, random_probs())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_by_chance_is_told_or_harmless(tmp_path, data):
    """Bytes overwritten, cut or added: the checksum, or a sentence about what is wrong."""
    suffix = data.draw(st.sampled_from([".npz", ".npy"]))
    for path in tmp_path.iterdir():
        path.unlink()
    probs = np.full((3, 3, 2, 2), 1 / 3, dtype=np.float32)
    if suffix == ".npz":
        write_nnunet(tmp_path, probs, segmentation=None)
    else:
        np.save(tmp_path / "c1.npy", probs)
    path = tmp_path / f"c1{suffix}"
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        found = read(tmp_path, on=grid(shape=(3, 2, 2)))
        assert np.abs(found.probs.sum(axis=0) - 1).max() < 1e-4
    except ValueError as error:
        assert str(tmp_path) in str(error) and "\n" not in str(error)


def test_a_damaged_description_is_told(tmp_path):
    write_nnunet(tmp_path, random_probs())
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"a": 1}}))
    with pytest.raises(ValueError, match="dataset.json"):
        open_predictions(tmp_path, NAMES)
