"""Dice, HD95 and ASSD against hand-computed cases, other libraries and invariances."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segcal_lite.segmentation_metrics import (
    average_symmetric_surface_distance,
    boundary_band,
    dice_coefficient,
    hausdorff95,
    surface_distances,
)


def _blob(rng, shape, density=0.55):
    """A random mask with interior: noise smoothed by its neighbours' mean."""
    noise = rng.random(shape)
    for axis in range(len(shape)):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
    return noise > np.quantile(noise, density)


def _mask_pairs():
    """Named pairs of masks (ground truth, prediction, spacing), none of them empty."""
    rng = np.random.default_rng(7)
    pairs = {}
    for index, (shape, spacing_mm) in enumerate(
        [
            ((13, 11, 7), (1.0, 1.0, 1.0)),
            ((12, 14, 6), (0.5, 0.7, 4.0)),
            ((5, 9, 16), (3.0, 1.25, 0.4)),
            ((15, 17), (1.0, 2.5)),
            ((20, 9), (0.3, 0.3)),
        ]
    ):
        pairs[f"random{index}"] = (_blob(rng, shape), _blob(rng, shape, 0.7), spacing_mm)
    spacing_mm = (1.5, 0.8, 3.0)
    empty = np.zeros((8, 9, 6), dtype=bool)
    voxel, other_voxel, plane, cube, border = (empty.copy() for _ in range(5))
    voxel[2, 3, 1] = True
    other_voxel[7, 8, 5] = True
    plane[:, :, 3] = True
    cube[2:6, 2:7, 1:5] = True
    border[0:4, 0:5, 0:3] = True
    pairs["voxel and voxel"] = (voxel, other_voxel, spacing_mm)
    pairs["voxel and cube"] = (voxel, cube, spacing_mm)
    pairs["plane and cube"] = (plane, cube, spacing_mm)
    pairs["touching the border"] = (border, cube, spacing_mm)
    pairs["disjoint"] = (border, other_voxel, spacing_mm)
    pairs["identical"] = (cube, cube.copy(), spacing_mm)
    pairs["whole grid and cube"] = (~empty, cube, spacing_mm)
    pairs["one slice thick"] = (border[:, :, :1], cube[:, :, 1:2], spacing_mm)
    return pairs


PAIRS = _mask_pairs()
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


# Hand-computed cases


def test_dice_by_hand():
    mask_gt = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    mask_pred = np.array([[0, 1, 1, 1], [1, 0, 0, 0]])
    assert dice_coefficient(mask_gt, mask_pred) == 4 / 7
    assert dice_coefficient(mask_gt, mask_gt) == 1.0
    assert dice_coefficient(mask_gt, 1 - mask_gt) == 0.0


def test_distances_of_two_squares_by_hand():
    # Two 3 x 3 squares, two columns apart; only the centre of a square is not surface.
    mask_gt = np.zeros((5, 8), dtype=bool)
    mask_pred = mask_gt.copy()
    mask_gt[1:4, 1:4] = True
    mask_pred[1:4, 3:6] = True
    gt_to_pred_mm, pred_to_gt_mm = surface_distances(mask_gt, mask_pred, (1.0, 10.0))
    # Column by column of the ground truth: 20 mm, then 10 mm, then 0 (column 3 is shared). The
    # voxel (2, 3) is surface in both.
    assert sorted(gt_to_pred_mm) == [0, 0, 0, 10, 10, 20, 20, 20]
    assert sorted(pred_to_gt_mm) == [0, 0, 0, 10, 10, 20, 20, 20]
    assert average_symmetric_surface_distance(mask_gt, mask_pred, (1.0, 10.0)) == 10.0


def test_hd95_takes_the_larger_directed_percentile_and_interpolates():
    # Ground truth: a line of 21 voxels. Prediction: the same line and one stray voxel far off.
    mask_gt = np.zeros((2, 40), dtype=bool)
    mask_gt[0, :21] = True
    mask_pred = mask_gt.copy()
    mask_pred[0, 30] = True
    spacing_mm = (1.0, 2.0)
    # gt -> pred: all 0. pred -> gt: 21 zeros and 20 mm; position 0.95 * 21 = 19.95 is still 0.
    assert hausdorff95(mask_gt, mask_pred, spacing_mm) == 0.0
    # With two strays at 18 and 20 mm the position is 0.95 * 22 = 20.9: 0.9 of the way to 18 mm.
    mask_pred[0, 29] = True
    assert hausdorff95(mask_gt, mask_pred, spacing_mm) == pytest.approx(0.9 * 16 + 0.1 * 0 + 1.8)
    # Pooled: 44 distances, position 0.95 * 43 = 40.85, among the zeros.
    assert hausdorff95(mask_gt, mask_pred, spacing_mm, percentile_of="pooled") == 0.0


def test_assd_pools_and_does_not_average_the_directed_means():
    mask_gt = np.array([[1, 0, 0, 0]])
    mask_pred = np.array([[0, 1, 1, 1]])
    # Directed means are 1 and 2: their mean is 1.5; pooled (1 + 1 + 2 + 3) / 4.
    assert average_symmetric_surface_distance(mask_gt, mask_pred, (1.0, 1.0)) == 1.75


def test_the_directed_arrays_come_in_the_stated_order():
    mask_gt = np.array([[1, 0, 0, 0]])
    mask_pred = np.array([[0, 1, 1, 1]])
    gt_to_pred_mm, pred_to_gt_mm = surface_distances(mask_gt, mask_pred, (1.0, 1.0))
    assert gt_to_pred_mm.tolist() == [1.0]
    assert pred_to_gt_mm.tolist() == [1.0, 2.0, 3.0]
    assert gt_to_pred_mm.dtype == np.float64


def test_surface_is_by_faces_not_corners():
    # In a 5 x 5 square with its corner cut off, the voxel diagonal to the cut keeps four
    # foreground face neighbours, so it is interior.
    mask_gt = np.ones((5, 5), dtype=bool)
    mask_gt[0, 0] = False
    gt_to_pred_mm, _ = surface_distances(mask_gt, mask_gt, (1.0, 1.0))
    assert gt_to_pred_mm.size == 15


def test_the_image_border_counts_as_background():
    mask_full = np.ones((4, 4, 4), dtype=bool)
    gt_to_pred_mm, _ = surface_distances(mask_full, mask_full, (1.0, 1.0, 1.0))
    assert gt_to_pred_mm.size == 64 - 8


# The rule for empty masks


@pytest.mark.parametrize("percentile_of", ["larger", "pooled"])
def test_empty_masks(percentile_of):
    empty, mask = np.zeros((3, 4, 12), dtype=bool), np.zeros((3, 4, 12), dtype=bool)
    mask[1, 1, 5] = True
    spacing_mm = (1.0, 1.0, 1.0)
    for pair, dice, distance_mm in [
        ((empty, empty), 1.0, 0.0),
        ((empty, mask), 0.0, 13.0),
        ((mask, empty), 0.0, 13.0),
        ((mask, mask), 1.0, 0.0),
    ]:
        assert dice_coefficient(*pair) == dice
        assert hausdorff95(*pair, spacing_mm, percentile_of) == distance_mm
        assert average_symmetric_surface_distance(*pair, spacing_mm) == distance_mm


def test_one_empty_mask_is_worse_than_the_farthest_voxels():
    first, last = np.zeros((3, 5), dtype=bool), np.zeros((3, 5), dtype=bool)
    first[0, 0] = last[-1, -1] = True
    spacing_mm = (2.0, 0.5)
    worst_mm = hausdorff95(first, np.zeros_like(first), spacing_mm)
    assert worst_mm == np.hypot(6.0, 2.5)
    assert worst_mm > hausdorff95(first, last, spacing_mm)


@pytest.mark.parametrize("empty_one", ["mask_gt", "mask_pred"])
def test_surface_distances_refuses_an_empty_mask(empty_one):
    masks = {"mask_gt": np.ones((3, 3)), "mask_pred": np.ones((3, 3))}
    masks[empty_one] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=f"^{empty_one}: found no foreground"):
        surface_distances(**masks, spacing_mm=(1.0, 1.0))


def test_masks_without_voxels_are_both_empty():
    nothing = np.zeros((0, 4), dtype=bool)
    assert dice_coefficient(nothing, nothing) == 1.0
    assert hausdorff95(nothing, nothing, (1.0, 1.0)) == 0.0


# Agreement with other libraries


def _one_hot(mask):
    return np.stack([~mask, mask])[None].astype(np.float32)


@every_pair
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_agrees_with_monai(pair):
    monai_metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    mask_gt, mask_pred, spacing_mm = pair
    one_hot_pred, one_hot_gt = (torch.as_tensor(_one_hot(m)) for m in (mask_pred, mask_gt))
    spacing = list(spacing_mm)
    monai_hd95 = monai_metrics.compute_hausdorff_distance(
        one_hot_pred, one_hot_gt, percentile=95, spacing=spacing
    )
    monai_assd = monai_metrics.compute_average_surface_distance(
        one_hot_pred, one_hot_gt, symmetric=True, spacing=spacing
    )
    monai_dice = monai_metrics.compute_dice(one_hot_pred, one_hot_gt, include_background=False)
    # MONAI computes in float32.
    assert hausdorff95(*pair) == pytest.approx(monai_hd95.item(), rel=1e-5, abs=1e-5)
    assert average_symmetric_surface_distance(*pair) == pytest.approx(
        monai_assd.item(), rel=1e-5, abs=1e-5
    )
    assert dice_coefficient(mask_gt, mask_pred) == pytest.approx(monai_dice.item(), rel=1e-6)


@every_pair
def test_agrees_with_medpy(pair):
    binary = pytest.importorskip("medpy.metric.binary")
    mask_gt, mask_pred, spacing_mm = pair
    medpy_hd95 = binary.hd95(mask_pred, mask_gt, voxelspacing=spacing_mm)
    assert hausdorff95(*pair, percentile_of="pooled") == pytest.approx(medpy_hd95, rel=1e-12)
    medpy_assd = binary.assd(mask_pred, mask_gt, voxelspacing=spacing_mm)
    assert average_symmetric_surface_distance(*pair) == pytest.approx(medpy_assd, rel=1e-12)
    gt_to_pred_mm, pred_to_gt_mm = surface_distances(*pair)
    for directed_mm, masks in [
        (gt_to_pred_mm, (mask_gt, mask_pred)),
        (pred_to_gt_mm, (mask_pred, mask_gt)),
    ]:
        medpy_mm = binary.asd(*masks, voxelspacing=spacing_mm)
        assert directed_mm.mean() == pytest.approx(medpy_mm, rel=1e-12)
    assert dice_coefficient(mask_gt, mask_pred) == binary.dc(mask_pred, mask_gt)


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if pair[0].ndim == 3])
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_lies_within_a_voxel_of_surface_distance(name):
    surface_distance = pytest.importorskip("surface_distance")
    mask_gt, mask_pred, spacing_mm = PAIRS[name]
    lengths = surface_distance.compute_surface_distances(mask_gt, mask_pred, spacing_mm)
    largest_mm = surface_distance.compute_robust_hausdorff(lengths, 100)
    ours_mm = max(mm.max() for mm in surface_distances(mask_gt, mask_pred, spacing_mm))
    # Its surface elements lie on voxel corners, half a diagonal from the surface voxels that they
    # belong to; the two ends of a distance differ by a whole diagonal at most.
    assert abs(ours_mm - largest_mm) <= np.linalg.norm(spacing_mm) + 1e-9


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_equals_surface_distance_on_parallel_planes():
    surface_distance = pytest.importorskip("surface_distance")
    mask_gt, mask_pred = np.zeros((6, 6, 12), dtype=bool), np.zeros((6, 6, 12), dtype=bool)
    mask_gt[:, :, 2], mask_pred[:, :, 8] = True, True
    spacing_mm = (1.0, 1.0, 2.5)
    # A plane has two layers of surface elements, half a voxel below and above its centres: half of
    # them are 6 and half 5 voxels from the nearest layer of the other plane; the 95th percentile
    # is 6 voxels in both.
    lengths = surface_distance.compute_surface_distances(mask_gt, mask_pred, spacing_mm)
    assert surface_distance.compute_robust_hausdorff(lengths, 95) == 15.0
    assert hausdorff95(mask_gt, mask_pred, spacing_mm) == 15.0


# Invariances

shapes = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6)
spacings = st.floats(0.2, 5.0)


@st.composite
def mask_pairs(draw):
    shape = draw(shapes)
    mask_gt, mask_pred = (draw(hnp.arrays(bool, shape)) for _ in range(2))
    return mask_gt, mask_pred, tuple(draw(spacings) for _ in shape)


def _all_metrics(mask_gt, mask_pred, spacing_mm):
    return [
        dice_coefficient(mask_gt, mask_pred),
        hausdorff95(mask_gt, mask_pred, spacing_mm),
        hausdorff95(mask_gt, mask_pred, spacing_mm, percentile_of="pooled"),
        average_symmetric_surface_distance(mask_gt, mask_pred, spacing_mm),
    ]


@given(mask_pairs())
@settings(max_examples=80, deadline=None)
def test_symmetric_in_the_two_masks(pair):
    mask_gt, mask_pred, spacing_mm = pair
    swapped = _all_metrics(mask_pred, mask_gt, spacing_mm)
    assert _all_metrics(*pair) == pytest.approx(swapped, rel=1e-12)


@given(mask_pairs(), st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_distances_scale_with_the_spacing_and_dice_does_not(pair, factor):
    mask_gt, mask_pred, spacing_mm = pair
    dice, *distances_mm = _all_metrics(*pair)
    scaled_dice, *scaled_mm = _all_metrics(mask_gt, mask_pred, np.multiply(spacing_mm, factor))
    assert scaled_dice == dice
    assert scaled_mm == pytest.approx(np.multiply(distances_mm, factor).tolist(), rel=1e-9)


@given(mask_pairs(), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_translation_and_background_margins_change_nothing(pair, before, after):
    mask_gt, mask_pred, spacing_mm = pair
    assume(mask_gt.any() and mask_pred.any())
    moved = [np.pad(mask, (before, after)) for mask in (mask_gt, mask_pred)]
    assert _all_metrics(*moved, spacing_mm) == pytest.approx(_all_metrics(*pair), rel=1e-12)


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_surface_distances_match_brute_force(pair):
    mask_gt, mask_pred, spacing_mm = pair
    assume(mask_gt.any() and mask_pred.any())

    def surface_points_mm(mask):
        padded = np.pad(mask, 1)
        points = []
        for index in np.argwhere(padded):
            steps = np.vstack([np.eye(mask.ndim, dtype=int), -np.eye(mask.ndim, dtype=int)])
            if any(not padded[tuple(index + step)] for step in steps):
                points.append(index * np.asarray(spacing_mm))
        return np.array(points)

    points_gt, points_pred = surface_points_mm(mask_gt), surface_points_mm(mask_pred)
    between_mm = np.linalg.norm(points_gt[:, None] - points_pred[None], axis=-1)
    gt_to_pred_mm, pred_to_gt_mm = surface_distances(*pair)
    assert gt_to_pred_mm == pytest.approx(between_mm.min(axis=1), rel=1e-9, abs=1e-9)
    assert pred_to_gt_mm == pytest.approx(between_mm.min(axis=0), rel=1e-9, abs=1e-9)


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_ranges(pair):
    mask_gt, mask_pred, spacing_mm = pair
    dice, *distances_mm = _all_metrics(*pair)
    diagonal_mm = np.linalg.norm(np.multiply(mask_gt.shape, spacing_mm))
    assert 0 <= dice <= 1
    assert all(0 <= distance_mm <= diagonal_mm for distance_mm in distances_mm)


# The textbook: two distance transforms of the whole grid


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.5, 0.7, 4.0), (3.0, 1.25, 0.4)])
@pytest.mark.parametrize("density", [0.6, 0.97])
def test_distances_are_those_of_two_distance_transforms(spacing_mm, density):
    rng = np.random.default_rng(3)
    masks = [_blob(rng, (41, 38, 29), density), _blob(rng, (41, 38, 29), 0.99)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    to_each = [ndimage.distance_transform_edt(~s, sampling=spacing_mm) for s in surfaces]
    expected = to_each[1][surfaces[0]], to_each[0][surfaces[1]]
    for found_mm, expected_mm in zip(surface_distances(*masks, spacing_mm), expected, strict=True):
        np.testing.assert_allclose(found_mm, expected_mm, rtol=1e-12)


# The band around the true boundary


@st.composite
def segments_and_width(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=7))
    masks = draw(hnp.arrays(bool, (draw(st.integers(1, 3)), *shape)))
    widths = st.sampled_from([0.5, 1.0, 2.0, 3.5, 30.0])
    return masks, tuple(draw(st.sampled_from([0.5, 1.0, 2.5])) for _ in shape), draw(widths)


@given(segments_and_width())
@settings(max_examples=100, deadline=None)
def test_the_band_is_what_lies_near_a_surface(drawn):
    masks_gt, spacing_mm, width_mm = drawn
    surface = np.any([mask & ~ndimage.binary_erosion(mask) for mask in masks_gt], axis=0)
    expected = np.zeros(surface.shape, dtype=bool)
    if surface.any():
        expected = ndimage.distance_transform_edt(~surface, sampling=spacing_mm) <= width_mm
    band = boundary_band(masks_gt, spacing_mm, width_mm)
    assert band.dtype == bool
    np.testing.assert_array_equal(band, expected)


def test_the_band_by_hand_with_an_empty_segment_beside():
    mask = np.zeros((1, 9, 3), dtype=np.uint8)
    mask[0, 3:8, 1] = 1
    band = boundary_band([mask, 0 * mask], (1.0, 1.0, 2.0), 1.0)
    assert np.flatnonzero(band[0, :, 1]).tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert not band[:, :, [0, 2]].any()
    assert not boundary_band([0 * mask, 0 * mask], (1.0, 1.0, 2.0), 1.0).any()
    assert boundary_band(np.zeros((0, 2, 3, 4)), (1.0, 1.0, 2.0), 1.0).shape == (2, 3, 4)


def test_the_band_on_one_slice_is_around_its_contour():
    mask = np.zeros((20, 20), dtype=bool)
    mask[4:16, 4:16] = True
    band = boundary_band(mask[None, :, :, None], (1.0, 1.0, 5.0), 2.0)
    np.testing.assert_array_equal(band[..., 0], boundary_band(mask[None], (1.0, 1.0), 2.0))
    assert not band[10, 10, 0] and band[4, 10, 0] and band[2, 10, 0] and not band[1, 10, 0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"masks_gt": np.full((1, 3, 3), 2)}, "masks_gt: found values other than 0 and 1"),
        ({"masks_gt": np.ones((3, 3))}, "masks_gt: found 2 axes"),
        ({"spacing_mm": (1.0,)}, "spacing_mm: .* expected 2 positive numbers"),
        ({"width_mm": 0}, "width_mm: found 0, expected a positive number"),
        ({"width_mm": np.nan}, "width_mm: found nan"),
        ({"width_mm": np.inf}, "width_mm: found inf"),
    ],
)
def test_the_band_refuses_misfits(change, told):
    fitting = {"masks_gt": np.ones((1, 3, 3)), "spacing_mm": (1.0, 1.0), "width_mm": 1.0}
    with pytest.raises(ValueError, match=f"^{told}"):
        boundary_band(**fitting | change)


# Wrong input

metrics_with_spacing = pytest.mark.parametrize(
    "metric", [hausdorff95, average_symmetric_surface_distance, surface_distances]
)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_zero_one_masks_of_any_dtype_agree(dtype):
    mask_gt, mask_pred, spacing_mm = PAIRS["random1"]
    cast = _all_metrics(mask_gt.astype(dtype), mask_pred.astype(dtype), spacing_mm)
    assert cast == _all_metrics(mask_gt, mask_pred, spacing_mm)


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan])
def test_refuses_values_other_than_zero_and_one(value):
    good, bad = np.ones((2, 2)), np.full((2, 2), value)
    with pytest.raises(ValueError, match="^mask_gt: found values other than 0 and 1"):
        dice_coefficient(bad, good)
    with pytest.raises(ValueError, match="^mask_pred: found values other than 0 and 1"):
        dice_coefficient(good, bad)


@metrics_with_spacing
def test_distances_refuse_misfits(metric):
    mask = np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match=r"^mask_pred: found shape \(3, 3\), expected that of"):
        metric(mask, mask[0], (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="^spacing_mm: .* expected 3 positive numbers"):
        metric(mask, mask, (1.0, 1.0))
    with pytest.raises(ValueError, match="^spacing_mm: .* expected 3 positive numbers"):
        metric(mask, mask, (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="^mask_gt: found 4 axes, expected 2 or 3"):
        metric(mask[None], mask[None], (1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="^mask_gt: found values other than 0 and 1"):
        metric(2 * mask.astype(int), mask, (1.0, 1.0, 1.0))


def test_an_empty_mask_does_not_hide_a_wrong_spacing():
    empty = np.zeros((3, 3), dtype=bool)
    with pytest.raises(ValueError, match="^spacing_mm"):
        hausdorff95(empty, empty, (1.0,))


def test_refuses_an_unknown_percentile_rule():
    mask = np.ones((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="^percentile_of: found 'mean', expected one of 'larger'"):
        hausdorff95(mask, mask, (1.0, 1.0), percentile_of="mean")


def test_inputs_stay_as_they_were():
    mask_gt, mask_pred, spacing_mm = PAIRS["random0"]
    before = mask_gt.copy(), mask_pred.copy()
    _all_metrics(mask_gt, mask_pred, spacing_mm)
    assert np.array_equal(before[0], mask_gt)
    assert np.array_equal(before[1], mask_pred)


@pytest.mark.parametrize(("side", "width"), [(0.8, 4.0), (0.4, 4.0), (0.8, 2.4)])
def test_a_band_does_not_hang_on_how_a_header_rounds(side, width):
    """NIfTI holds 0.8 as 0.800000012: five voxels are a little more than 4 mm then."""
    mask = np.zeros((1, 60, 12, 12), bool)
    mask[:, 28:32, 4:8, 4:8] = True
    rounded = (float(np.float32(side)),) * 3
    band = boundary_band(mask, (side,) * 3, width)
    np.testing.assert_array_equal(boundary_band(mask, rounded, width), band)
    along = np.flatnonzero(band[:, 5, 5])
    assert (along[0], along[-1]) == (28 - round(width / side), 31 + round(width / side))
