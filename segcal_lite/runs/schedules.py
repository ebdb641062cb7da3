"""Work shared between processes, some of it after other work."""

import time
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, nullcontext
from threading import Event, Thread

import torch

from .devices import reproducible
from .processes import SECONDS_BETWEEN_REPORTS, spawned_processes


def run_in_order(jobs, before=None, n_workers=1, finished=None, under_way=None, executor=None):
    """Run jobs side by side, each as soon as the job before it is done.

    Parameters
    ----------
    jobs : dict of (callable, *arguments)
        By key, in the order in which they are started where they can be. Callables live in a
        module; arguments are small: paths and settings, never arrays.
    before : dict, optional
        Key of the job that has to be done first; a key that is no job counts as done.
    n_workers : int
        Spawned processes of one thread each; with 1 the jobs run here, one after another and also
        in one thread, so that their results are the same bits.
    finished : callable, optional
        Called with the key of a job that is done and the seconds since the start.
    under_way : callable, optional
        Called now and then with the keys of the jobs that run, when no job has ended for a while.
    executor : concurrent.futures.Executor, optional
        Where the jobs run, in place of spawned processes: one of a cluster, for example.

    Returns
    -------
    dict
        What each job returned.

    Examples
    --------
    >>> jobs = {"second": (len, "bb"), "first": (len, "a")}
    >>> run_in_order(jobs, {"second": "first"})
    {'first': 1, 'second': 2}
    """
    before, waiting, results, started = before or {}, dict(jobs), {}, time.monotonic()

    def ready():
        return [key for key in waiting if before.get(key) not in jobs or before[key] in results]

    def finish(key, result):
        results[key] = result
        if finished:
            finished(key, time.monotonic() - started)

    if executor is None and (n_workers == 1 or len(jobs) < 2):
        while waiting:
            key = ready()[0]
            work, *arguments = waiting.pop(key)
            with _told_meanwhile(under_way, key), reproducible(torch.device("cpu")):
                result = work(*arguments)
            finish(key, result)
        return results
    with nullcontext(executor) if executor else spawned_processes(n_workers) as executor:
        pending = {}
        while waiting or pending:
            for key in ready()[: n_workers - len(pending)]:  # what is ready first may change
                pending[executor.submit(*waiting.pop(key))] = key
            done, _ = wait(pending, SECONDS_BETWEEN_REPORTS, FIRST_COMPLETED)
            for future in done:
                finish(pending.pop(future), future.result())
            if not done and under_way:
                under_way(list(pending.values()))
    return results


@contextmanager
def _told_meanwhile(under_way, key):
    """Call `under_way` now and then while the block runs, which Ctrl-C ends as always."""
    done = Event()

    def tell():
        while under_way and not done.wait(SECONDS_BETWEEN_REPORTS):
            under_way([key])

    Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()
