"""Processes that work side by side: how many there is room for, and how they end.

Starting one takes seconds, most of it imports, so they are kept for the next piece of work.
"""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread

import psutil
import torch
from threadpoolctl import threadpool_limits

WORKER_BYTES = 600 * 2**20  # PyTorch itself, a small U-Net and a mini-batch
SECONDS_BETWEEN_REPORTS = 30
_kept = []  # at most one pair: executor, number of its processes


def count_workers(n_tasks):
    """Processes that cores, free memory and the number of tasks allow; at least 1."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    by_memory = int(psutil.virtual_memory().available // WORKER_BYTES)
    return max(1, min(n_cores, by_memory, n_tasks))


@contextmanager
def spawned_processes(n_workers):
    """Give a block an executor of spawned processes with one thread each.

    They wait for the next block that wants as many or fewer. An error in the block, also Ctrl-C,
    drops what waits and stops them; they end when this process does, however it ends.

    Parameters
    ----------
    n_workers : int
        How many at most.

    Yields
    ------
    concurrent.futures.Executor

    Examples
    --------
    >>> with spawned_processes(1) as executor:
    ...     executor.submit(pow, 2, 3).result()
    8
    """
    if not _kept or _kept[0][1] < n_workers or not _answers(_kept[0][0]):
        stop_processes()
        spawn = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(n_workers, spawn, initializer=_begin_worker)
        _kept.append((executor, n_workers))
    try:
        yield _kept[0][0]
    except BaseException:
        stop_processes()
        raise


def stop_processes():
    """Stop the processes that are kept, whatever they do."""
    while _kept:
        executor, _ = _kept.pop()
        for child in multiprocessing.active_children():
            child.terminate()
        executor.shutdown(cancel_futures=True)  # the pool's own thread waits for the children


def _answers(executor):
    """Whether the processes are alive: memory that ran out may have ended one while it waited."""
    try:
        return executor.submit(bool, True).result()
    except BrokenProcessPool:
        return False


def _begin_worker():
    """Keep to one thread, so that workers do not take each other's cores; end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it stops the workers
    torch.set_num_threads(1)
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A parent that was killed cannot stop its workers: each waits for its end."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
