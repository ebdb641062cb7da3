import itertools
import json
import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.processing import resample_from_to
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segcal_lite.data.preprocessing import (
    Preprocessing,
    plan_preprocessing,
    prepare_image,
    prepare_label,
    prepare_probs,
    prepared_affine,
    restore_labels,
    restore_probs,
    valid_box,
)
from segcal_lite.data.volumes import read_label, read_volume, write_volume

SPACING_MM = (1.4, 1.1, 6.0)
OBLIQUE = nib.affines.from_matvec(
    Rotation.from_euler("xyz", [12, -9, 25], degrees=True).as_matrix() @ np.diag(SPACING_MM),
    [-40, 30, 7],
)
ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def turned_affine(axes, signs, spacing_mm):
    """Affine whose voxel axis i runs along world axis axes[i], in the direction signs[i]."""
    matrix = np.zeros((3, 3))
    matrix[axes, range(3)] = np.multiply(signs, spacing_mm)
    return nib.affines.from_matvec(matrix, [3, -5, 11])


def one_hot(labels, n_classes=None):
    n_classes = n_classes or int(labels.max()) + 1
    return (labels == np.arange(n_classes)[:, None, None, None]).astype(np.float32)


def random_probs(rng, n_classes, shape):
    return rng.dirichlet(np.ones(n_classes), shape).transpose(3, 0, 1, 2).astype(np.float32)


def ball(shape, centre, radius_mm, spacing_mm):
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    distance_mm = np.linalg.norm((grid - centre) * spacing_mm, axis=-1)
    return (distance_mm < radius_mm).astype(np.uint8) + (distance_mm < radius_mm / 2)


def dice(mask_a, mask_b):
    return 2 * np.count_nonzero(mask_a & mask_b) / (mask_a.sum() + mask_b.sum())


def random_grid(seed):
    """A random grid, target spacing and crop for hypothesis."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 12, 3).tolist())
    rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    affine = nib.affines.from_matvec(rotation * rng.uniform(0.5, 5, 3), rng.normal(0, 50, 3))
    spacing_mm = [None if rng.random() < 0.3 else float(s) for s in rng.uniform(0.7, 4, 3)]
    n_cropped = rng.integers(2, 4)
    crop_size = None if rng.random() < 0.3 else tuple(rng.integers(1, 20, n_cropped).tolist())
    return rng, plan_preprocessing(shape, affine, spacing_mm, crop_size)


# ---- the plan


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_all_orientations_there_and_back(axes, signs):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 6, 7), dtype=np.uint8)
    record = plan_preprocessing(labels.shape, turned_affine(axes, signs, (1, 1.2, 1.4)))
    prepared = prepare_label(labels, record)
    affine = prepared_affine(record)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    canonical = nib.as_closest_canonical(
        nib.Nifti1Image(labels, turned_affine(axes, signs, (1, 1.2, 1.4)))
    )
    np.testing.assert_array_equal(prepared, np.asarray(canonical.dataobj))
    np.testing.assert_allclose(affine, canonical.affine, atol=1e-12)
    np.testing.assert_array_equal(restore_labels(one_hot(prepared), record), labels)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_slices_end_up_last_in_all_orientations(axes, signs):
    affine = turned_affine(axes, signs, (1.0, 5.0, 1.0))
    labels = np.random.default_rng(1).integers(0, 3, (6, 4, 5), dtype=np.uint8)
    record = plan_preprocessing(labels.shape, affine, (None, None, None), (7, 3))
    assert record.turned_spacing_mm == (1.0, 1.0, 5.0)
    assert record.prepared_shape == (7, 3, 4)
    codes = nib.aff2axcodes(prepared_affine(record))
    slice_axis = "RAS"[axes[1]]
    assert "".join(codes) == "RAS".replace(slice_axis, "") + slice_axis


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("thickness_mm", [0.3, 1.0, 9.0])
def test_one_slice_stays_one_whatever_its_thickness(axis, thickness_mm):
    shape, sizes_mm = [8, 8, 8], [0.5, 0.5, 0.5]
    shape[axis], sizes_mm[axis], sizes_mm[axis - 1] = 1, thickness_mm, 1.0
    record = plan_preprocessing(shape, np.diag([*sizes_mm, 1]), (0.5, 0.5, 2.0), (20, 20))
    assert record.axes[-1] == axis
    assert record.turned_spacing_mm[-1] == record.spacing_mm[-1] == thickness_mm
    assert record.prepared_shape == (20, 20, 1)
    labels = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8)
    record = plan_preprocessing(shape, np.diag([*sizes_mm, 1]), (None, None, 2.0))
    np.testing.assert_array_equal(
        restore_labels(one_hot(prepare_label(labels, record)), record), labels
    )


@pytest.mark.parametrize(
    ("spacing_mm", "codes"),
    [
        ((1, 1, 1), "RAS"),
        ((4, 1, 1), "ASR"),
        ((1, 4, 1), "RSA"),
        ((1.5, 1, 1), "ASR"),  # the ratio itself counts
        ((1.49, 1, 1), "RAS"),
        ((4, 4, 1), "RAS"),  # two coarse axes: no slices
        ((4, 3, 1), "RAS"),
        ((2, 2, 3), "RAS"),
    ],
)
def test_which_axis_holds_the_slices(spacing_mm, codes):
    record = plan_preprocessing((4, 4, 4), np.diag([*spacing_mm, 1.0]))
    assert "".join(nib.aff2axcodes(prepared_affine(record))) == codes


def test_plan_by_hand():
    affine = np.diag([-1.5, -1.5, 10.0, 1])
    record = plan_preprocessing((217, 256, 9), affine, (2.0, 2.0, None), (224, 161))
    assert record.axes == (0, 1, 2)
    assert record.flips == (True, True, False)
    assert record.resampled_shape == (163, 192, 9)  # 162.75 and 192
    assert record.crop_start == (-31, 15, 0)  # 61 of padding: 31 before; 31 cropped: 15 before
    assert record.prepared_shape == (224, 161, 9)
    assert record.spacing_mm == (2.0, 2.0, 10.0)
    assert valid_box(record) == (slice(31, 194), slice(0, 161), slice(0, 9))


def test_nearly_equal_spacing_is_not_resampled():
    affine = np.diag([0.799999, 0.8, 0.8, 1])
    record = plan_preprocessing((76, 89, 77), affine, (0.8, 0.8, 0.8))
    assert record.spacing_mm == (0.799999, 0.8, 0.8)
    assert record.resampled_shape == (76, 89, 77)
    assert np.all(record.step == 1)
    record = plan_preprocessing((76, 89, 77), affine, (0.801, 0.8, 0.8))
    assert record.spacing_mm == (0.801, 0.8, 0.8)


def test_a_grid_never_vanishes():
    record = plan_preprocessing((2, 2, 2), np.eye(4), (50.0, 50.0, 50.0))
    assert record.prepared_shape == (1, 1, 1)
    prepared, _ = prepare_image(np.arange(8.0).reshape(1, 2, 2, 2), record)
    np.testing.assert_allclose(prepared.ravel(), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4), np.eye(4)), "shape"),
        (((4, 4, 0), np.eye(4)), "shape"),
        (((4, 4, 4.0), np.eye(4)), "shape"),
        (((4, 4, 4), np.diag([1.0, 0, 1, 1])), "spacing_mm"),
        (((4, 4, 4), np.eye(4), (2, 2)), "spacing_mm"),
        (((4, 4, 4), np.eye(4), (2, 2, 0)), "spacing_mm"),
        (((4, 4, 4), np.eye(4), (2, -2, None)), "spacing_mm"),
        (((4, 4, 4), np.eye(4), (2, np.nan, None)), "spacing_mm"),
        (((4, 4, 4), np.eye(4), None, (4, 4, 4, 4)), "crop_size"),
        (((4, 4, 4), np.eye(4), None, (4, 0)), "crop_size"),
    ],
)
def test_plan_refuses(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}: found"):
        plan_preprocessing(*arguments)


def test_record_survives_json():
    record = plan_preprocessing((20, 21, 5), OBLIQUE, (2, 2, None), (9, 40))
    _, record = prepare_image(np.random.default_rng(0).random((2, 20, 21, 5)), record)
    again = Preprocessing.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    assert hash(again) == hash(record)
    assert Preprocessing.from_json(record.to_json()) == record
    lacking = record.to_json()
    del lacking["axes"]
    for wrong in (lacking, {**record.to_json(), "zoom": 1}):
        with pytest.raises(ValueError, match="settings: found"):
            Preprocessing.from_json(wrong)


# ---- geometry


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_prepared_voxels_lie_where_the_affine_says(seed):
    rng, record = random_grid(seed)
    probs = random_probs(rng, 2, record.native_shape)
    prepared = prepare_probs(probs, record)[1]
    assert prepared.shape == record.prepared_shape
    box = valid_box(record)
    indices = np.indices(record.prepared_shape)[:, *box].reshape(3, -1)
    to_native = np.linalg.inv(np.array(record.native_affine)) @ prepared_affine(record)
    native = nib.affines.apply_affine(to_native, indices.T).T
    expected = ndimage.map_coordinates(probs[1], native, order=1, mode="nearest")
    np.testing.assert_allclose(prepared[box].ravel(), expected, atol=1e-5)
    outside = np.ones(record.prepared_shape, bool)
    outside[box] = False
    assert np.all(prepared[outside] == 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_restored_voxels_lie_where_the_affine_says(seed):
    rng, record = random_grid(seed)
    probs = random_probs(rng, 3, record.prepared_shape)
    restored = restore_probs(probs, record)
    assert restored.shape == (3, *record.native_shape)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored.sum(axis=0), 1, atol=1e-6)
    whole = np.zeros((3, *record.resampled_shape), np.float32)
    whole[0] = 1
    box = valid_box(record)
    place = tuple(
        slice(b.start + start, b.stop + start)
        for b, start in zip(box, record.crop_start, strict=True)
    )
    whole[:, *place] = probs[:, *box]
    to_prepared = np.linalg.inv(prepared_affine(record)) @ np.array(record.native_affine)
    indices = np.indices(record.native_shape).reshape(3, -1)
    prepared = nib.affines.apply_affine(to_prepared, indices.T).T
    prepared += np.array(record.crop_start)[:, None]
    for k in range(3):
        expected = ndimage.map_coordinates(whole[k], prepared, order=1, mode="nearest")
        np.testing.assert_allclose(restored[k].ravel(), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_grids_share_their_centre(seed):
    _, record = random_grid(seed)
    record = replace(record, crop_start=(0, 0, 0), prepared_shape=record.resampled_shape)
    centre = nib.affines.apply_affine(
        prepared_affine(record), np.subtract(record.prepared_shape, 1) / 2
    )
    native_centre = nib.affines.apply_affine(
        np.array(record.native_affine), np.subtract(record.native_shape, 1) / 2
    )
    np.testing.assert_allclose(centre, native_centre, atol=1e-9)
    sizes_mm = nib.affines.voxel_sizes(prepared_affine(record))
    np.testing.assert_allclose(sizes_mm, record.spacing_mm, rtol=1e-12)


def test_nibabel_resamples_to_the_same_voxels():
    image = np.random.default_rng(3).random((12, 11, 7)).astype(np.float32)
    record = plan_preprocessing(image.shape, OBLIQUE, (0.9, 1.0, 4.0))  # finer: no smoothing
    prepared, record = prepare_image(image[None], record)
    target = (record.prepared_shape, prepared_affine(record))
    oracle = resample_from_to(nib.Nifti1Image(image, OBLIQUE), target, order=1, mode="nearest")
    scaled = (oracle.get_fdata() - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(prepared[0], scaled, atol=1e-5)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, None), (0.7, 0.9, 3.0), (2.3, 1.7, 4.1)])
def test_centroid_stays_in_the_world(spacing_mm):
    labels = ball((41, 50, 15), (19, 26, 7), 14.0, SPACING_MM) > 0
    record = plan_preprocessing(labels.shape, OBLIQUE, spacing_mm, (46, 61))
    prepared = prepare_label(labels.astype(np.uint8), record)
    centroid = nib.affines.apply_affine(OBLIQUE, np.argwhere(labels).mean(axis=0))
    moved = nib.affines.apply_affine(prepared_affine(record), np.argwhere(prepared).mean(axis=0))
    assert np.linalg.norm(moved - centroid) < 0.1 * min(record.spacing_mm)


@pytest.mark.parametrize(("size", "crop"), [(8, 5), (8, 4), (9, 5), (9, 4), (4, 9), (5, 8), (6, 6)])
def test_crop_by_hand(size, crop):
    image = np.zeros((1, size, size, 2), np.float32)
    image[0] = 1 + np.arange(size)[:, None, None]
    record = plan_preprocessing(image.shape[1:], np.eye(4), None, (crop, size))
    prepared, record = prepare_image(image, record)
    line = prepared[0, :, 0, 0] * (size - 1) + 1
    box = valid_box(record)
    before, behind = box[0].start, crop - box[0].stop
    if crop >= size:
        assert before - behind in (0, 1)  # the odd voxel of padding comes before
        np.testing.assert_allclose(line[box[0]], 1 + np.arange(size), rtol=1e-6)
        assert np.all(prepared[0, :before] == 0)
        assert np.all(prepared[0, crop - behind :] == 0)
    else:
        cut = (size - crop) // 2  # the odd voxel of cropping comes behind
        np.testing.assert_allclose(line, 1 + np.arange(size)[cut : cut + crop], rtol=1e-6)
        assert before == behind == 0
    assert box[1:] == (slice(0, size), slice(0, 2))


def test_field_of_view_edge_goes_on():
    image = np.array([0.0, 1, 2, 3]).reshape(1, 4, 1, 1)
    record = plan_preprocessing((4, 1, 1), np.eye(4), (0.5, None, None))
    prepared, _ = prepare_image(image, record)
    expected = np.clip(np.arange(8) / 2 - 0.25, 0, 3) / 3
    np.testing.assert_allclose(prepared.ravel(), expected, atol=1e-6)


# ---- labels


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_labels_at_their_own_spacing_come_back_identical(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, rng.integers(1, 10, 3)).astype(rng.choice(["u1", "i2", "i8"]))
    rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    affine = nib.affines.from_matvec(rotation * rng.uniform(0.5, 5, 3), rng.normal(0, 50, 3))
    larger = (int(rng.integers(10, 15)), int(rng.integers(10, 15)))
    record = plan_preprocessing(labels.shape, affine, None, larger)
    prepared = prepare_label(labels, record)
    assert prepared.dtype == labels.dtype
    assert np.bincount(prepared.ravel(), minlength=5)[1:].tolist() == (
        np.bincount(labels.ravel(), minlength=5)[1:].tolist()
    )
    np.testing.assert_array_equal(restore_labels(one_hot(prepared, 5), record), labels)


@pytest.mark.parametrize(
    ("spacing_mm", "least"),
    [((2.0, 2.0, None), 0.95), ((0.8, 0.8, None), 0.98), ((1.0, 1.0, 3.0), 0.93)],
)
def test_labels_at_another_spacing_come_back_alike(spacing_mm, least):
    labels = ball((61, 70, 15), (29, 33, 7), 26.0, SPACING_MM)
    record = plan_preprocessing(labels.shape, OBLIQUE, spacing_mm, (224, 224))
    prepared = prepare_label(labels, record)
    assert set(np.unique(prepared)) == {0, 1, 2}
    restored = restore_labels(one_hot(prepared), record)
    for k in (1, 2):
        assert dice(restored == k, labels == k) > least


def test_labels_do_not_blend():
    labels = np.zeros((8, 8, 2), np.uint8)
    labels[4:] = 7  # a linear blend of 0 and 7 would invent 1 to 6
    record = plan_preprocessing(labels.shape, np.eye(4), (0.6, 1.7, None))
    prepared = prepare_label(labels, record)
    assert np.unique(prepared).tolist() == [0, 7]
    np.testing.assert_array_equal(prepared[:, 0, 0], [0] * 7 + [7] * 6)  # 0 wins the tie


def test_ties_go_to_the_lower_label():
    labels = np.array([3, 2, 0, 1], np.uint8).reshape(4, 1, 1)
    record = plan_preprocessing(labels.shape, np.eye(4), (2.0, None, None))
    assert prepare_label(labels, record).ravel().tolist() == [2, 0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_prepared_label_is_the_arg_max_of_prepared_indicators(seed):
    rng, record = random_grid(seed)
    labels = rng.integers(0, 4, record.native_shape)
    probs = prepare_probs(one_hot(labels, 4), record)
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-6)
    assert probs.dtype == np.float32
    chosen = prepare_label(labels, record)[None]
    worth = np.take_along_axis(probs, chosen, axis=0)[0]
    np.testing.assert_allclose(worth, probs.max(axis=0), atol=1e-6)


# ---- intensities


def test_min_and_max_become_0_and_1():
    image = np.random.default_rng(0).normal(100, 30, (2, 9, 8, 7))
    image[1] *= 50
    record = plan_preprocessing(image.shape[1:], np.eye(4))
    prepared, filled = prepare_image(image, record)
    assert prepared.dtype == np.float32
    assert prepared.shape == image.shape
    for c in range(2):
        assert filled.intensity_lower[c] == image[c].min()
        assert filled.intensity_upper[c] == image[c].max()
        scaled = (image[c] - image[c].min()) / np.ptp(image[c])
        np.testing.assert_allclose(prepared[c], scaled, atol=1e-6)
    assert record.intensity_lower == ()


def test_percentiles_come_from_the_whole_native_volume_and_clip():
    image = np.random.default_rng(0).integers(-500, 3000, (1, 20, 20, 6), dtype=np.int16)
    record = plan_preprocessing(image.shape[1:], np.eye(4), None, (4, 4))
    prepared, record = prepare_image(image, record, percentiles=(2, 90))
    lower, upper = np.percentile(image, [2, 90])
    assert (record.intensity_lower, record.intensity_upper) == ((lower,), (upper,))
    expected = np.clip((image[0, 8:12, 8:12] - lower) / (upper - lower), 0, 1)
    np.testing.assert_allclose(prepared[0], expected, atol=1e-6)
    assert prepared.max() == 1


def test_fixed_window_and_replay():
    image = np.array([-2000.0, -1000, 0, 500, 1000, 3000]).reshape(1, 6, 1, 1)
    record = plan_preprocessing((6, 1, 1), np.eye(4))
    window = replace(record, intensity_lower=(-1000.0,), intensity_upper=(1000.0,))
    prepared, same = prepare_image(image, window)
    np.testing.assert_allclose(prepared.ravel(), [0, 0, 0.5, 0.75, 1, 1])
    assert same == window
    with pytest.raises(ValueError, match="image: found 2 channels, expected 1"):
        prepare_image(np.concatenate([image, image]), window)


def test_hounsfield_units_have_a_fixed_window():
    image = np.array([-2000, -1000, 0, 500, 1000, 3000], dtype=np.int16).reshape(1, 6, 1, 1)
    record = plan_preprocessing((6, 1, 1), np.eye(4), None, (8, 1))
    prepared, record = prepare_image(image, record, rule="hounsfield")
    np.testing.assert_allclose(prepared.ravel(), [0, 0, 0, 0.5, 0.75, 1, 1, 0])  # padding is air
    other, _ = prepare_image(image // 2, record)  # a replay keeps the window
    np.testing.assert_allclose(other.ravel(), [0, 0, 0.25, 0.5, 0.625, 0.75, 1, 0])


def test_mr_is_divided_by_its_standard_deviation_and_not_clipped():
    image = np.random.default_rng(0).normal(20, 30, (2, 9, 8, 7))
    image[1] *= 50
    record = plan_preprocessing(image.shape[1:], np.eye(4), None, (4, 4))
    prepared, record = prepare_image(image, record, rule="standard_deviation")
    inside = (slice(None), slice(2, 6), slice(2, 6))
    expected = image / image.std(axis=(1, 2, 3), keepdims=True)  # of the volume, not of the crop
    np.testing.assert_allclose(prepared, expected[inside], rtol=1e-5)
    assert prepared.min() < 0 < 1 < prepared.max()
    again, _ = prepare_image(
        image, Preprocessing.from_json(json.loads(json.dumps(record.to_json())))
    )
    assert np.array_equal(again, prepared)


@pytest.mark.parametrize("rule", ["percentiles", "standard_deviation"])
def test_constant_channel_is_zero(rule):
    image = np.stack([np.full((4, 4, 3), 7.0), np.arange(48.0).reshape(4, 4, 3)])
    record = plan_preprocessing((4, 4, 3), np.eye(4), (2, 2, None))
    prepared, _ = prepare_image(image, record, rule=rule)
    assert np.all(prepared[0] == 0)
    assert prepared[1].max() > 0.5


def test_padding_is_darkest_even_for_negative_intensities():
    image = np.linspace(-900, -100, 27).reshape(1, 3, 3, 3)
    record = plan_preprocessing((3, 3, 3), np.eye(4), None, (7, 7))
    prepared, record = prepare_image(image, record)
    assert np.all(prepared[0, :2] == 0)
    assert prepared[0][valid_box(record)].max() == 1


def test_coarser_grids_do_not_alias():
    stripes = np.tile([0.0, 0, 1, 1], 32)  # period 4, sampled every 4 voxels
    image = np.broadcast_to(stripes[:, None, None], (128, 8, 2))[None]
    record = plan_preprocessing((128, 8, 2), np.eye(4), (4.0, None, None))
    prepared, _ = prepare_image(image, record)
    naive = prepare_probs(np.concatenate([1 - image, image]), record)[1]
    expected = ndimage.gaussian_filter1d(stripes, 1.5, mode="nearest").reshape(-1, 4)[:, 1:3]
    np.testing.assert_allclose(prepared[0, :, 3, 0], expected.mean(axis=1), atol=1e-6)
    assert np.ptp(naive) == 0  # midway between 0 and 1 in every period
    image = np.roll(image, 1, axis=1)
    shifted, _ = prepare_image(image, record)
    naive = prepare_probs(np.concatenate([1 - image, image]), record)[1]
    assert abs(naive[4:-4] - 0.5).max() > 0.4
    assert abs(shifted[0, 4:-4] - 0.5).max() < 0.1


@pytest.mark.parametrize(
    ("image", "percentiles", "message"),
    [
        (np.zeros((4, 4, 3)), (0, 100), "image: found shape"),
        (np.zeros((1, 4, 3, 4)), (0, 100), "image: found shape"),
        (np.full((1, 4, 4, 3), np.nan), (0, 100), "image: found 48 NaN"),
        (np.zeros((1, 4, 4, 3)), (5, 5), "percentiles: found"),
        (np.zeros((1, 4, 4, 3)), (99, 1), "percentiles: found"),
        (np.zeros((1, 4, 4, 3)), (-1, 100), "percentiles: found"),
        (np.zeros((1, 4, 4, 3)), (0, 101), "percentiles: found"),
        (np.eye(48)[:1].reshape(1, 4, 4, 3), (0, 50), "percentiles: found both at 0 in channel 0"),
    ],
)
def test_image_refuses(image, percentiles, message):
    with pytest.raises(ValueError, match=message):
        prepare_image(image, plan_preprocessing((4, 4, 3), np.eye(4)), percentiles)


# ---- probabilities


def test_outside_the_crop_is_certain_background():
    record = plan_preprocessing((20, 20, 3), np.eye(4), None, (6, 8))
    probs = np.zeros((3, 6, 8, 3), np.float32)
    probs[2] = 1
    restored = restore_probs(probs, record)
    inside = np.zeros((20, 20, 3), bool)
    inside[7:13, 6:14] = True
    np.testing.assert_array_equal(restored[2], inside)
    np.testing.assert_array_equal(restored[0], ~inside)
    np.testing.assert_array_equal(restore_labels(probs, record), 2 * inside)
    assert restore_labels(probs, record).dtype == np.uint8


def test_padding_leaves_no_trace():
    record = plan_preprocessing((5, 6, 3), np.diag([-3.0, 3, 9, 1]), (2, 2, None), (32, 32))
    rng = np.random.default_rng(0)
    probs = random_probs(rng, 3, record.prepared_shape)
    other = random_probs(rng, 3, record.prepared_shape)
    box = valid_box(record)
    other[:, *box] = probs[:, *box]
    np.testing.assert_array_equal(restore_probs(probs, record), restore_probs(other, record))


@pytest.mark.parametrize(("spacing_mm", "factor"), [(None, 1 - 5e-5), ((2.0, 0.7, 1.0), 1 + 5e-5)])
def test_sums_that_were_rounded_are_1_again(spacing_mm, factor):
    record = plan_preprocessing((6, 7, 4), np.eye(4), spacing_mm, (9, 9))
    rng = np.random.default_rng(0)
    restored = restore_probs(random_probs(rng, 3, record.prepared_shape) * factor, record)
    np.testing.assert_allclose(restored.sum(axis=0), 1, atol=1e-6)
    prepared = prepare_probs(random_probs(rng, 3, record.native_shape) * factor, record)
    np.testing.assert_allclose(prepared.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize(("act", "shape"), [(restore_probs, (7, 7, 3)), (prepare_probs, (4, 4, 3))])
def test_probs_refuse(act, shape):
    record = plan_preprocessing((4, 4, 3), np.eye(4), None, (7, 7))
    with pytest.raises(ValueError, match="class sums that miss 1"):
        act(np.full((2, *shape), 0.4), record)
    with pytest.raises(ValueError, match="probs: found shape"):
        act(np.full((2, 5, 5, 5), 0.5), record)
    with pytest.raises(ValueError, match="NaN"):
        act(np.full((2, *shape), np.nan), record)


@pytest.mark.parametrize("labels", [np.zeros((4, 4, 3)), np.zeros((4, 3, 4), int)])
def test_label_refuses(labels):
    with pytest.raises(ValueError, match="labels: found .*expected integers of shape"):
        prepare_label(labels, plan_preprocessing((4, 4, 3), np.eye(4)))


# ---- files


def test_restored_file_has_the_native_affine(tmp_path):
    labels = ball((20, 24, 8), (9, 11, 4), 12.0, SPACING_MM)
    write_volume(tmp_path / "native.nii.gz", labels, OBLIQUE)
    native = read_label(tmp_path / "native.nii.gz")
    record = plan_preprocessing(native.grid_shape, native.affine, (2, 2, None), (16, 16))
    prepared = prepare_label(native.data, record)
    write_volume(tmp_path / "prepared.nii.gz", prepared, prepared_affine(record))
    write_volume(tmp_path / "back.nii.gz", restore_labels(one_hot(prepared), record), native.affine)
    back = read_label(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.affine, native.affine)
    assert back.grid_shape == native.grid_shape
    on_file = read_label(tmp_path / "prepared.nii.gz")
    np.testing.assert_allclose(on_file.affine, prepared_affine(record), atol=1e-4)
    np.testing.assert_allclose(on_file.spacing_mm, (2, 2, 6), rtol=1e-6)


def test_official_heart_label_to_2_mm_and_back(real_data):
    folder = real_data / "ACDC" / "training" / "patient001"
    with warnings.catch_warnings(action="ignore"):
        image = read_volume(folder / "patient001_frame01.nii.gz")
        labels = read_label(folder / "patient001_frame01_gt.nii.gz")
    record = plan_preprocessing(labels.grid_shape, labels.affine, (2, 2, None), (224, 224))
    assert record.turned_spacing_mm == (1.5625, 1.5625, 10.0)
    assert record.resampled_shape == (169, 200, 10)
    prepared, record = prepare_image(image.data[None], record)
    assert prepared.shape == (1, 224, 224, 10)
    assert prepared.min() == 0
    assert 0.9 < prepared.max() <= 1
    restored = restore_labels(one_hot(prepare_label(labels.data, record)), record)
    for k in (1, 2, 3):
        assert dice(restored == k, labels.data == k) > 0.9


def test_an_unknown_rule_is_refused():
    record = plan_preprocessing((4, 4, 3), np.eye(4))
    with pytest.raises(ValueError, match="rule: found 'z-score', expected one of 'percentiles'"):
        prepare_image(np.zeros((1, 4, 4, 3)), record, rule="z-score")


def test_unannotated_voxels_are_resampled_as_a_class_and_win_ties():
    labels = np.array([-1, 1, 1, 2, -1, -1, -1, 2], dtype=np.int16).reshape(8, 1, 1)
    record = plan_preprocessing(labels.shape, np.eye(4), (2.0, 1.0, 1.0))
    found = prepare_label(labels, record)
    assert found.dtype == np.int16
    assert found.ravel().tolist() == [-1, 1, -1, -1]  # halves: -1|1, 1|2, -1|-1, -1|2
    whole = plan_preprocessing(labels.shape, np.eye(4))
    assert np.array_equal(prepare_label(labels, whole), labels)


def test_a_grid_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match=r"spacing_mm \[1e-09, .*: found 1e\+11 x .* voxels, exp"):
        plan_preprocessing((100, 100, 100), np.eye(4), (1e-9, 1e-9, 1e-9))
    with pytest.raises(ValueError, match=r"crop_size .*: found 100000 x 100000 x 100 voxels"):
        plan_preprocessing((100, 100, 100), np.eye(4), None, (100_000, 100_000))
