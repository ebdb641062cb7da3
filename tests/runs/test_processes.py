import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from segcal_lite.runs import processes
from segcal_lite.runs.processes import spawn_context, spawned_processes, stop_processes


@pytest.fixture(autouse=True)
def fresh_processes():
    stop_processes()
    yield
    stop_processes()


def test_an_interrupt_stops_the_children():
    with pytest.raises(KeyboardInterrupt), spawned_processes(1) as executor:
        executor.submit(pow, 2, 3).result()
        assert multiprocessing.active_children()
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_of_a_process_that_just_starts_is_held_back():
    process = spawn_context().Process(target=time.sleep, args=(0.05,))
    process.start()
    os.kill(process.pid, signal.SIGINT)  # amid its imports, as a terminal's Ctrl-C would
    process.join()
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # the parent hears it


def test_each_process_computes_in_one_thread():
    with spawned_processes(1) as executor:
        assert executor.submit(torch.get_num_threads).result() == 1


def test_workers_are_fewer_where_memory_is_short(monkeypatch):
    class Memory:
        available = 2.5 * processes.WORKER_BYTES

    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(processes.psutil, "virtual_memory", Memory)
    assert processes.count_workers(10) == 2
    assert processes.count_workers(1) == 1
    Memory.available = 0
    assert processes.count_workers(10) == 1


def test_processes_that_share_a_gpu_fit_into_its_memory(monkeypatch):
    free = 2.5 * processes.WORKER_BYTES_ON_GPU
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(processes.psutil, "virtual_memory", lambda: SimpleNamespace(available=1e12))
    monkeypatch.setattr(processes.torch.cuda, "mem_get_info", lambda device: (free, 1e12))
    assert processes.count_workers(10, "cuda") == 2
    assert processes.count_workers(1, torch.device("cuda:0")) == 1
    assert processes.count_workers(10, "mps") == 1
    free = 0
    assert processes.count_workers(10, "cuda") == 1


def test_the_next_block_finds_the_same_processes():
    with spawned_processes(1) as executor:
        first = executor.submit(os.getpid).result()
    with spawned_processes(1) as executor:
        assert executor.submit(os.getpid).result() == first
    with spawned_processes(2) as executor:  # never more, never fewer than asked for
        assert executor.submit(os.getpid).result() != first
    assert not psutil.pid_exists(first)
    processes.stop_processes()
    assert not multiprocessing.active_children()


def test_a_block_within_a_block_has_processes_of_its_own():
    with spawned_processes(1) as outer:
        first = outer.submit(os.getpid).result()
        with spawned_processes(1) as inner:
            assert inner.submit(os.getpid).result() != first
        assert outer.submit(os.getpid).result() == first


def test_processes_that_nobody_wants_end(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_KEPT", 0.1)
    with spawned_processes(1) as executor:
        child = psutil.Process(executor.submit(os.getpid).result())
    assert has_ended(child)


def test_processes_that_died_while_idle_are_replaced():
    with spawned_processes(1) as executor:
        first = executor.submit(os.getpid).result()
    psutil.Process(first).kill()
    with spawned_processes(1) as executor:
        assert executor.submit(os.getpid).result() != first
        executor.shutdown()  # by somebody's mistake
    with spawned_processes(1) as executor:
        assert executor.submit(pow, 2, 3).result() == 8


def test_an_error_of_the_work_stops_the_processes_of_its_block_only():
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    bystander.start()
    with pytest.raises(ZeroDivisionError), spawned_processes(1) as executor:
        executor.submit(divmod, 1, 0).result()
    assert multiprocessing.active_children() == [bystander]
    bystander.kill()
    bystander.join()


def threads_of_libraries():
    import scipy.linalg  # noqa: F401 - loaded behind the limit

    return {library["num_threads"] for library in threadpool_info()}


def test_libraries_that_come_later_keep_to_one_thread():
    with spawned_processes(1) as executor:
        assert executor.submit(threads_of_libraries).result() == {1}


def test_the_memory_of_processes_that_wait_counts_as_free(monkeypatch):
    class Memory:
        available = 1.5 * processes.WORKER_BYTES

    with spawned_processes(1) as executor:
        executor.submit(pow, 2, 3).result()
    monkeypatch.setattr(processes.psutil, "virtual_memory", Memory)
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda pid: range(4), raising=False)
    monkeypatch.setattr(processes, "WORKER_BYTES", 100 * 2**20)
    Memory.available = 150 * 2**20
    assert processes.count_workers(4) > 1
    stop_processes()
    assert processes.count_workers(4) == 1


SCRIPT = """
import os
import signal
from segcal_lite.runs.processes import spawned_processes
if __name__ == "__main__":
    with spawned_processes(1) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
    input()
"""


def has_ended(process, seconds=60):
    """Whether a process ends; one that nobody reaps stays a zombie."""
    for _ in range(10 * seconds):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("is_killed", [False, True])
def test_processes_end_with_their_parent(tmp_path, is_killed):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, script], **pipes) as parent:
        try:
            child = psutil.Process(int(parent.stdout.readline()))
            if is_killed:
                parent.kill()
            else:
                parent.communicate("\n")
            assert has_ended(child)
        finally:
            parent.kill()
