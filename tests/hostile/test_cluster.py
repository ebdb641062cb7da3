"""Real schedulers and workers of Dask, killed, blind or in each other's way: nothing is lost.

Each worker takes itself for a machine of its own, so that only the claims' beats tell of it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import write_tiny_sets

from segcal_lite.runs.folders import below, project_root
from segcal_lite.runs.schedules import run_in_order

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.skipif(find_spec("distributed") is None, reason="without the extra cluster"),
]
HERE = Path(__file__).parent
NODE = """
import sys
from segcal_lite.runs import claims
name = sys.argv[sys.argv.index("--name") + 1]
claims.machine = lambda: name
claims.SECONDS_BETWEEN_BEATS, claims.SECONDS_OF_SILENCE = 0.5, 4
"""
BLIND = """
from pathlib import Path
exists = Path.exists
Path.exists = lambda path, **options: "slices" not in path.parts and exists(path, **options)
"""
RESULTS = (
    "weights.safetensors",
    "history.csv",
    "scaling.json",
    "scores/*/*.csv",
    "scores/*/*.json",
)
LEFT = (".partial-*", ".claim*", ".driver-*", "checkpoint.safetensors", "state.json")


class Cluster:
    """A scheduler, its workers and drivers: processes of which none outlives the test."""

    def __init__(self, folder, discs):
        self.folder, self.discs, self.started = folder, discs, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, *arguments, **options):
        path = os.pathsep.join([str(project_root()), str(HERE.parent)])
        environment = os.environ | {
            "PYTHONPATH": path,
            "DASK_TEMPORARY_DIRECTORY": str(self.folder),
        }
        environment |= {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s"}
        command = [sys.executable, *map(str, arguments)]
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
        process = subprocess.Popen(command, env=environment, start_new_session=True, **options)
        self.started.append(process)
        return process

    def scheduler(self):
        options = "--host", "127.0.0.1", "--port", self.port, "--no-dashboard"
        return self.start("-m", "distributed.cli.dask_scheduler", *options)

    def worker(self, name, *preloads, n_threads=1):
        options = ["--no-nanny", "--no-dashboard", "--nthreads", n_threads, "--memory-limit", 0]
        options += ["--name", name, "--local-directory", self.folder / "scratch"]
        for number, text in enumerate((NODE, *preloads)):
            script = self.folder / f"{name}{number}.py"
            script.write_text(text)
            options += ["--preload", script]
        return self.start("-m", "distributed.cli.dask_worker", self.address, *options)

    def driver(self, out, scheduler=None, *sets):
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        arguments = self.discs, out, scheduler or self.address, *sets
        return self.start(HERE / "cluster_driver.py", *arguments, **told)

    def end(self):
        for process in self.started:
            family = psutil.Process(process.pid).children(recursive=True) if alive(process) else []
            for one in (*family, process):
                one.kill()
            process.communicate()


def alive(process):
    return process.poll() is None


@pytest.fixture
def cluster(discs, tmp_path):
    made = Cluster(tmp_path, discs)
    yield made
    made.end()


def results(out):
    """Bytes of all that a run leaves for others, by its place."""
    paths = {path for name in RESULTS for path in below(out, name)}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(paths)}


@pytest.fixture(scope="module")
def expected(discs, tmp_path_factory):
    """What a run on the processes of this machine leaves."""
    folder = tmp_path_factory.mktemp("expected")
    sets = write_tiny_sets(folder / "sets", ("liver_ct", "atrium"))
    alone = Cluster(folder, discs)
    try:
        finish(alone.driver(folder / "run", "processes", sets))
    finally:
        alone.end()
    return folder / "run", sets


def finish(*drivers):
    """Wait for drivers to end well; no finished model changes meanwhile. Return what they say."""
    done, out = {}, Path(drivers[0].args[3])
    while any(map(alive, drivers)):
        now = {path: path.stat().st_mtime_ns for path in below(out, "weights.safetensors")}
        assert now.items() >= done.items()  # none was trained twice
        done = now
        time.sleep(0.1)
    told = [driver.communicate() for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0] * len(drivers), told
    return told


def assert_whole(out, expected, kind="slices"):
    """Every result is there, of the same bits, and nothing else."""
    assert results(out / kind) == results(expected[0] / kind)
    assert len(results(out / kind)) > 4
    assert [path for name in LEFT for path in below(out, name)] == []


def under_way(out, seconds=120):
    """Wait for a member in mid-training; return its folder and who has claimed it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path in below(out, "models/*/*/checkpoint.safetensors"):
            holder = next(iter(below(path.parent, ".claim/*")), None)
            if holder and not (path.parent / "weights.safetensors").exists():
                return path.parent, holder.name.split("-")[0]
        time.sleep(0.01)
    raise AssertionError("no member is in mid-training")


def test_a_local_cluster_leaves_the_same_bits_as_processes(cluster, expected, tmp_path):
    told, _ = finish(cluster.driver(tmp_path / "run", "dask", expected[1]))[0]
    assert told.count("dashboard http://127.0.0.1:") == 1  # one cluster for all jobs
    assert_whole(tmp_path / "run", expected)
    assert_whole(tmp_path / "run", expected, "volumes")


def test_a_worker_killed_in_mid_member_is_followed_by_another(cluster, expected, tmp_path):
    cluster.scheduler()
    workers = {name: cluster.worker(name) for name in ("node1", "node2")}
    driver = cluster.driver(tmp_path / "run")
    _, name = under_way(tmp_path / "run")
    workers[name].kill()
    finish(driver)
    assert_whole(tmp_path / "run", expected)


def test_a_scheduler_that_goes_is_one_sentence_and_the_same_call_goes_on(
    cluster, expected, tmp_path
):
    first, worker = cluster.scheduler(), cluster.worker("node1")
    driver = cluster.driver(tmp_path / "run")
    under_way(tmp_path / "run")
    first.kill()
    first.wait()
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1
    sentence = f"{cluster.address}: found a Dask scheduler that went away, expected one that stays"
    assert [line for line in errors.splitlines() if line.startswith(sentence)]
    assert "Traceback (" not in errors
    worker.wait(60)  # it ends with its scheduler
    cluster.scheduler()
    cluster.worker("node2")
    finish(cluster.driver(tmp_path / "run"))
    assert_whole(tmp_path / "run", expected)


def test_two_drivers_on_one_folder_share_its_work(cluster, expected, tmp_path):
    cluster.scheduler()
    for name in ("node1", "node2"):
        cluster.worker(name)
    finish(cluster.driver(tmp_path / "run"), cluster.driver(tmp_path / "run"))
    assert_whole(tmp_path / "run", expected)


def test_two_drivers_of_two_schedulers_share_one_folder(cluster, expected, tmp_path):
    """Processes of this machine beside workers that take themselves for others."""
    cluster.scheduler()
    cluster.worker("node1")
    finish(cluster.driver(tmp_path / "run"), cluster.driver(tmp_path / "run", "processes"))
    assert_whole(tmp_path / "run", expected)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"preloads": [BLIND]}, "found no {out} of this run, expected one folder that all workers"),
        ({"n_threads": 2}, "found 2 threads, expected --nthreads 1"),
    ],
)
def test_a_worker_that_will_not_do_is_one_sentence(options, told, cluster, tmp_path):
    cluster.scheduler()
    cluster.worker("node1", *options.pop("preloads", []), **options)
    driver = cluster.driver(tmp_path / "run")
    _, errors = driver.communicate(timeout=180)
    assert driver.returncode == 1
    assert told.format(out=tmp_path / "run" / "slices") in errors
    assert "worker on" in errors
    assert "Traceback (" not in errors
    assert not below(tmp_path, "models")  # before anything is written


def test_after_ctrl_c_nothing_new_begins_and_the_run_goes_on_later(cluster, expected, tmp_path):
    cluster.scheduler()
    worker = cluster.worker("node1")
    driver, out = cluster.driver(tmp_path / "run"), tmp_path / "run"
    folder, _ = under_way(out)
    begun = set(below(out, "models/*/*"))
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "Traceback (" not in errors
    until = time.monotonic() + 60
    while not (folder / "weights.safetensors").exists() or (folder / ".claim").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(2)
    assert set(below(out, "models/*/*")) - begun <= set()
    assert alive(worker)
    finish(cluster.driver(out))
    assert_whole(out, expected)


def test_a_local_cluster_ends_with_ctrl_c_and_with_a_kill(cluster, tmp_path):
    for number, how in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        driver = cluster.driver(tmp_path / str(number), "dask")
        under_way(tmp_path / str(number))
        family = psutil.Process(driver.pid).children(recursive=True)
        assert family
        os.killpg(driver.pid, number) if number == signal.SIGINT else driver.kill()
        _, errors = driver.communicate(timeout=60)
        assert driver.returncode == how, errors
        _, still = psutil.wait_procs(family, timeout=30)
        assert still == []
        assert "KeyboardInterrupt" not in errors


def test_a_job_whose_workers_die_each_time_is_one_sentence():
    told = "^dask: found a job whose workers died, 4 one after another, expected workers that live"
    with pytest.raises(BrokenExecutor, match=told):
        run_in_order({"bad": (os._exit, 9)}, scheduler="dask")
    workers = [
        p for p in psutil.Process().children() if any("spawn_main" in w for w in p.cmdline())
    ]
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_no_scheduler_at_an_address_is_one_sentence(cluster, tmp_path):
    _, errors = cluster.driver(tmp_path / "run").communicate(timeout=120)
    sentence = f"{cluster.address}: found none (OSError), expected a Dask scheduler that answers"
    assert errors.startswith(sentence), errors
