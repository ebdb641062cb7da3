"""Overlap and surface distance of two binary masks: Dice, HD95, ASSD.

The surface of a mask is its set of voxels with a background voxel across at least one face; what
lies beyond the image counts as background. Distances run between voxel centres, in mm. So a single
slice given as a volume (X, Y, 1) is surface throughout, in MONAI too; given as (X, Y) its surface
is its contour.

Empty masks, one rule for every metric:

============  ====  =======================================================================
empty         Dice  HD95 and ASSD
============  ====  =======================================================================
both masks    1     0 mm: nothing was to be found and nothing was
one of them   0     diagonal of the grid, ``norm(shape * spacing_mm)``: more than any two
                    voxels can lie apart, yet finite, so that a mean over cases keeps the case
============  ====  =======================================================================

Neighbours in the field, on masks that are not empty:

- MONAI: the same surface, the same HD95 (``percentile_of="larger"``), the same pooled ASSD. For
  empty masks it gives NaN or infinity, which its means leave out.
- medpy: the same surface; its ``hd95`` is ``percentile_of="pooled"``. Its ``assd`` pools from 0.5.2
  on, and was the mean of the two directed means up to 0.4. It refuses empty masks.
- surface-distance: weighs distances by the area of surface elements placed between the voxels, so
  it agrees only to within about a voxel. Its percentile is the larger of the two directed ones.
"""

from typing import NamedTuple

import numpy as np

from ._checks import check_choice, check_spacing, wrong_input
from ._distances import distances_to_surface

SLACK = 1e-3  # of the smallest voxel side: headers round sizes to 32 bits


class SurfaceMetrics(NamedTuple):
    """HD95 and ASSD of one pair of masks; see `surface_metrics`."""

    hd95_mm: float
    assd_mm: float


def dice_coefficient(mask_gt, mask_pred):
    """Return the Dice coefficient 2 |G and P| / (|G| + |P|).

    Parameters
    ----------
    mask_gt, mask_pred : array_like of bool or 0/1, shape (*S)
        Ground truth and predicted segment.

    Returns
    -------
    float
        In [0, 1]; 1 if both masks are empty, 0 if one of them is.

    Raises
    ------
    ValueError
        If a mask holds other values than 0 and 1, or the shapes differ.

    Examples
    --------
    >>> dice_coefficient([[1, 1, 0]], [[0, 1, 0]])  # 2 * 1 / (2 + 1)
    0.6666666666666666
    """
    mask_gt, mask_pred = _check_masks(mask_gt, mask_pred)
    n_foreground = np.count_nonzero(mask_gt) + np.count_nonzero(mask_pred)
    if n_foreground == 0:
        return 1.0
    return float(2 * np.count_nonzero(mask_gt & mask_pred) / n_foreground)


def hausdorff95(mask_gt, mask_pred, spacing_mm, percentile_of="larger"):
    """Return the 95th percentile Hausdorff distance (HD95) in mm.

    Percentiles interpolate linearly between the sorted distances.

    Parameters
    ----------
    mask_gt, mask_pred : array_like of bool or 0/1, shape (*S), two or three axes
        Ground truth and predicted segment.
    spacing_mm : sequence of float
        Voxel size along each axis.
    percentile_of : {"larger", "pooled"}
        ``"larger"``: the larger of the two directed 95th percentiles. ``"pooled"``: the 95th
        percentile of both directed sets put together.

    Returns
    -------
    float
        At least 0; 0 if both masks are empty, the diagonal of the grid if one of them is.

    Raises
    ------
    ValueError
        For masks or a spacing that do not fit, and for an unknown `percentile_of`.

    Examples
    --------
    >>> hausdorff95([[1, 0, 0, 0]], [[0, 0, 1, 0]], spacing_mm=(1.0, 1.5))
    3.0
    """
    return surface_metrics(mask_gt, mask_pred, spacing_mm, percentile_of).hd95_mm


def average_symmetric_surface_distance(mask_gt, mask_pred, spacing_mm):
    """Return the average symmetric surface distance (ASSD) in mm.

    The mean runs over the voxels of both surfaces pooled, so the larger surface weighs more than
    in a mean of the two directed means.

    Parameters
    ----------
    mask_gt, mask_pred, spacing_mm
        As in `hausdorff95`.

    Returns
    -------
    float
        At least 0; 0 if both masks are empty, the diagonal of the grid if one of them is.

    Raises
    ------
    ValueError
        For masks or a spacing that do not fit.

    Examples
    --------
    >>> average_symmetric_surface_distance([[1, 0, 0]], [[0, 1, 1]], spacing_mm=(1.0, 1.5))
    2.0
    """
    return surface_metrics(mask_gt, mask_pred, spacing_mm).assd_mm


def surface_metrics(mask_gt, mask_pred, spacing_mm, percentile_of="larger"):
    """Return HD95 and ASSD from one pass over the surfaces, which is what they cost."""
    check_choice("percentile_of", percentile_of, ("larger", "pooled"))
    mask_gt, mask_pred, spacing_mm = _check_masks_and_spacing(mask_gt, mask_pred, spacing_mm)
    n_empty = sum(not mask.any() for mask in (mask_gt, mask_pred))
    if n_empty:
        distance_mm = 0.0 if n_empty == 2 else float(np.linalg.norm(mask_gt.shape * spacing_mm))
        return SurfaceMetrics(distance_mm, distance_mm)
    directed_mm = surface_distances(mask_gt, mask_pred, spacing_mm)
    pooled_mm = np.concatenate(directed_mm)
    samples = [pooled_mm] if percentile_of == "pooled" else directed_mm
    hd95_mm = max(np.percentile(distances_mm, 95) for distances_mm in samples)
    return SurfaceMetrics(float(hd95_mm), float(np.mean(pooled_mm)))


def surface_distances(mask_gt, mask_pred, spacing_mm):
    """Return how far voxels of the true, then of the predicted surface lie from the other one."""
    mask_gt, mask_pred, spacing_mm = _check_masks_and_spacing(mask_gt, mask_pred, spacing_mm)
    for name, mask in (("mask_gt", mask_gt), ("mask_pred", mask_pred)):
        if not mask.any():
            raise wrong_input(name, "no foreground", "at least one voxel with a surface")
    # All beyond the union is background, like all beyond the image: the box needs no margin.
    box = _box_around(mask_gt | mask_pred)
    surface_gt, surface_pred = _surface(mask_gt[box]), _surface(mask_pred[box])
    return (
        distances_to_surface(surface_pred, spacing_mm, surface_gt),
        distances_to_surface(surface_gt, spacing_mm, surface_pred),
    )


def boundary_band(masks_gt, spacing_mm, width_mm):
    """Return the voxels near the boundary of any true segment, where predictions are in doubt.

    Parameters
    ----------
    masks_gt : array_like of bool or 0/1, shape (S, X, Y, Z) or (S, X, Y)
        The true segments; of a single slice, (S, X, Y, 1), the boundary is the contour.
    spacing_mm : sequence of float
        Voxel size along each axis.
    width_mm : float
        Positive.

    Returns
    -------
    bool array, shape (X, Y, Z) or (X, Y)
        Voxels whose centres lie at most `width_mm` from one of a surface (see the top of this
        file), inside and outside; voxel sizes that a header has rounded to 32 bits lose none.
        None where all masks are empty.

    Raises
    ------
    ValueError
        For masks, a spacing or a width that do not fit.

    Examples
    --------
    >>> boundary_band([[[0, 0, 0, 0, 1, 1, 1, 1]]], (1.0, 1.5), 3.0).astype(int)
    array([[0, 0, 1, 1, 1, 1, 1, 1]])
    """
    masks_gt = _check_mask("masks_gt", np.asarray(masks_gt))
    if masks_gt.ndim not in (3, 4):
        raise wrong_input("masks_gt", f"{masks_gt.ndim} axes", "segments, then 2 or 3 axes")
    spacing_mm = check_spacing(spacing_mm, masks_gt.ndim - 1)
    if not (np.ndim(width_mm) == 0 and 0 < width_mm < np.inf):
        raise wrong_input("width_mm", width_mm, "a positive number")
    if masks_gt.ndim == 4 and masks_gt.shape[-1] == 1:
        return boundary_band(masks_gt[..., 0], spacing_mm[:2], width_mm)[..., np.newaxis]
    band = np.zeros(masks_gt.shape[1:], dtype=bool)
    if masks_gt.any():
        box = _box_around(masks_gt.any(axis=0), np.ceil(width_mm / spacing_mm).astype(int))
        surface = np.any([_surface(mask[box]) for mask in masks_gt], axis=0)
        everywhere = np.ones(surface.shape, dtype=bool)
        reach_mm = width_mm + SLACK * spacing_mm.min()
        distance_mm = distances_to_surface(surface, spacing_mm, everywhere, reach_mm)
        band[box] = (distance_mm <= reach_mm).reshape(surface.shape)
    return band


def _box_around(mask, margin=0):
    """Return the smallest box of slices around a mask that is not empty, and a margin, cut off."""
    axes, margin = set(range(mask.ndim)), np.broadcast_to(margin, mask.ndim)
    hits = [np.flatnonzero(mask.any(axis=tuple(axes - {axis}))) for axis in sorted(axes)]
    return tuple(
        slice(max(0, hit[0] - m), hit[-1] + 1 + m) for hit, m in zip(hits, margin, strict=True)
    )


def _surface(mask):
    """Return the foreground voxels with a background voxel, or the border, across a face."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        here, old = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= old[:-1]
        here[:-1] &= old[1:]
        here[[0, -1]] = False
    return mask & ~inside


def _check_masks_and_spacing(mask_gt, mask_pred, spacing_mm):
    """Return both masks as bool and the spacing as float64, all of two or three axes."""
    mask_gt, mask_pred = _check_masks(mask_gt, mask_pred)
    if mask_gt.ndim not in (2, 3):
        raise wrong_input("mask_gt", f"{mask_gt.ndim} axes", "2 or 3")
    return mask_gt, mask_pred, check_spacing(spacing_mm, mask_gt.ndim)


def _check_masks(mask_gt, mask_pred):
    """Return both masks as bool arrays of one shape, or refuse them."""
    mask_gt, mask_pred = np.asarray(mask_gt), np.asarray(mask_pred)
    if mask_gt.shape != mask_pred.shape:
        raise wrong_input(
            "mask_pred", f"shape {mask_pred.shape}", f"that of mask_gt, {mask_gt.shape}"
        )
    return _check_mask("mask_gt", mask_gt), _check_mask("mask_pred", mask_pred)


def _check_mask(name, mask):
    """Return a mask as bool, or refuse it."""
    if mask.dtype != bool and not np.all((mask == 0) | (mask == 1)):
        raise wrong_input(name, "values other than 0 and 1", "a boolean or 0/1 mask")
    return mask.astype(bool, copy=False)
