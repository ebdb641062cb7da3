"""The grid that a dataset asks for: its slice axis, voxels that let a crop hold its foreground.

Decided once for all its volumes, from where `labels.survey` finds the foreground, and kept with
the prepared cases. What a crop cuts away all the same is counted: a network that never sees a part
of an organ cannot segment it.
"""

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .._checks import named, shown, wrong_input
from ..runs.folders import read_json, write_json
from ..runs.tables import read_table, write_table
from .labels import segment_masks, segment_values, survey
from .preprocessing import clear_slice_axis, first_sample, plan_preprocessing
from .volumes import read_label

MOST_CUT = 0.01  # share of a segment, on average over cases, that a crop may cut away unasked


def common_slice_axis(extents):
    """Return the axis along which the slices of a dataset lie, and a note.

    Parameters
    ----------
    extents : list of segcal_lite.data.labels.Extent
        At least one.

    Returns
    -------
    axis : {0, 1, 2}
        Towards right, anterior or superior: the one whose median voxel size is clearly the
        coarsest (`preprocessing.clear_slice_axis`), else 2.
    notes : list of str
        A sentence if volumes by themselves would have been cut along different axes, else empty.
    """
    sizes_mm = np.array([extent.thicknesses_mm for extent in extents])
    axis = clear_slice_axis(np.median(sizes_mm, axis=0))
    axes = map(clear_slice_axis, sizes_mm)
    others = [e.case.name for e, own in zip(extents, axes, strict=True) if own != axis]
    if not others:
        return axis, []
    plane = ("sagittal", "coronal", "axial")[axis]
    return axis, [
        f"slices are {plane} in all volumes, though {len(others)} by their own voxel sizes would "
        f"be cut along another axis: {named(others, 3)}"
    ]


def median_spacing(extents, axis=None):
    """Return the median voxel size along each prepared axis in mm, rounded to 0.0001."""
    axis = common_slice_axis(extents)[0] if axis is None else axis
    turned = [np.append(np.delete(e.sizes_mm, axis), e.sizes_mm[axis]) for e in extents]
    return np.round(np.median(turned, axis=0), 4).tolist()


def fit_to_crop(task, crop_size, extents, axis):
    """Make the voxels of a task so large that a crop holds the foreground of what it learns from.

    Test cases are not asked. Around the foreground the crop holds the margin of the scored boxes,
    as far as the image goes. The axes in plane grow by one factor.

    Parameters
    ----------
    task : segcal_lite.data.tasks.Task
        With voxel sizes in plane; ``None`` for the third keeps that of each volume in 2D, and is
        the median of the volumes in 3D.
    crop_size : tuple of two or three int
    extents : list of segcal_lite.data.labels.Extent
    axis : {0, 1, 2}
        From `common_slice_axis`.

    Returns
    -------
    task : segcal_lite.data.tasks.Task
        As it was if its voxels are large enough.
    notes : list of str
        A sentence if they were not.
    """
    needs_mm = [
        _needed_mm(extent, axis, task.box_dilation_mm)
        for extent in extents
        if extent.case.split != "test" and extent.boxes
    ]
    if not needs_mm:
        return task, []
    n = len(crop_size)
    native_mm = _settled_spacing(task, extents, axis)
    if n == 3:  # a network of volumes has one voxel size
        task = replace(task, spacing_mm=tuple(native_mm))
    factors = np.max(needs_mm, axis=0)[:n] / np.multiply(crop_size, native_mm[:n])
    factors = np.maximum([factors[:2].max()] * 2 + factors[2:].tolist(), 1)
    if np.all(factors == 1):
        return task, []
    sizes_mm = [math.ceil(100 * f * mm) / 100 for f, mm in zip(factors, native_mm, strict=False)]
    fitted = replace(task, spacing_mm=(*sizes_mm, *task.spacing_mm[n:]))
    both = [" x ".join(f"{mm:g}" for mm in spacing) for spacing in (sizes_mm, native_mm[:n])]
    crop = " x ".join(map(str, crop_size))
    return fitted, [
        f"voxels of {both[0]} mm, coarser than the data's {both[1]}, let {crop} of them hold the "
        "foreground of all training and validation cases; a larger crop_size keeps finer ones"
    ]


def _settled_spacing(task, extents, axis):
    """Return the voxel sizes of a task, the median of the volumes where it leaves one open."""
    medians_mm = median_spacing(extents, axis)
    return [asked or own for asked, own in zip(task.spacing_mm, medians_mm, strict=True)]


def _needed_mm(extent, axis, margin_mm):
    """Return the sides in mm, in prepared order, of a centred crop that holds the foreground."""
    record = plan_preprocessing(extent.shape, extent.affine, slice_axis=axis)
    lows, highs = (
        [[getattr(side, end) for side in box] for box in extent.boxes.values()]
        for end in ("start", "stop")
    )
    edges = np.array([np.min(lows, axis=0), np.max(highs, axis=0)])[:, record.axes]
    halves_mm = np.abs(edges - np.divide(record.turned_shape, 2)).max(axis=0)
    halves_mm = halves_mm * record.turned_spacing_mm + margin_mm
    return np.minimum(2 * halves_mm, np.multiply(record.turned_shape, record.turned_spacing_mm))


def enough_crop(task, n_axes, extents, axis):
    """Return the smallest crop, in multiples of 16, that holds the foreground of all cases."""
    needs_mm = [_needed_mm(e, axis, task.box_dilation_mm) for e in extents if e.boxes]
    sizes_mm = _settled_spacing(task, extents, axis)[:n_axes]
    n_voxels = np.max(needs_mm, axis=0)[:n_axes] / sizes_mm
    return tuple(int(16 * np.ceil(n / 16)) for n in n_voxels)


def cut_shares(extents, segments, task, crop_size, axis):
    """Return what share of each segment a crop cuts away, by the voxels of the labels on file.

    Parameters
    ----------
    extents : list of segcal_lite.data.labels.Extent
    segments : dict of tuple of int
        Stored values by name of the segment.
    task : segcal_lite.data.tasks.Task
        For its voxel size.
    crop_size : tuple of two or three int, or None
    axis : {0, 1, 2}

    Returns
    -------
    pandas.DataFrame
        Columns case, domain, split, segment, cut: one row for each case and segment that occurs
        in it, the share in [0, 1].
    """
    rows = []
    for extent in extents:
        record = plan_preprocessing(
            extent.shape, extent.affine, task.spacing_mm, crop_size, slice_axis=axis
        )
        kept = kept_native_voxels(record)
        case = extent.case
        for name, cut in _cut_of_case(extent, segments, kept).items():
            rows.append((case.name, case.domain, case.split, name, cut))
    return pd.DataFrame(rows, columns=["case", "domain", "split", "segment", "cut"])


def kept_native_voxels(record):
    """Return three slices of the native grid: the voxels whose centres lie within the crop.

    Examples
    --------
    >>> kept_native_voxels(plan_preprocessing((9, 9, 4), np.diag([-1, 1, 3, 1]), None, (4, 16)))
    (slice(3, 7, None), slice(0, 9, None), slice(0, 4, None))
    """
    first = first_sample(record.turned_shape, record.resampled_shape, record.step)
    crop_start, crop_stop = record.crop_start, np.add(record.crop_start, record.prepared_shape)
    start = first + record.step * (np.array(crop_start) - 0.5)
    bounds = np.array([start, start + record.step * record.prepared_shape])
    bounds = np.clip(np.ceil(bounds - 1e-6), 0, record.turned_shape)
    # Larger voxels may end short of the last native one: that is no crop.
    whole = np.less_equal(crop_start, 0) & np.greater_equal(crop_stop, record.resampled_shape)
    bounds = np.where(whole, [(0, 0, 0), record.turned_shape], bounds).astype(int).T
    native = [slice(0)] * 3
    for axis, flip, n, (low, high) in zip(
        record.axes, record.flips, record.turned_shape, bounds.tolist(), strict=True
    ):
        native[axis] = slice(n - high, n - low) if flip else slice(low, high)
    return tuple(native)


def _cut_of_case(extent, segments, kept):
    """Return the share cut away of each segment that occurs; the label is read only if needed."""
    values = {name: [v for v in asked if v in extent.boxes] for name, asked in segments.items()}
    values = {name: found for name, found in values.items() if found}
    boxes = [extent.boxes[value] for found in values.values() for value in found]
    if all(_holds(kept, box) for box in boxes):
        return dict.fromkeys(values, 0.0)
    with warnings.catch_warnings(action="ignore"):
        data = read_label(extent.case.label_path).data
    shares = {}
    for name, found in values.items():
        mask = np.isin(data, found)
        shares[name] = 1 - np.count_nonzero(mask[kept]) / np.count_nonzero(mask)
    return shares


def _holds(outer, inner):
    """Whether a box of slices lies within another."""
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(outer, inner, strict=True))


def describe_cut(cut):
    """Say of each segment what share `cut_shares` has found cut away, if any; the worst first."""
    lines = []
    means = cut.groupby("segment", sort=False).cut.mean()
    for name in means[means > 0].sort_values(ascending=False).index:
        worst = cut[cut.segment == name].set_index("case").cut
        lines.append(
            f"the crop cuts away {_percent(means[name])} of {name} on average, "
            f"at most {_percent(worst.max())} ({worst.idxmax()})"
        )
    return lines


def _percent(share):
    """Return a share in per cent; what is little is not rounded to nothing."""
    return f"{100 * share:.1f} %" if share >= 0.0005 else "less than 0.1 %"


@dataclass(frozen=True, eq=False)
class Grid:
    """What was settled for all volumes of a dataset, beside voxel size and crop."""

    slice_axis: int  # from `common_slice_axis`
    cut: pd.DataFrame  # from `cut_shares`
    notes: tuple  # what people must know about both
    enough: tuple = ()  # a crop that would cut nothing away; empty if this one cuts next to nothing

    @property
    def cuts_much(self):
        """Whether the crop cuts away more than `MOST_CUT` of a segment, on average over cases."""
        return bool((self.cut.groupby("segment").cut.mean() > MOST_CUT).any())


def settle_grid(dataset, task, crop_size, selection=None, extents=None):
    """Return the `Grid` of a dataset; `extents` are those of `survey`, if they are at hand."""
    extents = extents or survey(dataset, selection)
    axis, notes = common_slice_axis(extents)
    cut = cut_shares(extents, segment_values(dataset, selection), task, crop_size, axis)
    grid = Grid(axis, cut, (*notes, *describe_cut(cut)))
    if grid.cuts_much:
        grid = replace(grid, enough=enough_crop(task, len(crop_size), extents, axis))
    return grid


def check_cut(grid, what):
    """Raise a ``ValueError`` that names `what` if the crop of a `Grid` cuts away too much."""
    if grid.cuts_much:
        expected = (
            f"at most {_percent(MOST_CUT)} of a segment on average: take crop_size {grid.enough}, "
            "or cut_foreground=True to go on without the rest"
        )
        raise wrong_input(what, "; ".join(describe_cut(grid.cut)), expected)


def write_grid(folder, grid):
    """Keep a settled grid in a folder of prepared cases: ``grid.json`` and ``cut.csv``."""
    write_table(folder / "cut.csv", grid.cut, sealed=True)
    write_json(folder / "grid.json", {"slice_axis": grid.slice_axis, "notes": grid.notes})


def read_grid(folder):
    """Return the `Grid` that `write_grid` has kept in `folder`."""
    path = Path(folder) / "grid.json"
    settled = read_json(path, shape={"slice_axis": int, "notes": list})
    axis, notes = settled["slice_axis"], settled["notes"]
    if axis not in (0, 1, 2) or not all(isinstance(note, str) for note in notes):
        expected = "an axis and notes; if a run has made it, remove it and run again"
        raise wrong_input(path, shown(settled), expected)
    return Grid(axis, read_table(Path(folder) / "cut.csv", sealed=True), tuple(notes))


def lost_segments(cases, cut, segments):
    """Say which segments some labels hold on file, and no voxel of the model's grid does."""
    lost = {}
    for case in cases:  # one at a time: labels of all cases may not fit into memory
        targets = case.patient_targets
        for segment in cut[(cut.case == case.name) & (cut.cut < 1)].segment:
            if not segment_masks(targets, targets, 1 + segments.index(segment))[0].any():
                lost.setdefault(segment, []).append(case.name)
    return [
        f"{segment} is too small for these voxels in {len(names)} cases ({named(names, 3)}), and "
        "counts as absent there: a larger crop_size keeps finer ones"
        for segment, names in lost.items()
    ]
