import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from segcal_lite.runs import processes
from segcal_lite.runs.processes import spawned_processes, stop_processes


@pytest.fixture(autouse=True)
def fresh_processes():
    stop_processes()
    yield
    stop_processes()


@pytest.fixture
def python_hears():
    """Python's own answer to Ctrl-C: libraries that other tests import may have set theirs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_stops_the_children():
    with pytest.raises(KeyboardInterrupt), spawned_processes(1) as executor:
        executor.submit(pow, 2, 3).result()
        assert multiprocessing.active_children()
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_that_is_held_back_is_heard_at_the_end(python_hears):
    done = []
    with pytest.raises(KeyboardInterrupt), processes.interrupts_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        done.append("all of it")
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


JUST_STARTED = """
from segcal_lite.runs.processes import spawned_processes
with spawned_processes(1) as executor:
    executor.submit(print, "begun").result()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_amid_the_imports_of_processes_is_heard_by_their_parent_alone():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", JUST_STARTED]
    with subprocess.Popen(command, start_new_session=True, **pipes) as parent:
        while len(family := psutil.Process(parent.pid).children()) < 2:  # one tracks semaphores
            time.sleep(0.01)
        time.sleep(0.3)
        os.killpg(parent.pid, signal.SIGINT)
        told, errors = parent.communicate(timeout=60)
        assert parent.returncode == -signal.SIGINT and not told
        assert errors.count("Traceback (") == 1 and errors.endswith("KeyboardInterrupt\n"), errors
    assert all(map(has_ended, family))


on_linux = pytest.mark.skipif(not processes.HAS_SERVER, reason="a server on Linux alone")


def seen_by_worker():
    return os.getppid(), set(sys.modules)


@on_linux
def test_processes_are_forked_from_a_server_that_has_imported_libraries_and_has_one_thread():
    with spawned_processes(1) as executor:
        pid, modules = executor.submit(seen_by_worker).result()
        server = psutil.Process(pid)
        assert server.ppid() == os.getpid() and server.num_threads() == 1
        assert not executor.submit(torch.cuda.is_initialized).result()
    assert set(processes.PRELOADED) <= modules
    assert not {"monai", "numba", "matplotlib", "segcal_lite.training"} & modules
    with spawned_processes(2) as executor:
        assert executor.submit(seen_by_worker).result()[0] == pid


NO_GPU = """
import torch
def refuse(*_):
    raise SystemExit("found a question for GPUs, after which no process can be forked")
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, refuse)
"""


def test_what_the_server_imports_asks_for_no_gpu():
    code = f"{NO_GPU}\nimport {', '.join(processes.PRELOADED)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_have_the_environment_of_their_parent_now(monkeypatch):
    for number in (1, 2):  # the server may be older than both
        monkeypatch.setenv("SCANS", f"scans{number}")
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        with spawned_processes(number) as executor:
            assert executor.submit(os.getenv, "SCANS").result() == f"scans{number}"
            assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        assert os.environ["OMP_NUM_THREADS"] == "3"


@on_linux
@pytest.mark.slow
def test_a_server_that_died_is_told_or_replaced(tmp_path, monkeypatch):
    with spawned_processes(1) as executor:
        child = psutil.Process(executor.submit(os.getpid).result())
    child.parent().kill()
    assert has_ended(child)
    with pytest.raises(BrokenProcessPool, match="found one that died"), spawned_processes(1) as e:
        child = psutil.Process(e.submit(os.getpid).result())
        child.parent().kill()
        e.submit(time.sleep, 60).result()
    assert has_ended(child)
    (tmp_path / "fatal.py").write_text("import os\nos._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(processes, "PRELOADED", ["fatal"])
    with pytest.raises(BrokenProcessPool, match="found one that died"), spawned_processes(1) as e:
        e.submit(pow, 2, 3).result()
    monkeypatch.undo()
    with spawned_processes(1) as executor:
        assert executor.submit(pow, 2, 3).result() == 8


def test_each_process_computes_in_one_thread():
    with spawned_processes(1) as executor:
        assert executor.submit(torch.get_num_threads).result() == 1


def test_workers_are_fewer_where_memory_is_short(monkeypatch):
    monkeypatch.setattr(processes, "n_cores", lambda: 8)
    monkeypatch.setattr(processes, "free_memory", lambda: 2.5 * processes.WORKER_BYTES)
    assert processes.count_workers(10) == 2
    assert processes.count_workers(1) == processes.count_workers(0) == 1
    monkeypatch.setattr(processes, "free_memory", lambda: 0)
    assert processes.count_workers(10) == 1


def test_processes_that_share_a_gpu_fit_into_its_memory(monkeypatch):
    free = 2.5 * processes.WORKER_BYTES_ON_GPU
    monkeypatch.setattr(processes, "n_cores", lambda: 8)
    monkeypatch.setattr(processes, "free_memory", lambda: 1e12)
    monkeypatch.setattr(processes.torch.cuda, "mem_get_info", lambda device: (free, 1e12))
    assert processes.count_workers(10, "cuda") == 2
    assert processes.count_workers(1, torch.device("cuda:0")) == 1
    assert processes.count_workers(10, "mps") == 1
    free = 0
    assert processes.count_workers(10, "cuda") == 1


def test_one_process_works_on_mps(monkeypatch):
    monkeypatch.setattr(processes, "n_cores", lambda: 8)
    monkeypatch.setattr(processes, "free_memory", lambda: 8 * processes.WORKER_BYTES)
    assert processes.count_workers(10, "mps") == processes.count_workers(10, "mps:0") == 1
    assert processes.count_workers(10) == 8


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), ImportError("sem_open")])
def test_without_semaphores_one_process_does_all_and_says_so(monkeypatch, error):
    """A container without /dev/shm, or a system without `sem_open`."""

    def refuse(context):
        raise error

    monkeypatch.setattr(processes, "n_cores", lambda: 8)
    monkeypatch.setattr(processes, "free_memory", lambda: 8 * processes.WORKER_BYTES)
    monkeypatch.setattr(multiprocessing.context.BaseContext, "Lock", refuse)
    with pytest.warns(UserWarning, match="found no semaphores .*, so all work is done in one proc"):
        assert processes.count_workers(10) == 1


NO_GUARD = """
from segcal_lite.runs.schedules import run_in_order
print("begun")
run_in_order({k: (pow, 2, k) for k in range(2)}, n_workers=2)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_what_to_do(tmp_path):
    (tmp_path / "script.py").write_text(NO_GUARD)
    command = [sys.executable, tmp_path / "script.py"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout.count("begun") > 1  # the processes read it, too
    assert found.stderr.count("Traceback") == 1  # and end there without one
    last = found.stderr.splitlines()[-1]
    assert "as it has no main guard, expected all work in a function main(), and below" in last


def test_a_process_that_dies_is_an_error_with_its_exit_code():
    told = "found one that died, exit code 7, expected all to live: -9 often means that memory"
    with pytest.raises(BrokenProcessPool, match=told), spawned_processes(1) as executor:
        executor.submit(os._exit, 7).result()
    assert not multiprocessing.active_children()


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
    with spawned_processes(1) as executor:
        executor.submit(pow, 2, 3).result()
    monkeypatch.setattr(processes, "free_memory", lambda: 15 * 2**20)
    monkeypatch.setattr(processes, "n_cores", lambda: 4)
    monkeypatch.setattr(processes, "WORKER_BYTES", 10 * 2**20)
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
            family = psutil.Process(parent.pid).children(recursive=True)  # and the server
            assert child in family
            if is_killed:
                parent.kill()
            else:
                parent.communicate("\n")
            assert all(map(has_ended, family))
        finally:
            parent.kill()


def test_without_a_place_for_its_socket_there_is_no_server(monkeypatch):
    def nowhere():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(sys, "platform", "linux")
    for place, is_possible in ((lambda: "/tmp", True), (lambda: "/" + 70 * "x", False)):
        monkeypatch.setattr(processes.tempfile, "gettempdir", place)
        assert processes._server_is_possible() == is_possible
    monkeypatch.setattr(processes.tempfile, "gettempdir", nowhere)
    assert not processes._server_is_possible()
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not processes._server_is_possible()
