"""Which processor computes, and what makes its results repeatable."""

from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from .._checks import check_choice


def choose_device(device="auto"):
    """Return the torch device: ``"auto"`` takes CUDA, else Apple's MPS, else the CPU.

    Raises
    ------
    ValueError
        Naming what PyTorch finds on this machine, for anything else.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cuda", *(f"cuda:{number}" for number in range(n_gpus))] if n_gpus else []
    there += ["mps", "mps:0"] if torch.backends.mps.is_available() else []
    there += ["cpu", "cpu:0"]
    check_choice("device", str(device), ("auto", *there))
    return torch.device(there[0] if str(device) == "auto" else device)


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

    Sums over pixels depend on how many threads share them: the block runs on one, as a process of
    `segcal_lite.runs.processes` does. Members train side by side instead. On a GPU the seeds are
    kept too, but its sums may differ in the last bits.
    """
    n_threads, on_cpu = torch.get_num_threads(), device.type == "cpu"
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), threadpool_limits(1 if on_cpu else None):
        try:
            if on_cpu:
                torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(n_threads)
