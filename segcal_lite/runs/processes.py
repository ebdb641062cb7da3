"""Processes that work side by side: how many there is room for, how they start and how they end.

They leave Ctrl-C to their parent and never outlive it. Starting one takes seconds, most of it
imports, so they are kept a while for the next piece of work. On Linux a server that runs nothing
imports the libraries once, and each is forked from it with them; elsewhere each imports its own.
"""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from threading import RLock, Thread, Timer, current_thread, main_thread

import psutil
import torch
from threadpoolctl import threadpool_limits

from .._checks import wrong_input
from .limits import free_memory, n_cores

WORKER_BYTES = 600 * 2**20  # PyTorch itself, a small U-Net and a mini-batch
WORKER_BYTES_ON_GPU = 3 * 2**30  # PyTorch's context, a network and what it has at a time
SECONDS_BETWEEN_REPORTS = 30
SECONDS_KEPT = 120
SECONDS_TO_END = 5
NO_GUARD = 78  # exit code of a process that began its parent's script anew
THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What is safe to fork: it starts no thread and asks for no GPU. PyTorch's optimisers import Dynamo.
# Not MONAI, which few workers need, and nothing of ours: new workers see code that was reloaded.
PRELOADED = ["torch._dynamo", "nibabel", "pandas", "safetensors.torch", "scipy.ndimage"]
LONGEST_PATH = 60  # bytes of the folder of temporary files; a socket's whole path may have 107


def _server_is_possible():
    """Not where Windows has none, macOS cannot be relied on after a fork, or there is no place."""
    try:
        path = os.fsencode(tempfile.gettempdir())
    except FileNotFoundError:
        return False
    return sys.platform == "linux" and len(path) <= LONGEST_PATH


HAS_SERVER = _server_is_possible()
_context = multiprocessing.get_context("forkserver" if HAS_SERVER else "spawn")
_kept, _lock = [], RLock()  # at most one pool; it is not here while a block uses it


@dataclass
class _Pool:
    """Processes under one executor, and what stops them when nobody wants them for a while."""

    executor: ProcessPoolExecutor
    n_workers: int
    timer: Timer | None = None

    def processes(self):
        return list((self.executor._processes or {}).values())  # no public way before Python 3.14

    def answers(self):
        """Whether they are alive: memory that ran out may have ended one while it waited."""
        try:
            return self.executor.submit(bool, True).result()
        except RuntimeError:
            return False

    def stop(self):
        for process in self.processes():
            process.terminate()
        self.executor.shutdown(cancel_futures=True)  # its own thread waits for the processes


def count_workers(n_tasks, device="cpu"):
    """Processes that cores, free memory and the number of tasks allow, at least 1.

    A container's limits count, not what its machine has. Those that share a GPU need memory of it
    as well; with Apple's MPS it is 1, as where the system has no semaphores, which a warning says.
    """
    if str(device).startswith("mps") or n_tasks < 2:
        return 1
    if str(device).startswith("cuda"):
        free_on_gpu, _ = torch.cuda.mem_get_info(device)
        n_tasks = min(n_tasks, int(free_on_gpu // WORKER_BYTES_ON_GPU))
    free = free_memory()
    for process in [process for pool in _kept for process in pool.processes()]:
        with suppress(psutil.Error):
            free += _own_memory(psutil.Process(process.pid))  # its place is free, too
    n_workers = max(1, min(n_cores(), int(free // WORKER_BYTES), n_tasks))
    return n_workers if n_workers == 1 or _has_semaphores() else 1


def _own_memory(process):
    """Bytes that a process leaves when it ends; what it shares with the server stays."""
    return process.memory_full_info().uss if HAS_SERVER else process.memory_info().rss


def _has_semaphores():
    """Whether processes can share work here; if not, a warning says so."""
    try:
        _context.Lock()
    except (OSError, ImportError) as error:
        told = f"processes: found no semaphores ({error}), so all work is done in one process"
        warnings.warn(f"{told}; a container needs /dev/shm for more.", stacklevel=3)
        return False
    return True


@contextmanager
def spawned_processes(n_workers):
    """Give a block an executor of at most `n_workers` processes with one thread each.

    The block waits for what it submits. An error in it, also Ctrl-C, drops what waits and stops the
    processes; they never outlive this one. They are kept a while for the next block that wants as
    many, with the code they imported: call `stop_processes` after a reload.

    Raises
    ------
    BrokenProcessPool
        If a process died, with what to do about it.

    Examples
    --------
    >>> with spawned_processes(1) as executor:
    ...     executor.submit(pow, 2, 3).result()
    8
    """
    exit_without_guard()
    pool = _take(n_workers)
    try:
        yield pool.executor
    except BrokenProcessPool:
        raise BrokenProcessPool(_why_broken(pool)) from None
    except BaseException:
        pool.stop()
        raise
    _leave(pool)


def exit_without_guard():
    """End a process that begins its parent's script anew, and has come to where that starts it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.stdout.flush()
        os._exit(NO_GUARD)  # of SystemExit the server of Linux would make another code


def _why_broken(pool):
    """Stop a pool of which a process has died; return a sentence that says what to do."""
    processes = pool.processes()
    pool.stop()
    codes = {process.exitcode for process in processes} - {0, -signal.SIGTERM}
    if NO_GUARD in codes:
        found = "a script that each of them begins anew, as it has no main guard"
        expected = 'all work in a function main(), and below it: if __name__ == "__main__": main()'
    else:
        found = f"one that died, exit code {', '.join(map(str, sorted(codes))) or 'unknown'}"
        expected = "all to live: -9 often means that memory ran out, then close other programs"
    return str(wrong_input("processes", found, expected))


def stop_processes():
    """Stop the processes that are kept."""
    with _lock:
        while _kept:
            pool = _kept.pop()
            pool.timer.cancel()
            pool.stop()


def _take(n_workers):
    """Return the pool that was kept, if it has as many processes, or a new one."""
    with _lock:
        if _kept and _kept[0].n_workers == n_workers and _kept[0].answers():
            pool = _kept.pop()
            pool.timer.cancel()
            return pool
        stop_processes()
    executor = ProcessPoolExecutor(n_workers, _Context(), _begin_worker, [dict(os.environ)])
    return _Pool(executor, n_workers)


def _leave(pool):
    """Keep a pool for the next block, and stop it if none comes."""
    with _lock:
        stop_processes()
        pool.timer = Timer(SECONDS_KEPT, _retire, [pool])
        pool.timer.daemon = True
        pool.timer.start()
        _kept.append(pool)


def _retire(pool):
    """Stop a pool that nobody has taken since."""
    with _lock:
        if pool in _kept:
            stop_processes()


def _begin_worker(environment):
    """Keep to one thread, so that workers do not take each other's cores; end with the parent.

    The environment is the parent's now: the server has that of its own start.
    """
    gc.freeze()  # looking through what is shared would copy it
    os.environ.clear()
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it stops the workers
    keep_to_one_thread()
    Thread(target=_end_with_parent, daemon=True).start()


def keep_to_one_thread():
    """Let a process that is there for jobs alone compute in one thread, whatever it loads later."""
    os.environ |= dict.fromkeys(THREAD_COUNTS, "1")
    torch.set_num_threads(1)
    threadpool_limits(1)


def _end_with_parent():
    """A parent that was killed cannot stop its workers: each waits for its end."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@contextmanager
def interrupts_held_back():
    """Hold Ctrl-C back while the block runs, and for good in threads and processes born in it.

    One that another thread of this process takes meanwhile is heard at the block's end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    came, handler = [], signal.getsignal(signal.SIGINT)
    is_ours = callable(handler) and current_thread() is main_thread()
    resource_tracker.ensure_running()  # whose own start would let it through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if is_ours:
        signal.signal(signal.SIGINT, lambda *signalled: came.append(signalled))
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            handler(*came[0])


class _Process(_context.Process):
    """A process that is born with Ctrl-C held back, as is the server that it is forked from.

    It could not yet ignore it: an interrupt in the seconds of imports would print a traceback.
    """

    def start(self):
        try:
            with interrupts_held_back():
                if HAS_SERVER:
                    _start_server()
                super().start()
        except (ConnectionError, EOFError):
            _see_server_end()
            raise BrokenProcessPool("the server died") from None
        except KeyboardInterrupt:  # comes now, and nobody else knows this process yet
            if self.pid:
                self.kill()
            raise


class _Context(type(_context)):
    Process = _Process


def _see_server_end():
    """Wait until a server that hangs up has ended: the next start would take it for alive."""
    pid, until = forkserver._forkserver._forkserver_pid, time.monotonic() + SECONDS_TO_END
    while pid and time.monotonic() < until:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)


def _start_server():
    """Start the process that workers are forked from, unless it runs; it imports before all else.

    It has one thread, also in what it imports: others would not be there in what is forked off.
    """
    before = {name: os.environ[name] for name in THREAD_COUNTS if name in os.environ}
    os.environ |= dict.fromkeys(THREAD_COUNTS, "1")
    try:
        _context.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
    finally:
        for name in THREAD_COUNTS:
            os.environ.pop(name, None)
        os.environ |= before
