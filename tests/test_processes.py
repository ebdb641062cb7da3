import multiprocessing
import os
import signal
import subprocess
import sys

import psutil
import pytest
import torch

from segcal_lite import processes
from segcal_lite.processes import spawned_processes, stop_processes


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


def test_the_next_block_finds_the_same_processes():
    with spawned_processes(2) as executor:
        first = executor.submit(os.getpid).result()
    with spawned_processes(1) as executor:  # fewer will do
        assert executor.submit(os.getpid).result() == first
    with spawned_processes(3) as executor:  # more have to be started
        assert executor.submit(os.getpid).result() != first
    assert not psutil.pid_exists(first)


def test_processes_that_died_while_idle_are_replaced():
    with spawned_processes(1) as executor:
        first = executor.submit(os.getpid).result()
    os.kill(first, signal.SIGKILL)
    with spawned_processes(1) as executor:
        assert executor.submit(os.getpid).result() != first


def test_an_error_of_the_work_stops_the_processes():
    with pytest.raises(ZeroDivisionError), spawned_processes(1) as executor:
        executor.submit(divmod, 1, 0).result()
    assert not multiprocessing.active_children()


SCRIPT = """
import os, time
from segcal_lite.processes import spawned_processes
if __name__ == "__main__":
    with spawned_processes(1) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
    time.sleep({seconds})
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_processes_end_with_their_parent(tmp_path, is_killed):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(seconds=60 if is_killed else 0))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    if is_killed:
        parent.kill()
    parent.communicate()
    child.wait(timeout=30)
