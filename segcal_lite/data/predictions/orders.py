"""Orders of voxels: from what is stored to the segmentation beside it, and to the label.

An array has no header. nnU-Net's reorienting readers leave it in the order right, anterior,
superior, and a shape does not tell a flip; so its arg max is compared with the segmentation.
"""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage

from ..._checks import wrong_input
from ..volumes import LABEL_SHIFT, Volume, check_same_grid

AS_STORED = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's form: axis, and 1 or -1 for a flip
WITHOUT_FOREGROUND = "voxels, without foreground"  # how it is told that a crop has no place
REORIENTING = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")  # nnU-Net's, both to RAS


class Stored(NamedTuple):
    """Probabilities as a file has them."""

    path: Path
    probs: np.ndarray  # (K, X, Y, Z), or (R, X, Y, Z) of regions
    predicted: np.ndarray  # arg max (X, Y, Z), or where regions are above one half (R, X, Y, Z)

    def turned(self, orientation):
        """Return the same in another order of voxels: a view, predictions in memory order."""
        predicted = contiguous(turned(self.predicted, orientation))
        return self._replace(probs=turned(self.probs, orientation), predicted=predicted)


def turned(array, orientation):
    """Return an array (..., X, Y, Z) in another order of voxels, as a view."""
    order = np.argsort(orientation[:, 0])
    flips = tuple(slice(None, None, int(flip)) for flip in orientation[:, 1])
    n_leading = array.ndim - 3
    return array[(..., *flips)].transpose(*range(n_leading), *(n_leading + order))


def likely_orders(affine, reader):
    """Return orientations that may lead from an array to the grid of `affine`, likeliest first."""
    from_ras = ornt_transform(AS_STORED, io_orientation(affine)).astype(int)
    orders = [AS_STORED, from_ras]
    if np.array_equal(*orders):
        return orders[:1]
    return orders[::-1] if reader in REORIENTING else orders


def fitting_orders(path, shape, volume, reader):
    """Return those of `likely_orders` in which an array of `shape` has the shape of `volume`."""
    empty = np.broadcast_to(np.int8(0), shape)
    orders = likely_orders(volume.affine, reader)
    fitting = [order for order in orders if turned(empty, order).shape == volume.grid_shape]
    if not fitting:
        expected = f"{volume.grid_shape} as {volume.path} has them"
        raise wrong_input(path, f"{shape} voxels along X, Y, Z", expected)
    return fitting


def placed(stored, classes, volume, segmentation):
    """Return a crop on the grid of the segmentation beside it: where the boxes of foreground agree.

    Where nnU-Net v1 had cropped only its pickle says, which is not read. `classes` are the arg max
    of the crop, (X, Y, Z), and `segmentation` the classes of `volume`; around the crop everything
    is certain background.
    """
    shape, grid_shape = classes.shape, volume.grid_shape
    if not segmentation.any():
        found = f"{shape} of {grid_shape} {WITHOUT_FOREGROUND}"
        raise wrong_input(stored.path, found, "foreground, which tells where the crop lies")
    places = _places(classes, segmentation)
    if len(places) != 1:
        where = f"fits at {len(places)} places of" if places else "lies nowhere in"
        expected = f"foreground where {volume.path} has it"
        raise wrong_input(stored.path, f"a crop that {where} its grid", expected)
    place = places[0]
    arrays = []
    for array in (stored.probs, stored.predicted):
        arrays.append(np.zeros((*array.shape[:-3], *grid_shape), dtype=array.dtype))
        arrays[-1][(..., *place)] = array
    if stored.predicted.ndim == 3:  # classes, of which the first is background
        arrays[0][0] = 1
        arrays[0][(slice(None), *place)] = stored.probs
    return Stored(stored.path, *arrays)


def _places(classes, segmentation):
    """Return where a crop may lie, as slices: where most of the foreground is the same.

    Postprocessing may have removed what reached farthest to one side, so either side may tell.
    """
    boxes = [ndimage.find_objects((of > 0).astype(np.int8)) for of in (classes, segmentation)]
    if not boxes[0]:
        return []
    starts = [
        sorted({full.start - own.start, full.stop - own.stop} & set(range(n_whole - n + 1)))
        for own, full, n, n_whole in zip(
            boxes[0][0], boxes[1][0], classes.shape, segmentation.shape, strict=True
        )
    ]
    n_same = {}
    for start in product(*starts):
        inside = segmentation[_slices(start, classes.shape)]
        n_same[start] = np.count_nonzero((inside > 0) & (inside == classes))
    most = max(n_same.values(), default=0)
    return [_slices(start, classes.shape) for start, n in n_same.items() if n == most > 0]


def _slices(start, shape):
    """Return the box of a shape that starts somewhere."""
    return tuple(slice(first, first + n) for first, n in zip(start, shape, strict=True))


def order_of_segmentation(stored, classes, volume, segmentation, orders):
    """Find the order in which the arg max of an array is the segmentation beside it.

    Parameters
    ----------
    stored : Stored
    classes : int array (X, Y, Z)
        The class that its predictions leave in each voxel, in the same order.
    volume : Volume
        The segmentation beside, for its grid.
    segmentation : int array (X', Y', Z')
        Its classes.
    orders : list of int array (3, 2)
        `fitting_orders`, likeliest first.

    Returns
    -------
    orientation, n_differ, n_orders : int array (3, 2), int, int
        How many voxels differ as postprocessing leaves them (`is_postprocessed`), ties aside, and
        how many orders would do.

    Raises
    ------
    ValueError
        If it is another segmentation in every one of them.
    """
    fitting = [order for order in orders if _is_same(turned(classes, order), segmentation)]
    if fitting:
        return fitting[0], 0, len(fitting)
    shares = []
    for order in orders:
        differ = turned(classes, order) != segmentation
        shares.append(f"{100 * differ.mean():.3g} %")
        differ[differ] = ~_ties(stored.turned(order), differ, segmentation)
        if is_postprocessed(turned(classes, order), segmentation, differ):
            return order, int(np.count_nonzero(differ)), 1
    tried = ", as stored or turned from right, anterior, superior" if len(orders) > 1 else ""
    found = f"another segmentation than its arg max in {' or '.join(shares)} of the voxels{tried}"
    expected = "the same in each voxel, or without whole components that postprocessing removed"
    raise wrong_input(f"{volume.path} beside {stored.path.name}", found, expected)


def _is_same(classes, segmentation):
    """Whether all voxels agree; the middle slices mostly tell at once that they do not."""
    middle = len(classes) // 2
    return np.array_equal(classes[middle], segmentation[middle]) and np.array_equal(
        classes, segmentation
    )


def _ties(stored, differ, segmentation):
    """Tell where, among voxels that differ, numbers tie that were told apart before rounding."""
    probs = stored.probs[:, differ]
    if stored.predicted.ndim == 4:
        return (probs == 0.5).any(axis=0)
    chosen = np.take_along_axis(probs, segmentation[differ][np.newaxis], axis=0)[0]
    return chosen == probs.max(axis=0)


def is_postprocessed(classes, segmentation, differ):
    """Whether postprocessing explains where a segmentation differs from the arg max.

    It removes, or gives to another class, connected components as a whole, and leaves some
    foreground as it was. Components of a class that touch at faces are the smallest that any
    program removes.

    Examples
    --------
    >>> classes = np.array([[[1, 1, 0, 1, 0, 2]]])
    >>> segmentation = np.array([[[1, 1, 0, 0, 0, 2]]])
    >>> is_postprocessed(classes, segmentation, classes != segmentation)
    True
    >>> is_postprocessed(classes, segmentation[..., ::-1], classes != segmentation[..., ::-1])
    False
    """
    if not differ.any():
        return True
    kept = (segmentation > 0) & ~differ
    if (differ & (classes == 0)).any() or not kept.any():
        return False
    for k in np.unique(classes[differ]):
        components, n_components = ndimage.label(classes == k)
        removed = np.zeros(n_components + 1, dtype=bool)
        removed[components[differ & (classes == k)]] = True
        if not np.array_equal(removed[components], differ & (classes == k)):
            return False
    return True


def order_on_grid(volume, grid, kind):
    """Return the orientation that takes a prediction to a grid; refuse any other place.

    They may differ by the order and the directions of axes, and by less than half a voxel, which
    is a warning; `kind` says in words what the grid is of.
    """
    orientation = ornt_transform(io_orientation(volume.affine), io_orientation(grid.affine))
    orientation = orientation.astype(int)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.grid_shape)
    same = Volume(turned(volume.data, orientation), affine, volume.path)
    check_same_grid(grid, same, LABEL_SHIFT, kinds=(kind, "prediction"))
    return orientation


def contiguous(view, out=None):
    """Return a view (..., X, Y, Z) in memory order, or in `out`.

    Copied slice by slice, so that what is read and what is written stay in the cache.
    """
    if out is None and view.flags.c_contiguous:
        return view
    out = np.empty(view.shape, dtype=view.dtype) if out is None else out
    for j in range(view.shape[-2]):
        out[..., j, :] = view[..., j, :]
    return out
