"""Spectral signatures of whole cases: a network's last feature map, fed slice by slice."""

import numpy as np

from .data.preprocessing import valid_box
from .inference import predict_logits, recorded_features
from .spectral import RELATIVE_EPSILON, SpectrumSums


def case_spectrum(model, case, loss):
    """Sums for the spectrum of one case's last feature map; padding is left out.

    Paper B takes the map in front of the 1 x 1 x 1 output. Here that is the outermost block of the
    decoder: as many channels as the first encoder block, full resolution, every slice once.

    Parameters
    ----------
    model : UNet
    case : segcal_lite.data.prepared.PreparedCase
    loss : {"ce", "dice", "ce_dice"}

    Returns
    -------
    segcal_lite.spectral.SpectrumSums
    """
    whole = valid_box(case.record)
    with recorded_features(model.last_features) as blocks:
        predict_logits(model, case.image, loss)
    sums = SpectrumSums(blocks[0].shape[1])
    for block in blocks:  # (1, C, X, Y, Z), or slices (n, C, X, Y) of which none is padding
        is_volume = block.ndim == 5
        maps = block[0] if is_volume else np.moveaxis(block, 1, 0)
        sums.update(maps[:, *(whole if is_volume else (slice(None), *whole[:2]))])
    return sums


def case_signatures(
    model, cases, loss, relative_epsilon=RELATIVE_EPSILON, divide_by_sqrt_voxels=False
):
    """Spectral signatures of many cases, paper B, section III.D.

    Parameters
    ----------
    model, loss
        As in `case_spectrum`.
    cases : list of PreparedCase
    relative_epsilon, divide_by_sqrt_voxels
        As in `segcal_lite.spectral.spectral_signature`.

    Returns
    -------
    array, float64, shape (n_cases, r)
        r is the number of channels; singular values in descending order.
    """
    return np.stack(
        [
            case_spectrum(model, case, loss).signature(relative_epsilon, divide_by_sqrt_voxels)
            for case in cases
        ]
    )
