"""One case of a folder of predictions, in the label's order of voxels and of classes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..._checks import is_file, wrong_input
from ..cases import label_classes
from ..labels import exclusive_classes, region_labels, region_probs
from ..volumes import check_same_grid, doubts_noted, read_label, read_volume
from . import arrays
from .folders import KEYS
from .orders import (
    AS_STORED,
    Stored,
    contiguous,
    fitting_orders,
    order_of_segmentation,
    order_on_grid,
    placed,
    turned,
)

KEY_OF = {form: key for key, form in KEYS.items()}
REVERSED = np.array([[2, 1], [1, 1], [0, 1]])  # from Z, Y, X to X, Y, Z
BOTH_PREDICTED = ("prediction", "prediction")
COUNTS = ("n_all_zero", "n_differ", "is_float16", "is_rescaled", "is_one_hot")
UNCHECKED = "no segmentation beside the array, so the order of its voxels could not be checked"
UNSETTLED = "the segmentation beside fits several orders of voxels; that of the reader was taken"
POSTPROCESSED = "the segmentation beside was postprocessed (whole components); its arg max counts"
REORIENTED = "the array was turned from right, anterior, superior to the order of its segmentation"
ADDED = "probabilities of classes were added up to the regions that the labels have"
CROPPED = "a crop of nnU-Net v1 was placed by its foreground; around it is certain background"


class CasePrediction(NamedTuple):
    """What was predicted for one case, on the label's grid and in the label's classes.

    Attributes
    ----------
    probs : float32 array (K, X, Y, Z), or (2, R, X, Y, Z), or None
        Of classes; of overlapping regions, outside and inside; None of hard labels, in whatever
        form they come.
    predicted : int array (X, Y, Z), or (R, X, Y, Z)
        Arg max (regions: above one half), or the hard labels.
    counts : dict
        ``n_all_zero`` voxels that became certain background, ``n_differ`` voxels that
        postprocessing changed in the segmentation beside, ``is_float16``, ``is_rescaled`` and
        ``is_one_hot`` (only 0 and 1), 0 or 1.
    notes : tuple of str
        What was taken for what, a sentence each, the same in all cases that it holds for.
    """

    probs: np.ndarray | None
    predicted: np.ndarray
    counts: dict
    notes: tuple


def read_prediction(folder, case, grid, kind="label"):
    """Read and check what a folder predicts for one case.

    Parameters
    ----------
    folder : PredictionFolder
    case : str
    grid : segcal_lite.data.volumes.Volume
        Of the label, the image, or `grid_of_prediction`: its order of voxels is the result's.
    kind : str
        Which of these it is of, as notes say it.

    Returns
    -------
    CasePrediction

    Raises
    ------
    ValueError
        In one sentence: a file that is missing, damaged, holds pickles or promises more than it
        has, other classes, axes or places than the grid's, a segmentation beside that is not the
        arg max, or numbers that are no probabilities.
    """
    counts, notes = dict.fromkeys(COUNTS, 0), []
    if case not in folder.cases:
        raise wrong_input(folder.path, f"no prediction of {case}", "one of its cases")
    with doubts_noted(notes, "prediction"):
        if folder.form == "labels":
            probs, predicted = None, _hard_labels(folder, case, grid, kind)
        else:
            probs, predicted = _probabilities(folder, case, grid, kind, counts, notes)
            probs = probs if folder.has_probabilities else None
    return CasePrediction(probs, predicted, counts, tuple(dict.fromkeys(notes)))


def grid_of_prediction(folder, case):
    """Return a Volume on whose grid a case is predicted, where there is no label and no image.

    Its voxels are the segmentation's, or those of one class. An array without a segmentation
    beside has no grid: ``ValueError``.
    """
    if folder.form == "labels":
        return arrays.read_hard(_volume_path(folder, case), folder.channels)
    if case in folder.volumes and folder.form != "nifti_4d":
        return read_label(folder.volumes[case])
    if folder.form == "nifti_4d" and case in folder.volumes:
        volume = read_volume(folder.volumes[case])
        return replace(volume, data=volume.data[-1]) if volume.data.ndim == 4 else volume
    if folder.form == "nifti_classes":
        return read_volume(folder.class_paths(case)[-1])
    expected = "a segmentation beside it, which tells its place"
    raise wrong_input(folder.array_path(case), "an array alone", expected)


def _hard_labels(folder, case, grid, kind):
    """Return what a label map predicts: classes (X, Y, Z), or inside of regions (R, X, Y, Z)."""
    volume = arrays.read_hard(_volume_path(folder, case), folder.channels)
    classes = label_classes(folder.names, volume)
    classes = contiguous(turned(classes, order_on_grid(volume, grid, kind)))
    if folder.added_to:
        return region_labels(classes, folder.added_to)
    if folder.names.regions:
        return region_labels(classes, folder.names.regions)[list(folder.order)]
    return _our_classes(classes, folder.order)


def _our_classes(classes, order):
    """Return the labels' number of each class, from the folder's own numbers."""
    if order == tuple(range(len(order))):
        return classes
    return np.argsort(order).astype(np.int16)[classes]


def _volume_path(folder, case):
    """Return the path of a case's volume, or say that there is none."""
    if case not in folder.volumes:
        raise wrong_input(folder.path, f"no volume of {case}", "one")
    return folder.volumes[case]


def _probabilities(folder, case, grid, kind, counts, notes):
    """Return probabilities and predictions on the grid, in the labels' order of classes."""
    is_volume, beside = folder.form.startswith("nifti"), None
    if case in folder.volumes and folder.form != "nifti_4d":
        beside = read_label(folder.volumes[case])
    volume = beside or grid
    if is_volume:
        stored, volume = _from_volumes(folder, case, counts, notes)
    else:
        stored = _from_array(folder, case, volume, counts, notes)
    if beside is not None:
        check_same_grid(beside, volume, kinds=BOTH_PREDICTED)
        stored = _as_beside(folder, stored, beside, counts, notes)
    elif not is_volume:
        orders = fitting_orders(stored.path, stored.probs.shape[1:], volume, folder.reader)
        stored = stored.turned(orders[0])
        notes.append(UNCHECKED)
    if counts["is_float16"]:
        notes.append(arrays.FLOAT16)
    notes += [ADDED] * bool(folder.added_to)
    return _in_our_order(stored.turned(order_on_grid(volume, grid, kind)), folder)


def _from_volumes(folder, case, counts, notes):
    """Read a 4D file, or one file a class; return `Stored`, and a Volume on its grid."""
    if folder.form == "nifti_4d":
        volume = read_volume(_volume_path(folder, case))
        probs = np.asarray(volume.data, dtype=np.float32).reshape(-1, *volume.grid_shape)
        notes += [arrays.ONE_CHANNEL] * (len(probs) == 1)
    else:
        volume, probs = _stacked_classes(folder, case)
    _shape_check(folder, volume.path, "K, X, Y, Z", volume.grid_shape)(probs.shape)
    return _settled(folder, volume.path, probs, counts, notes), replace(volume, data=probs[0])


def _stacked_classes(folder, case):
    """Return the grid of a case's classes, and all of them; a background that is missing is 1."""
    paths = folder.class_paths(case)
    volume = read_volume(paths[-1])
    probs = np.zeros((folder.n_channels, *volume.grid_shape), dtype=np.float32)
    for k, path in enumerate(paths, start=folder.n_channels - len(paths)):
        one = volume if path == paths[-1] else read_volume(path)
        if one.data.ndim != 3:
            raise wrong_input(path, f"shape {one.data.shape}", "one class, (X, Y, Z)")
        check_same_grid(volume, one, kinds=BOTH_PREDICTED)
        probs[k] = one.data
    if len(paths) < folder.n_channels:
        np.maximum(1 - probs[1:].sum(axis=0), 0, out=probs[0])
    return volume, probs


def _from_array(folder, case, volume, counts, notes):
    """Read an npz or npy file as `Stored` along X, Y, Z; `volume` says how many voxels to expect.

    nnU-Net's own order of voxels may have the axes in another order, and v1 leaves a crop.
    """
    path, shape = folder.array_path(case), volume.grid_shape
    if not is_file(path):
        raise wrong_input(path, "no such file", f"the probabilities of {case}")
    if folder.form == "numpy":
        check = _shape_check(folder, path, "K, X, Y, Z", shape)
        probs, is_float16 = arrays.read_npy(path, check)
    else:
        check = _shape_check(folder, path, "K, Z, Y, X", shape[::-1])
        probs, is_float16 = arrays.read_npz(path, KEY_OF[folder.form], check)
    counts["is_float16"] = int(is_float16)
    stored = _settled(folder, path, probs, counts, notes)
    return stored if folder.form == "numpy" else stored.turned(REVERSED)


def _shape_check(folder, path, axes, shape):
    """Return a function that refuses the shape of an array unless it may hold a case on a grid."""
    n, kind = folder.n_channels, "regions" if folder.names.regions else "classes"
    allowed = {n, 1} if (n, kind) == (2, "classes") else {n}  # the background's is 1 - p

    def check(found):
        is_crop = len(found) == 4 and all(0 < a <= b for a, b in zip(found[1:], shape, strict=True))
        fits = is_crop if folder.form == "nnunet_v1" else sorted(found[1:]) == sorted(shape)
        if not fits:
            raise wrong_input(path, f"shape {found}", f"{(n, *shape)} along {axes}")
        if found[0] not in allowed:
            raise wrong_input(path, f"{found[0]} {kind}", f"{n}: {', '.join(folder.channels)}")

    return check


def _settled(folder, path, probs, counts, notes):
    """Return checked probabilities (C, ...) with what they predict, axes as they are."""
    if len(probs) < folder.n_channels:
        probs = arrays.with_background(path, probs, notes)
    flat = probs.reshape(len(probs), -1)
    if folder.names.regions:
        predicted = arrays.settle_regions(path, flat, counts, notes).reshape(probs.shape)
    else:
        predicted = arrays.settle_classes(path, flat, counts, notes).reshape(probs.shape[1:])
    return Stored(path, probs, predicted)


def _as_beside(folder, stored, beside, counts, notes):
    """Return an array in the order of the segmentation beside it, which has to be its arg max."""
    segmentation = label_classes(folder.names, beside)
    classes = _exclusive(folder, stored.predicted)
    if folder.form == "nnunet_v1" and classes.shape != beside.grid_shape:
        counts["n_all_zero"] += beside.data.size - classes.size
        notes.append(CROPPED)
        stored = placed(stored, classes, beside, segmentation)
        classes = _exclusive(folder, stored.predicted)
    orders = [AS_STORED]  # which the header of a volume states
    if not folder.form.startswith("nifti"):
        orders = fitting_orders(stored.path, classes.shape, beside, folder.reader)
    order, counts["n_differ"], n_orders = order_of_segmentation(
        stored, classes, beside, segmentation, orders
    )
    if n_orders > 1:
        notes.append(UNSETTLED)
    elif not np.array_equal(order, AS_STORED):
        notes.append(REORIENTED)
    if counts["n_differ"]:
        notes.append(POSTPROCESSED)
    return stored.turned(order)


def _exclusive(folder, predicted):
    """Return the one class of each voxel, in the folder's own numbers."""
    order = folder.names.region_order
    return exclusive_classes(predicted, order) if order else predicted


def _in_our_order(stored, folder):
    """Return probabilities and predictions with the labels' classes or regions, in memory order."""
    order = folder.order
    if folder.names.regions:
        probs = np.empty((2, len(order), *stored.probs.shape[1:]), dtype=np.float32)
        for inside, number in zip(probs[1], order, strict=True):
            contiguous(stored.probs[number], out=inside)
        np.subtract(1, probs[1], out=probs[0])
        return probs, stored.predicted[list(order)]
    if folder.added_to:
        probs = region_probs(stored.probs, folder.added_to)
        return probs, (probs[1] > 0.5).astype(np.int8)
    predicted = _our_classes(stored.predicted, order)
    if order == tuple(range(len(order))) and stored.probs.flags.c_contiguous:
        return stored.probs, predicted
    probs = np.empty((len(order), *stored.probs.shape[1:]), dtype=np.float32)
    for class_probs, number in zip(probs, order, strict=True):
        contiguous(stored.probs[number], out=class_probs)
    return probs, predicted
