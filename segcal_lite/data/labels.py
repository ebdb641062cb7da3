"""Labels: what ``dataset.json`` calls them, the arrays they stand for, and where on file they lie.

nnU-Net writes ``{"liver": 1}``, and ``{"whole": [1, 2], "core": 2}`` for regions that may overlap;
MSD writes the inverted ``{"1": "liver"}``. A label called ignore marks what nobody annotated.

Segments are classes, labels (X, Y, Z) with probabilities (K, X, Y, Z), or R overlapping regions,
each a binary problem: (R, X, Y, Z) with (2, R, X, Y, Z). The functions here take either.
"""

import warnings
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from .._checks import IGNORED, shown, told_if_unreadable, wrong_input
from ..runs.folders import as_json_values, read_json, write_json
from .other_formats import companion_files
from .splits import check_not_all, check_unique
from .volumes import LARGEST_LABEL, read_label


@dataclass(frozen=True)
class LabelNames:
    """Names of what is segmented, and the stored values behind them."""

    segments: tuple  # foreground classes by rising value; with regions these, in file order
    label_values: tuple  # stored value of each class, background 0 first; (0, 1, 5) is possible
    regions: tuple = ()  # with `region_order` as in `segcal_lite.data.tasks.Task`
    region_order: tuple = ()
    ignore_value: int | None = None  # stored value of voxels that nobody annotated


def read_label_names(path, labels, region_order=None):
    """Return the `LabelNames` of ``labels`` and ``regions_class_order`` in the file at `path`.

    One name with several values makes all of them regions, which need an order: the value that
    each leaves in a label map where no later region is.
    """
    what = f"{path}, labels"
    values_of = _values_by_name(what, labels)
    ignore_value = _take_ignored(what, values_of)
    if len(values_of) < 2:
        raise wrong_input(what, shown(labels), "background and at least one segment")
    stored = sorted(value for values in values_of.values() for value in values)
    has_regions = any(len(values) > 1 for values in values_of.values())
    repeated = len(set(stored)) < len(stored) and not has_regions
    if repeated or stored.count(0) != 1 or (0,) not in values_of.values():
        raise wrong_input(what, f"values {stored}", "0 for the background and each value once")
    foreground = {name: values for name, values in values_of.items() if values != (0,)}
    label_values = tuple(sorted(set(stored)))
    if not has_regions:
        segments = tuple(sorted(foreground, key=foreground.get))
        return LabelNames(segments, label_values, ignore_value=ignore_value)
    order = _check_order(f"{path}, regions_class_order", foreground, region_order)
    class_of = {value: k for k, value in enumerate(label_values)}
    return LabelNames(
        segments=tuple(foreground),
        label_values=label_values,
        regions=tuple(tuple(map(class_of.get, values)) for values in foreground.values()),
        region_order=tuple(map(class_of.get, order)),
        ignore_value=ignore_value,
    )


def _values_by_name(what, labels):
    """Return the values of each name, rising, from either form."""
    if not isinstance(labels, dict) or not labels:
        raise wrong_input(what, shown(labels), "background and at least one segment")
    inverted = all(key.isdecimal() for key in labels)
    pairs = [(name, _number(key)) for key, name in labels.items()] if inverted else labels.items()
    values_of = {}
    for name, value in pairs:
        values = value if isinstance(value, list) else [value]
        whole = values and all(type(v) is int and 0 <= v <= LARGEST_LABEL for v in values)
        if not (whole and isinstance(name, str) and name):
            expected = f"names with integers of at least 0, at most {LARGEST_LABEL}"
            raise wrong_input(what, f"{shown(name)}: {shown(value)}", expected)
        if name != name.strip():
            raise wrong_input(what, repr(name), "a name without blanks around it")
        if name in values_of:
            raise wrong_input(what, f"the name {name!r} twice", "each name once")
        values_of[name] = tuple(sorted(set(values)))
        check_not_all(what, name)
        if name.lower() == "background" and values_of[name] != (0,):
            raise wrong_input(what, f"{name!r}: {value!r}", "0 for the background")
    check_unique(what, list(values_of))
    return values_of


def _number(digits):
    """Return the number that digits write, however many; one of over ten is as good as another."""
    return int(digits.lstrip("0")[:10] or 0)


def _take_ignored(what, values_of):
    """Remove the label called ignore; return its value, or None without one."""
    names = [name for name in values_of if name.lower() == "ignore"]
    if not names:
        return None
    ignored = [value for name in names for value in values_of.pop(name)]
    highest = max((value for values in values_of.values() for value in values), default=0)
    if len(ignored) > 1 or ignored[0] <= highest:
        raise wrong_input(f"{what}, ignore", ignored, f"one value, above the highest, {highest}")
    return ignored[0]


def _check_order(what, regions, order):
    """Return the value that each region leaves, after checking that each shows in the end."""
    expected = f"one value for each of {', '.join(regions)}, larger regions first"
    if not isinstance(order, list) or len(order) != len(regions):
        raise wrong_input(what, shown(order), expected)
    last = {value: name for name, values in regions.items() for value in values}
    for name, left in zip(regions, order, strict=True):
        if type(left) is not int or last.get(left) != name:
            expected = "a value of that region which no later one has"
            raise wrong_input(what, f"{left!r} for {name}", expected)
    return order


def region_labels(labels, regions):
    """Return the binary labels of overlapping regions.

    Parameters
    ----------
    labels : int array, shape (*S)
        Classes 0 to K - 1, or `IGNORED`.
    regions : tuple of tuple of int, length R
        The classes whose union each region is.

    Returns
    -------
    int8 array, shape (R, *S)
        1 inside, 0 outside, `IGNORED` where nobody annotated.

    Examples
    --------
    >>> region_labels(np.array([0, 1, 2, -1]), ((1, 2), (2,))).tolist()
    [[0, 1, 1, -1], [0, 0, 1, -1]]
    """
    labels = np.asarray(labels)
    n_classes = 1 + max(int(labels.max(initial=0)), *(max(classes) for classes in regions))
    table = np.zeros((len(regions), n_classes + 1), dtype=np.int8)
    for row, classes in zip(table, regions, strict=True):
        row[list(classes)] = 1
    table[:, IGNORED] = IGNORED  # the last column, which is where an index of -1 leads
    return table[:, labels]


def region_probs(probs, regions):
    """Return (2, R, *S): outside and inside of each region, from class probabilities (K, *S)."""
    inside = np.stack([probs[list(classes)].sum(axis=0) for classes in regions]).clip(max=1)
    return np.stack([1 - inside, inside])


def exclusive_classes(predicted, region_order):
    """Return the class that `region_order` gives each voxel's last region, (*S) from (R, *S)."""
    if len(predicted) != len(region_order):
        raise wrong_input("region_order", f"{len(region_order)} classes", f"{len(predicted)}")
    classes = np.zeros(np.shape(predicted)[1:], dtype=np.int16)
    for inside, left in zip(predicted, region_order, strict=True):
        classes[inside == 1] = left
    return classes


def annotated(labels, values):
    """Return labels and what belongs to them without the voxels that nobody annotated.

    Parameters
    ----------
    labels : int array, shape (*S)
    values : array, shape (..., *S)

    Returns
    -------
    labels, values : arrays, shapes (n,) and (..., n)
        Untouched, with all their axes, where every voxel is annotated.

    Examples
    --------
    >>> labels, values = annotated(np.array([0, -1, 1]), np.array([[0.9, 0.5, 0.2]]))
    >>> labels.tolist(), values.tolist()
    ([0, 1], [[0.9, 0.2]])
    """
    labels = np.asarray(labels)
    known = labels != IGNORED
    return (labels, values) if known.all() else (labels[known], values[..., known])


def segment_masks(labels, predicted, k):
    """Return where segment `k` is true and where it is predicted, among annotated voxels.

    Parameters
    ----------
    labels, predicted : int arrays, shape (X, Y, Z) of classes or (R, X, Y, Z) of regions
        `predicted` is the arg max of the class probabilities.
    k : int
        Segment, from 1 on.

    Returns
    -------
    mask_gt, mask_pred : bool arrays, shape (X, Y, Z)
        Ignored voxels are in neither.

    Examples
    --------
    >>> pair = segment_masks(np.array([[[1, -1, 0]]]), np.array([[[1, 1, 1]]]), k=1)
    >>> [mask.ravel().tolist() for mask in pair]
    [[True, False, False], [True, False, True]]
    """
    if np.ndim(labels) == 4:
        labels, predicted, k = labels[k - 1], predicted[k - 1], 1
    return labels == k, (predicted == k) & (labels != IGNORED)


def segment_probs(probs, k):
    """Return class probabilities (K, X, Y, Z) and the class in them that segment `k` is.

    Parameters
    ----------
    probs : array, shape (K, X, Y, Z) of classes or (2, R, X, Y, Z) of regions
    k : int
        Segment, from 1 on.

    Returns
    -------
    probs : array, shape (K, X, Y, Z)
        With K = 2 for a region.
    k : int

    Examples
    --------
    >>> probs, k = segment_probs(np.full((2, 3, 4, 4, 2), 0.5), k=3)
    >>> probs.shape, k
    ((2, 4, 4, 2), 1)
    """
    if probs.ndim not in (4, 5):
        raise wrong_input("probs", f"shape {probs.shape}", "(K, X, Y, Z) or (2, R, X, Y, Z)")
    return (probs, k) if probs.ndim == 4 else (probs[:, k - 1], 1)


def binary_problems(labels, probs):
    """Yield labels (X, Y, Z) and probs (..., K, X, Y, Z): once, or of each region in turn."""
    if np.ndim(labels) == 3:
        yield labels, probs
        return
    for number, region in enumerate(labels):
        yield region, probs[..., number, :, :, :]


@dataclass(frozen=True, eq=False)
class Extent:
    """Where the labels of one case lie on its native grid."""

    case: object  # a `cases.Case`
    shape: tuple  # with `affine` (4, 4) the native grid
    affine: np.ndarray
    boxes: dict  # for each stored value that occurs, the smallest box of slices around it

    def to_json(self):
        """Return all but the case as plain lists."""
        boxes = {v: [(side.start, side.stop) for side in box] for v, box in self.boxes.items()}
        return {"shape": self.shape, "affine": self.affine.tolist(), "boxes": boxes}

    @classmethod
    def from_json(cls, case, facts):
        """Return what `to_json` wrote, as the extent of `case`."""
        boxes = {int(v): tuple(slice(*s) for s in box) for v, box in facts["boxes"].items()}
        return cls(case, tuple(facts["shape"]), np.array(facts["affine"]), boxes)

    @property
    def sizes_mm(self):
        """Voxel size towards right, anterior and superior, shape (3,)."""
        axes = np.argsort(nib.io_orientation(self.affine)[:, 0])
        return nib.affines.voxel_sizes(self.affine)[axes]

    @property
    def thicknesses_mm(self):
        """`sizes_mm`, infinite where there is one voxel: one slice lies across that axis."""
        axes = np.argsort(nib.io_orientation(self.affine)[:, 0])
        return np.where(np.array(self.shape)[axes] == 1, np.inf, self.sizes_mm)

    def n_slices(self, axis):
        """Slices across an axis: 0 from left to right, 1 to anterior, 2 to superior."""
        return self.shape[np.argsort(nib.io_orientation(self.affine)[:, 0])[axis]]


def segment_values(dataset, selection=None):
    """Return the stored label values of each segment, by its name, or of the selected organ."""
    if selection is not None:
        classes = {"the organ": selection.classes}
    elif dataset.regions:
        classes = dict(zip(dataset.segments, dataset.regions, strict=True))
    else:
        classes = {name: (k,) for k, name in enumerate(dataset.segments, start=1)}
    return {name: [dataset.label_values[k] for k in ks] for name, ks in classes.items()}


def survey(dataset, selection=None):
    """Read all labels of a dataset once: an `Extent` a case, of all segments or of `selection`."""
    values = {v for found in segment_values(dataset, selection).values() for v in found}
    return [_extent(case, values) for case in dataset.cases]


def _extent(case, values):
    """Read one label; headers that are resolved are told when the case is prepared."""
    with warnings.catch_warnings(action="ignore"):
        label = read_label(case.label_path)
    found = enumerate(ndimage.find_objects(label.data), start=1)
    boxes = {value: box for value, box in found if box is not None and value in values}
    return Extent(case, label.grid_shape, label.affine, boxes)


def stored_survey(path, dataset):
    """Return `survey`, from the file at `path` if no label has changed since it was written."""
    state = [
        [state_of_file(path) for path in (case.label_path, *companion_files(case.label_path))]
        for case in dataset.cases
    ]
    values = segment_values(dataset)
    facts = as_json_values({"labels": state, "values": values})
    if path.exists():
        stored = read_json(path)
        if stored["facts"] == facts:
            pairs = zip(dataset.cases, stored["extents"], strict=True)
            return [Extent.from_json(case, extent) for case, extent in pairs]
    extents = survey(dataset)
    write_json(path, {"facts": facts, "extents": [e.to_json() for e in extents]})
    return extents


def state_of_file(path):
    """Return what changes when a file is written anew."""
    with told_if_unreadable(path):
        state = path.stat()
    return [str(path), state.st_size, state.st_mtime_ns]
