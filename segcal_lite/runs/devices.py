"""Which processor computes, and what makes its results repeatable."""

from contextlib import contextmanager

import torch

from .._checks import check_choice, wrong_input


def choose_device(device="auto"):
    """Return the torch device: ``"auto"`` takes CUDA, else Apple's MPS, else the CPU.

    Raises
    ------
    ValueError
        If there is no such device here.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    check_choice("device", str(device).split(":")[0], ("auto", "cpu", "cuda", "mps"))
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if str(device) == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    chosen = torch.device(device)
    n_there = {"cuda": has_cuda and torch.cuda.device_count(), "mps": has_mps, "cpu": 1}
    if (chosen.index or 0) >= n_there[chosen.type]:
        expected = "a device that PyTorch finds here; 'auto' takes one"
        raise wrong_input("device", repr(str(device)), expected)
    return chosen


def memory_layout(n_dims):
    """Return PyTorch's layout of images of `n_dims`: channels last, which CPUs compute faster.

    Other numbers of dimensions, which no image has, get the usual layout.

    Examples
    --------
    >>> memory_layout(3)
    torch.channels_last_3d
    """
    layouts = {2: torch.channels_last, 3: torch.channels_last_3d}
    return layouts.get(n_dims, torch.contiguous_format)


@contextmanager
def reproducible(device):
    """Let a block give the same bits each time on the CPU, and leave the global state alone.

    Sums over pixels depend on how many threads share them: the block runs on one. Members train
    side by side instead. On a GPU the seeds are kept too, but its sums may differ in the last bits.
    """
    n_threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if device.type == "cpu":
                torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(n_threads)
