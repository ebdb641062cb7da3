"""The slices of many cases, or their whole volumes, as one training has them before it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..data.prepared import of_split


@dataclass(frozen=True)
class Slices:
    """The samples of many cases, slices or volumes, as tensors on one device.

    Attributes
    ----------
    images : tensor, shape (N, C, X, Y) or (N, C, X, Y, Z)
    labels : tensor of signed integers, shape (N, X, Y) or (N, X, Y, Z)
        `IGNORED` where nobody annotated; with R regions (N, R, X, Y) or (N, R, X, Y, Z) of 0 and 1.
    case_index : tensor, shape (N,)
        Which case a sample is from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    case_index: torch.Tensor

    @cached_property
    def n_cases(self):
        """How many cases the samples are from."""
        return int(self.case_index.max()) + 1


def load_slices(cases, split, device="cpu", n_dims=2):
    """Read the slices of one split to `device`, or its whole volumes.

    Parameters
    ----------
    cases : list of PreparedCase
    split : {"train", "validation", "test"}
    device : torch device
    n_dims : {2, 3}
        With 3 a sample is a volume (C, X, Y, Z), and all have one grid.

    Returns
    -------
    Slices
        Of 4 C + 2 bytes a pixel: 40 heart volumes of 10 slices at 224 x 224 take 120 MB.

    Raises
    ------
    ValueError
        If no case is in `split`.
    """
    chosen = of_split(cases, split)

    def samples(array):
        return array[np.newaxis] if n_dims == 3 else np.moveaxis(array, -1, 0)

    images = [samples(case.image) for case in chosen]
    labels = [samples(case.targets) for case in chosen]
    case_index = np.repeat(np.arange(len(chosen)), [len(of_case) for of_case in labels])
    arrays = np.concatenate(images), np.concatenate(labels), case_index
    return Slices(*(torch.from_numpy(array).to(device) for array in arrays))
