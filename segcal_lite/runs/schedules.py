"""Work shared between processes, some of it after other work."""

import time
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from threading import Event, Thread

import torch

from .devices import reproducible
from .executors import open_executor
from .processes import SECONDS_BETWEEN_REPORTS


def run_in_order(
    jobs,
    before=None,
    n_workers=1,
    finished=None,
    under_way=None,
    scheduler="processes",
    folder=None,
):
    """Run jobs side by side, each as soon as the job before it is done.

    Parameters
    ----------
    jobs : dict of (callable, *arguments)
        By key, in the order in which they are started where they can be. Callables live in a
        module; arguments are small: paths and settings, never arrays.
    before : dict, optional
        Key of the job that has to be done first; a key that is no job counts as done.
    n_workers : int
        How many jobs are under way at a time: `segcal_lite.runs.executors.count_places`. Own
        processes have one thread each; in place of 1 of them the jobs run here, one after another
        and also in one thread, so that their results are the same bits.
    finished : callable, optional
        Called with the key of a job that is done and the seconds since the start.
    under_way : callable, optional
        Called every half minute with the keys of the jobs that run, or that a cluster has been
        handed.
    scheduler : str or concurrent.futures.Executor
        Where the jobs run: see `segcal_lite.runs.executors.check_scheduler`.
    folder : path, optional
        Of the run, which workers elsewhere have to see.

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

    if not jobs or (scheduler == "processes" and (n_workers == 1 or len(jobs) < 2)):
        running = []
        with _told_meanwhile(under_way, running):
            while waiting:
                running[:] = ready()[:1]
                work, *arguments = waiting.pop(running[0])
                with reproducible(torch.device("cpu")):
                    result = work(*arguments)
                finish(running[0], result)
        return results
    pending, told = {}, started
    with open_executor(scheduler, n_workers, folder) as submit:
        try:
            while waiting or pending:
                for key in ready()[: n_workers - len(pending)]:  # what is ready first may change
                    pending[submit(*waiting.pop(key))] = key
                left = told + SECONDS_BETWEEN_REPORTS - time.monotonic()
                if left <= 0:
                    told, left = time.monotonic(), SECONDS_BETWEEN_REPORTS
                    if under_way:
                        under_way(list(pending.values()))
                done, _ = wait(pending, left, FIRST_COMPLETED)
                for future in done:
                    finish(pending.pop(future), future.result())
        except BaseException:
            for future in pending:
                future.cancel()
            raise
    return results


@contextmanager
def _told_meanwhile(under_way, running):
    """Call `under_way` with what runs now and then, until the block ends, with Ctrl-C as always."""
    done = Event()

    def tell():
        while under_way and not done.wait(SECONDS_BETWEEN_REPORTS):
            under_way(list(running))

    Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()
