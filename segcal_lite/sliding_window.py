"""Whole volumes through a network that sees blocks: probabilities blended, features streamed.

Paper B (section III.B) works on blocks of 96 x 96 x 96 voxels and lets neighbours overlap by 24.
Probabilities of overlapping blocks are averaged. Features are not: for the spectral signature each
voxel counts once, in the block whose middle it is nearest to. Signatures are of any network: what
is asked of it is only a layer's name.
"""

from contextlib import ExitStack, contextmanager
from itertools import product

import numpy as np
import torch
from torch import nn

from ._checks import check_count, shown, wrong_input
from .inference import (
    a_parameter,
    checked_image,
    class_logits_of,
    in_evaluation,
    recorded_features,
)
from .runs.devices import choose_device
from .spectral import SpectrumSums

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
        If `image` is none that `predict_logits` takes, `overlap` reaches the block's size, the
        network sees slices, or its outputs are none that `predict_logits` takes, or are
        overlapping regions.
    """
    return predict_with_features(model, {}, image, loss, None, block_size, overlap, n_classes)


def _blended(predictor, model, image, block_size, overlap):
    """Let MONAI walk over the volume, predict block by block and average."""
    from monai.inferers import sliding_window_inference  # here: its import takes seconds

    probs = sliding_window_inference(
        torch.from_numpy(image)[None],
        roi_size=block_size,
        sw_batch_size=_n_at_once(block_size),
        predictor=predictor,
        # A little less: MONAI rounds the step between blocks down.
        overlap=[max(0, overlap - 1e-3) / side for side in block_size],
        mode="gaussian",
        sw_device=a_parameter(model).device,
        device="cpu",
    )
    return probs[0].div_(probs[0].sum(dim=0)).numpy()


@torch.no_grad()
def predict_with_features(
    model, layers, image, loss, receive, block_size=BLOCK_SIZE, overlap=OVERLAP, n_classes=None
):
    """`predict_volume` that hands on, in the same pass, the features of `layers`, by name.

    `receive` is called with a name and what `stream_features` yields.
    """
    if getattr(model, "n_regions", 0):
        raise wrong_input("model", "overlapping regions", "classes that exclude each other")
    if _n_dims_of(model) == 2:
        raise wrong_input("model", "a network of slices", "one of volumes: predict_case takes both")
    image, block_size, overlaps = _checked(model, image, block_size, overlap)
    places, before = _places(image.shape[1:], block_size, overlaps)
    arriving = iter(places)

    def predictor(blocks):
        with ExitStack() as stack:
            recorded = {
                name: stack.enter_context(recorded_features(layer))
                for name, layer in layers.items()
            }
            blocks = blocks.to(a_parameter(model))  # its precision
            probs = class_logits_of(model, blocks, loss, n_classes).float().softmax(dim=1)
        for index, along in zip(range(len(blocks)), arriving, strict=False):
            for name, calls in recorded.items():
                receive(name, *_owned(_only(calls)[index], along, before, block_size))
        return probs

    return _blended(predictor, model, image, block_size, overlap)


@torch.no_grad()
def stream_features(model, layer, image, block_size=BLOCK_SIZE, overlap=OVERLAP):
    """Yield a layer's features of a whole volume, block by block, each voxel once.

    A voxel belongs to the block in whose middle it lies: the seam between two blocks runs through
    the middle of what they share. Padding of small volumes is left out. A layer of lower
    resolution has voxels of several image voxels; each belongs where its centre lies, and `place`
    remains that of the image. What the network itself returns does not matter.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    layer : torch.nn.Module
        Part of `model`, called once in a pass, whose output (B, C', *S) has the resolution of its
        input, such as ``model.last_features``, or a whole fraction of it.
    image, overlap
        As in `predict_volume`.
    block_size : tuple of three int, or of two
        Two for a network that sees slices (B, C, X, Y), which are cut across the last axis.

    Yields
    ------
    place : tuple of three slice
        The voxels of the volume that the features are of.
    features : array, float32, shape (C', *place), smaller by its fraction for another layer

    Raises
    ------
    ValueError
        As `predict_volume`, or if the layer's output is no whole fraction of a block, no tensor,
        or not there once in a pass.
    """
    n_dims = _n_dims_of(model) or (2 if len(block_size) == 2 else 3)
    sees_slices = n_dims == 2
    image, block_size, overlaps = _checked(model, image, block_size, overlap, n_dims)
    places, before = _places(image.shape[1:], block_size, overlaps)
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
        maps = _features_of(model, layer, np.stack(blocks), sees_slices)
        for along, features in zip(group, maps, strict=True):
            yield _owned(features, along, before, block_size)


def _features_of(model, layer, blocks, sees_slices):
    """Return a layer's features (B, C', *S) of blocks (B, C, *block_size); a slice has Z = 1."""
    blocks = torch.from_numpy(blocks).to(a_parameter(model))  # its device and its precision
    with recorded_features(layer) as calls:
        model(blocks[..., 0] if sees_slices else blocks)
    maps = _only(calls)
    return maps[..., np.newaxis] if sees_slices else maps


def _only(calls):
    """Return the one output of a layer in a pass."""
    if len(calls) != 1:
        expected = "one call: a list or dict of modules is none itself, name a layer within it"
        raise wrong_input("layer", f"{len(calls)} calls of it in a pass", expected)
    return calls[0]


def signature_of_volume(network, image, layer, window=None, overlap=None, device=None):
    """Return the spectral signature of a volume in any network, by the name of a layer.

    `spectrum_of_volume` without options: `SpectralDetector` takes such signatures of the training
    volumes, all by the same layer and window, and those of new ones.

    Parameters
    ----------
    network, image, layer, window, overlap, device
        As in `spectrum_of_volume`.

    Returns
    -------
    array, float64, shape (r,)
        Of unit length; r is the number of channels of the layer.

    Raises
    ------
    ValueError
        As `spectrum_of_volume` and `segcal_lite.spectral.spectral_signature`.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 2, 1))
    >>> image = np.random.default_rng(0).normal(size=(1, 20, 12, 12))
    >>> signature_of_volume(network, image, layer="0", window=(12, 12, 12), overlap=4).shape
    (3,)
    """
    return spectrum_of_volume(network, image, layer, window, overlap, device).signature()


def spectrum_of_volume(network, image, layer, window=None, overlap=None, device=None):
    """Return the sums for the spectrum of one layer's features, each voxel of a volume once.

    Parameters
    ----------
    network : torch.nn.Module
        Any one. It is in evaluation mode meanwhile, and as it was afterwards. Whatever it returns,
        such as a list under deep supervision, is of no account.
    image : array, shape (C, X, Y, Z)
        As the network was trained with: channels, voxel size, intensities, order of axes.
    layer : str
        A name in ``network.named_modules()``, or a module that it has as a property. Its output is
        one tensor (B, C', *S), made once in a pass. B takes the last map before the output.
    window : tuple of three int, or of two, optional
        What the network sees at once: blocks, or slices across the last axis. Without it, whole
        volumes or whole slices, as its convolutions tell.
    overlap : int, optional
        Voxels that neighbouring windows share; by default a quarter of the shortest side.
    device : str or torch.device, optional
        Where the network works meanwhile; by default where it is.

    Returns
    -------
    segcal_lite.spectral.SpectrumSums
        Its ``signature(divide_by_sqrt_voxels=True)`` takes out the size of the volume.

    Raises
    ------
    ValueError
        If `network` is no module, has no such layer or does not take such windows, or as
        `stream_features`.
    """
    if not isinstance(network, nn.Module):
        expected = "a torch.nn.Module: of a plain callable only the predictions can be judged"
        raise wrong_input("network", f"a {type(network).__name__}", expected)
    module, image = named_layer(network, layer), np.asarray(image, dtype=np.float32)
    window, overlap = _window_of(network, image, window, overlap)
    sums = None
    try:
        with _at_work(network, device):
            for _, features in stream_features(network, module, image, window, overlap):
                sums = sums or SpectrumSums(len(features))
                sums.update(features)
    except RuntimeError as error:  # PyTorch's, of channels or sides that do not fit, or of memory
        found = f"{str(error).splitlines()[0]} (image {image.shape}, window {tuple(window)})"
        raise wrong_input("network", found, "one that takes such windows") from error
    if not sums.n_voxels:
        expected = "one of finer resolution, or a window that the volume fills"
        raise wrong_input("layer", f"no voxel with its centre in {image.shape[1:]}", expected)
    return sums


@contextmanager
def _at_work(network, device):
    """Have a network in evaluation mode, and on `device` if given; afterwards it is as it was."""
    home = None if device is None else a_parameter(network).device
    with in_evaluation(network):
        try:
            if home is not None:
                network.to(choose_device(device))
            yield
        finally:
            if home is not None:
                network.to(home)


def _window_of(network, image, window, overlap):
    """Return window and overlap, those that were not given filled in."""
    n_dims = _n_dims_of(network)
    if window is not None and np.ndim(window) == 0:
        raise wrong_input("window", window, f"{n_dims or image.ndim - 1} sides")
    if window is None:
        return image.shape[1:][: n_dims or 3], 0
    sides = tuple(window)
    if len(sides) != (n_dims or len(sides)):
        raise wrong_input("window", window, f"{n_dims} sides, as the network's convolutions have")
    return sides, min(sides, default=0) // 4 if overlap is None else overlap


def _n_dims_of(network):
    """Return the axes of a network's convolutions, or None where it has none."""
    for n_dims, kinds in (
        (3, (nn.Conv3d, nn.ConvTranspose3d)),
        (2, (nn.Conv2d, nn.ConvTranspose2d)),
    ):
        if any(isinstance(module, kinds) for module in network.modules()):
            return n_dims
    return None


def _places(shape, block_size, overlaps):
    """Return start and owned slice of each block, in MONAI's order, and its padding before them."""
    axes = list(zip(shape, block_size, overlaps, strict=True))
    places = product(*(owned_ranges(*axis) for axis in axes))
    return list(places), [max(0, block - side) // 2 for side, block, _ in axes]


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
    found = layers.get(name) or getattr(model, str(name), None)
    if not isinstance(found, nn.Module):
        uncalled = nn.ModuleList, nn.ModuleDict
        called = [key for key, layer in layers.items() if not isinstance(layer, uncalled)]
        late = [key for key in called if key and key.count(".") <= 2][-20:]  # near the output
        properties = " or 'last_features'" if hasattr(model, "last_features") else ""
        expected = f"one of {shown(late)}{properties}, or another name in named_modules()"
        raise wrong_input("layer", repr(name), expected)
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


def _checked(model, image, block_size, overlap, n_dims=3):
    """Return the image as float32, and block size and overlap along its three axes."""
    image = np.ascontiguousarray(checked_image(model, image))
    if np.ndim(block_size) == 0 or len(block_size) != n_dims:
        raise wrong_input("block_size", block_size, f"{n_dims} sides")
    sides = tuple(check_count("block_size", side) for side in block_size)
    if check_count("overlap", overlap, minimum=0) >= min(sides):
        raise wrong_input("overlap", overlap, f"less than a block's side {min(sides)}")
    across = 3 - len(sides)  # the axis across slices
    return image, sides + (1,) * across, (overlap,) * len(sides) + (0,) * across
