"""Random blocks of volumes for training in 3D, as paper B draws them (section III.B).

Positions are random; blocks are flipped, turned by multiples of 90 degrees and get Gaussian noise.
The transforms are MONAI's; the same seed gives the same blocks. Voxels that nobody annotated keep
their label `IGNORED`, and no block is centred on one where foreground is sought.
"""

from contextlib import contextmanager

import numpy as np
import torch

from .._checks import IGNORED, check_count, wrong_input

BOTH = ("image", "labels")


def block_transform(block_side, noise=0.05, foreground_share=0.0, augment=True):
    """Return the MONAI transform from a whole case to one random block of it.

    Parameters
    ----------
    block_side : int
        Blocks are cubes, so that every quarter turn fits. Shorter axes are padded with zeros.
    noise : float
        Largest standard deviation of the noise, which is drawn anew for each block; B prints none.
    foreground_share : float
        Probability, in [0, 1], that a block is centred on a foreground voxel, otherwise on a
        background voxel (near an edge it is moved inside); 0 draws positions at random, as B.
    augment : bool
        Flips, turns and noise, or the position only.

    Returns
    -------
    monai.transforms.Compose
        Takes a dict of ``image`` (C, X, Y, Z) and ``labels`` (1, X, Y, Z); `draw_block` calls it.

    Raises
    ------
    ValueError
        A side below 1, a share outside [0, 1] or negative noise.
    """
    import monai.transforms as mt  # here: its import takes seconds

    side = (check_count("block_side", block_side),) * 3
    if not 0 <= foreground_share <= 1:
        raise wrong_input("foreground_share", foreground_share, "a number from 0 to 1")
    if not 0 <= noise < np.inf:
        raise wrong_input("noise", noise, "a standard deviation of at least 0")
    crop = [mt.RandSpatialCropd(BOTH, side, random_size=False)]
    if foreground_share:
        shares = {"pos": foreground_share, "neg": 1 - foreground_share}
        centres = {"fg_indices_key": "foreground", "bg_indices_key": "background"}
        by_label = mt.RandCropByPosNegLabeld(BOTH, "labels", side, **shares, **centres)
        crop = [_add_centres, by_label]
    turns = [
        *(mt.RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(3)),
        *(
            mt.RandRotate90d(BOTH, prob=0.75, spatial_axes=plane)
            for plane in ((0, 1), (0, 2), (1, 2))
        ),
        mt.RandGaussianNoised("image", prob=1.0, std=noise),
    ]
    return mt.Compose([mt.SpatialPadd(BOTH, side), *crop, *(turns if augment else [])])


def _add_centres(case):
    """Add the flat indices of foreground and of background: MONAI counts -1 as foreground.

    A case of which nothing is annotated gives blocks from anywhere.
    """
    labels = case["labels"].ravel()
    foreground, background = labels > 0, labels == 0
    if not (foreground.any() or background.any()):
        background = labels == IGNORED
    found = {"foreground": foreground, "background": background}
    return case | {name: mask.nonzero()[:, 0] for name, mask in found.items()}


def draw_block(transform, image, labels, seed):
    """Draw one block of a case.

    Parameters
    ----------
    transform : monai.transforms.Compose
        From `block_transform`.
    image : array, shape (C, X, Y, Z)
    labels : array of integers, shape (X, Y, Z)
    seed : int
        Decides position, flips, turns and noise; nothing else does, so that a training that was
        interrupted draws what a whole one would.

    Returns
    -------
    image : tensor, float32, shape (C, side, side, side)
    labels : tensor, int64, shape (side, side, side)

    Raises
    ------
    ValueError
        If image and labels differ in shape.

    Examples
    --------
    >>> image, labels = np.zeros((1, 20, 12, 9)), np.zeros((20, 12, 9), dtype=int)
    >>> block, truth = draw_block(block_transform(16), image, labels, seed=0)
    >>> block.shape, truth.shape
    (torch.Size([1, 16, 16, 16]), torch.Size([16, 16, 16]))
    """
    if np.ndim(image) != 4 or np.shape(image)[1:] != np.shape(labels):
        found = f"shapes {np.shape(image)} and {np.shape(labels)}"
        raise wrong_input("image and labels", found, "(C, X, Y, Z) and (X, Y, Z)")
    case = {
        "image": torch.from_numpy(np.array(image, dtype=np.float32)),
        "labels": torch.from_numpy(np.array(labels, dtype=np.int64))[None],
    }
    transform.set_random_state(seed=seed)
    with _without_history():
        drawn = transform(case)
    drawn = drawn[0] if isinstance(drawn, list) else drawn
    return drawn["image"].float(), drawn["labels"][0].long()


@contextmanager
def _without_history():
    """Let MONAI return plain tensors: nobody undoes a block, and its records take half the time."""
    from monai.data import get_track_meta, set_track_meta

    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)
