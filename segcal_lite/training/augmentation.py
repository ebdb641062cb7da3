"""Random flips, quarter turns and noise for training slices: paper B's, switched off for A's."""

import torch


def augment_slices(images, labels, noise=0.02):
    """Flip, turn and add Gaussian noise to a mini-batch, all slices alike.

    Parameters
    ----------
    images : tensor, shape (B, C, X, Y)
        Intensities in [0, 1].
    labels : tensor, shape (B, X, Y)
    noise : float
        Standard deviation; B prints none.

    Returns
    -------
    images, labels : tensors of the same shapes
        Turned by 180 degrees only where X and Y differ.

    Examples
    --------
    >>> images, labels = augment_slices(torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8))
    >>> images.shape, labels.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 8, 8]))
    """
    flips = [axis for axis in (-2, -1) if torch.rand(()) < 0.5]
    step = 1 if images.shape[-1] == images.shape[-2] else 2
    n_quarters = step * int(torch.randint(0, 4 // step, ()))
    images, labels = (
        torch.rot90(tensor.flip(flips), n_quarters, dims=(-2, -1)) for tensor in (images, labels)
    )
    return images + noise * torch.randn_like(images), labels
