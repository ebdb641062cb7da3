"""Where jobs run: processes of this machine, workers of Dask on any, an executor of one's own.

Dask is imported only where it is asked for. It sends pickled functions and paths between the
processes of one user, and runs what it is sent: it belongs on a network that all may trust. Nothing
pickled is read from disk.
"""

import logging
import os
import platform
import re
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from uuid import uuid4

import torch

from .._checks import wrong_input
from .claims import is_gone, machine, make_folder
from .devices import reproducible
from .processes import (
    count_workers,
    exit_without_guard,
    interrupts_held_back,
    keep_to_one_thread,
    spawned_processes,
)

SCHEDULERS = r"processes|dask|(tcp|tls)://\S+:\d+"  # the last: an address, as Dask prints it
IN_WORDS = "'processes', 'dask', the address of a Dask scheduler (tcp://HOST:PORT)"
SIGN = ".driver-"  # begins the name of a file by which workers know that they see the run
SECONDS_TO_ANSWER = 20  # of a Dask scheduler
_clients, _alone = {}, RLock()


def check_scheduler(scheduler):
    """Return where jobs are to run, if that can be.

    Parameters
    ----------
    scheduler : {"processes", "dask"}, str or concurrent.futures.Executor
        Processes; Dask's workers, as many on this machine; the address of a Dask scheduler,
        whose workers see the run folder under the same path; or any executor. A job computes in one
        thread, and wherever it runs its results are the same bits.

    Raises
    ------
    ValueError
        For anything else, or without Dask where it is asked for.

    Examples
    --------
    >>> check_scheduler("processes")
    'processes'
    >>> check_scheduler("slurm")
    Traceback (most recent call last):
    ...
    ValueError: scheduler: found 'slurm', expected 'processes', 'dask', the address of a Dask \
scheduler (tcp://HOST:PORT), or an Executor.
    """
    if isinstance(scheduler, Executor) or scheduler == "processes":
        return scheduler
    if not isinstance(scheduler, str) or not re.fullmatch(SCHEDULERS, scheduler):
        raise wrong_input("scheduler", repr(scheduler), f"{IN_WORDS}, or an Executor")
    if find_spec("distributed") is None:
        expected = 'it installed: python -m pip install -c constraints.txt -e ".[cluster]"'
        raise wrong_input(f"scheduler {scheduler!r}", "no Dask", expected)
    return scheduler


def is_here(scheduler):
    """Whether jobs run on this machine, so that its cores and its memory count."""
    return scheduler in ("processes", "dask")


def count_places(scheduler, n_jobs, device="cpu"):
    """Jobs that are under way at a time: as many as fit here, elsewhere all, which queue there."""
    if not is_here(scheduler):
        return n_jobs
    n_places = count_workers(n_jobs, device)
    if scheduler in _clients and str(device) == "cpu":  # workers that are there have their memory
        n_places = max(n_places, min(n_jobs, len(_clients[scheduler].cluster.workers)))
    return n_places


@contextmanager
def open_executor(scheduler, n_workers, folder=None):
    """Give a block what submits a job and its arguments, and returns a `concurrent.futures.Future`.

    Parameters
    ----------
    scheduler : as in `check_scheduler`
    n_workers : int
        Processes, where they run here.
    folder : path, optional
        Of the run: a worker elsewhere that does not see it refuses its job.

    Raises
    ------
    BrokenExecutor
        If processes, workers or the scheduler died, with what to do about it.
    """
    if scheduler == "processes":
        with spawned_processes(n_workers) as executor:
            yield executor.submit
    elif isinstance(scheduler, Executor):
        with _sign(folder) as sign:
            yield partial(scheduler.submit, run_alone, sign)
    else:
        client = _client(scheduler, n_workers)
        try:
            with _sign(folder) as sign, _told_if_lost(scheduler):
                yield partial(client.get_executor().submit, run_on_dask, sign)
        except BaseException:
            _leave(scheduler)
            raise


@contextmanager
def _sign(folder):
    """Leave an empty file in a folder while the block runs, by which others know that they see it.

    Those that killed processes of this machine have left are removed.
    """
    if folder is None:
        yield None
        return
    folder = make_folder(folder)
    for left in folder.glob(f"{SIGN}*"):
        if is_gone(left.name.removeprefix(SIGN)):
            left.unlink(missing_ok=True)
    sign = folder / f"{SIGN}{machine()}-{os.getpid()}-{uuid4().hex}"
    sign.touch()
    try:
        yield sign
    finally:
        sign.unlink(missing_ok=True)


def run_alone(sign, work, *arguments):
    """Do a job as a process of ours does: in one thread, and no other in this process meanwhile."""
    if sign is not None and not Path(sign).exists():
        found = f"no {sign.parent} of this run"
        expected = "one folder that all workers see under the same path"
        raise wrong_input(f"a worker on {platform.node()}", found, expected)
    with _alone, reproducible(torch.device("cpu")):
        return work(*arguments)


def run_on_dask(sign, work, *arguments):
    """Do a job in a worker of Dask, whose process is there for jobs alone."""
    from distributed import get_worker

    n_threads = get_worker().state.nthreads
    if n_threads > 1:
        expected = "--nthreads 1 and as many workers as cores (--nworkers)"
        raise wrong_input(f"Dask's worker on {platform.node()}", f"{n_threads} threads", expected)
    keep_to_one_thread()
    return run_alone(sign, work, *arguments)


def _client(scheduler, n_workers):
    """Return what speaks with a Dask scheduler, the same while it answers; print its dashboard."""
    from distributed import Client, LocalCluster

    exit_without_guard()
    logging.getLogger("distributed.client").setLevel("CRITICAL")  # what goes wrong is raised here
    client = _clients.get(scheduler)
    if client is not None and client.status == "running":
        if scheduler == "dask":
            client.cluster.scale(n_workers)
        return client
    cluster = scheduler
    if scheduler == "dask":
        options = {"threads_per_worker": 1, "memory_limit": 0}  # no limit, no data on disk
        options |= {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        options["silence_logs"] = "ERROR"
        with interrupts_held_back():  # they are the parent's, which stops its workers
            cluster = LocalCluster(n_workers=n_workers, **options)
    try:
        client = Client(cluster, timeout=SECONDS_TO_ANSWER, set_as_default=False)
    except OSError as error:
        expected = "a Dask scheduler that answers: start it with `dask scheduler`"
        raise wrong_input(scheduler, f"none ({type(error).__name__})", expected) from error
    _clients[scheduler] = client
    n_found = len(client.nthreads())
    print(f"Dask, {n_found} workers: dashboard {client.dashboard_link}", flush=True)
    return client


def _leave(scheduler):
    """Take back from Dask what it has not begun; workers that were started here end at once."""
    client = _clients.pop(scheduler)
    with suppress(TimeoutError):
        client.close(timeout=SECONDS_TO_ANSWER)
        if client.cluster:
            client.cluster.close(timeout=SECONDS_TO_ANSWER)


@contextmanager
def _told_if_lost(scheduler):
    """Say in one sentence that a scheduler or one worker after another has died."""
    from distributed import KilledWorker

    kept = "then run again: what is finished is kept"
    try:
        yield
    except KilledWorker as error:
        found = f"a job whose workers died, {error.allowed_failures + 1} one after another"
        expected = f"workers that live (memory, time limits: see their logs); {kept}"
        raise BrokenExecutor(str(wrong_input(scheduler, found, expected))) from None
    except CancelledError:
        expected = f"one that stays: start it and its workers, {kept}"
        found = "a Dask scheduler that went away"
        raise BrokenExecutor(str(wrong_input(scheduler, found, expected))) from None
