"""Whole volumes through a network that sees blocks: probabilities blended, features streamed.

Paper B (section III.C) works on blocks of 96 x 96 x 96 voxels and lets neighbours overlap by 24.
Probabilities of overlapping blocks are averaged. Features are not: for the spectral signature each
voxel counts once, in the block whose middle it is nearest to.
"""

from contextlib import ExitStack
from itertools import product

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from ._checks import check_count, check_finite, wrong_input
from .inference import class_logits_of, recorded_features

BLOCK_SIZE = (96, 96, 96)
OVERLAP = 24  # voxels
VOXELS_AT_ONCE = 2**20  # small blocks go through together: one by one PyTorch is slow on CPUs


@torch.no_grad()
def predict_volume(model, image, loss, block_size=BLOCK_SIZE, overlap=OVERLAP, n_classes=None):
    """Class probabilities of a whole volume from overlapping blocks.

    Memory: the image, (K + 1) volumes of float32 for the sum and its weights, and the activations
    of one block, or of several small ones; it grows linearly with the volume.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (B, C, *block_size) to (B, n_outputs, *block_size); in evaluation mode.
    image : array, shape (C, X, Y, Z)
        Volumes smaller than a block are padded with zeros on both sides, and cut again.
    loss : {"ce", "dice", "ce_dice"}
        What `model` was trained with.
    block_size : tuple of three int
    overlap : int
        Voxels that neighbouring blocks share; blocks at the far end share more.
    n_classes : int, optional
        As in `segcal_lite.inference.predict_logits`.

    Returns
    -------
    array, float32, shape (K, X, Y, Z)
        Where blocks overlap, the mean of their probabilities, those near a block's border weighted
        less (a Gaussian; B does not print its blending).

    Raises
    ------
    ValueError
        If `image` has not four dimensions, `overlap` reaches the block's size, the outputs are not
        as many as `loss` and K ask for, or are overlapping regions.
    """
    return predict_with_features(model, {}, image, loss, None, block_size, overlap, n_classes)


def _blended(predictor, model, image, block_size, overlap):
    """Let MONAI walk over the volume, predict block by block and average."""
    probs = sliding_window_inference(
        torch.from_numpy(image)[None],
        roi_size=block_size,
        sw_batch_size=_n_at_once(block_size),
        predictor=predictor,
        # A little less: MONAI rounds the step between blocks down.
        overlap=[max(0, overlap - 1e-3) / side for side in block_size],
        mode="gaussian",
        sw_device=next(model.parameters()).device,
        device="cpu",
    )
    return (probs[0] / probs[0].sum(dim=0)).numpy()


@torch.no_grad()
def predict_with_features(
    model, layers, image, loss, receive, block_size=BLOCK_SIZE, overlap=OVERLAP, n_classes=None
):
    """`predict_volume` that hands on, in the same pass, the features of `layers`, by name.

    `receive` is called with a name and what `stream_features` yields.
    """
    if getattr(model, "n_regions", 0):
        raise wrong_input("model", "overlapping regions", "classes that exclude each other")
    image, block_size = _checked(model, image, block_size, overlap)
    places, before = _places(image.shape[1:], block_size, overlap)
    arriving = iter(places)

    def predictor(blocks):
        with ExitStack() as stack:
            recorded = {
                name: stack.enter_context(recorded_features(layer))
                for name, layer in layers.items()
            }
            probs = class_logits_of(model, blocks, loss, n_classes).softmax(dim=1)
        for index, along in zip(range(len(blocks)), arriving, strict=False):
            for name, maps in recorded.items():
                receive(name, *_owned(maps[0][index], along, before, block_size))
        return probs

    return _blended(predictor, model, image, block_size, overlap)


@torch.no_grad()
def stream_features(model, layer, image, block_size=BLOCK_SIZE, overlap=OVERLAP):
    """Yield a layer's features of a whole volume, block by block, each voxel once.

    A voxel belongs to the block in whose middle it lies: the seam between two blocks runs through
    the middle of what they share. Padding of small volumes is left out. A layer of lower
    resolution has voxels of several image voxels; each belongs where its centre lies, and `place`
    remains that of the image.

    Parameters
    ----------
    model : torch.nn.Module
    layer : torch.nn.Module
        Part of `model` whose output has the resolution of its input, such as
        ``model.last_features``, or a whole fraction of it.
    image, block_size, overlap
        As in `predict_volume`.

    Yields
    ------
    place : tuple of three slice
        The voxels of the volume that the features are of.
    features : array, float32, shape (C', *place), smaller by its fraction for another layer

    Raises
    ------
    ValueError
        As `predict_volume`, or if the layer's output is no whole fraction of a block.
    """
    image, block_size = _checked(model, image, block_size, overlap)
    device = next(model.parameters()).device
    places, before = _places(image.shape[1:], block_size, overlap)
    after = [
        max(0, n - side) - a for side, n, a in zip(image.shape[1:], block_size, before, strict=True)
    ]
    whole = np.pad(image, [(0, 0), *zip(before, after, strict=True)])
    n_at_once = _n_at_once(block_size)
    for group in (places[k : k + n_at_once] for k in range(0, len(places), n_at_once)):
        blocks = [
            whole[:, *(slice(at, at + n) for (at, _), n in zip(along, block_size, strict=True))]
            for along in group
        ]
        with recorded_features(layer) as recorded:
            model(torch.from_numpy(np.stack(blocks)).to(device))
        for along, features in zip(group, recorded[0], strict=True):
            yield _owned(features, along, before, block_size)


def _places(shape, block_size, overlap):
    """Return start and owned slice of each block, in MONAI's order, and its padding before them."""
    axes = list(zip(shape, block_size, strict=True))
    places = product(*(owned_ranges(side, block, overlap) for side, block in axes))
    return list(places), [max(0, block - side) // 2 for side, block in axes]


def _owned(features, along, before, block_size):
    """Return the place of the voxels that a block owns, and their features cut out of its map."""
    inside = []
    steps = _steps(features.shape[1:], block_size)
    for (start, owned), padding, step in zip(along, before, steps, strict=True):
        edges = (edge - start + padding for edge in (owned.start, owned.stop))
        inside.append(slice(*(_n_centres(edge, step) for edge in edges)))
    return tuple(owned for _, owned in along), features[:, *inside]


def _n_at_once(block_size):
    """Return how many blocks go through the network together."""
    return max(1, min(8, VOXELS_AT_ONCE // int(np.prod(block_size))))


def _n_centres(n_voxels, step):
    """Return how many cells of `step` voxels have their centre within the first `n_voxels`."""
    return int(np.ceil(n_voxels / step - 0.5))


def _steps(shape, block_size):
    """Return how many voxels of the block a voxel of the feature map covers along each axis."""
    steps = [side // n for side, n in zip(block_size, shape, strict=False)]
    if len(shape) != 3 or [n * step for n, step in zip(shape, steps, strict=True)] != [*block_size]:
        expected = f"whole fractions of {block_size}"
        raise wrong_input("layer", f"an output of {tuple(shape)}", expected)
    return steps


def named_layer(model, name):
    """Return the module of a network called `name`, or its property: ``last_features`` is B's."""
    layers = dict(model.named_modules())
    found = layers.get(name) or getattr(model, name, None)
    if not isinstance(found, torch.nn.Module):
        stages = [key for key in layers if key.count(".") == 1]
        raise wrong_input("layer", repr(name), f"one of {stages} or 'last_features'")
    return found


def owned_ranges(side, block, overlap):
    """Return for each block along one axis its start and the slice of voxels that it owns.

    Parameters
    ----------
    side, block, overlap : int
        Voxels of the volume, of a block, and shared by neighbours. The last block ends with the
        volume; a volume that is shorter than a block is one block.

    Returns
    -------
    list of (int, slice)
        The slices follow one another and cover the axis.

    Examples
    --------
    >>> owned_ranges(10, 6, 2)
    [(0, slice(0, 5, None)), (4, slice(5, 10, None))]
    """
    step = block - overlap
    last = max(0, side - block)
    starts = sorted({*range(0, last, step), last})
    seams = [(left + block + right) // 2 for left, right in zip(starts, starts[1:], strict=False)]
    edges = [0, *seams, side]
    return [(start, slice(*edges[k : k + 2])) for k, start in enumerate(starts)]


def _checked(model, image, block_size, overlap):
    """Return the image as float32 and the block size as a tuple."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    if image.ndim != 4 or not image.size:
        raise wrong_input("image", f"shape {image.shape}", "(C, X, Y, Z) with voxels")
    first = next((m for m in model.modules() if isinstance(m, torch.nn.Conv3d)), None)
    if first is not None and len(image) != first.in_channels:
        expected = f"{first.in_channels}, as the model was trained with"
        raise wrong_input("image", f"{len(image)} channels", expected)
    check_finite("image", image)
    if len(block_size) != 3:
        raise wrong_input("block_size", block_size, "three sides")
    sides = tuple(check_count("block_size", side) for side in block_size)
    if check_count("overlap", overlap, minimum=0) >= min(sides):
        raise wrong_input("overlap", overlap, f"less than a block's side {min(sides)}")
    return image, sides
