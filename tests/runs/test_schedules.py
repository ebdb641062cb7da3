import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info

from segcal_lite.runs import schedules
from segcal_lite.runs.schedules import run_in_order


def leave_note(folder, name, needed=None):
    """Fail unless the note of the job before is there."""
    if needed is not None:
        assert (folder / needed).exists()
    time.sleep(0.05)
    (folder / name).write_text(str(os.getpid()))
    return name


@pytest.mark.parametrize("n_workers", [1, 2])
def test_jobs_wait_for_the_job_before_them(tmp_path, n_workers):
    order = []
    jobs = {
        "c": (leave_note, tmp_path, "c", "b"),
        "b": (leave_note, tmp_path, "b", "a"),
        "a": (leave_note, tmp_path, "a"),
        "alone": (leave_note, tmp_path, "alone"),
    }
    before = {"c": "b", "b": "a", "a": "done long ago"}
    found = run_in_order(jobs, before, n_workers, lambda key, seconds: order.append(key))
    assert found == {key: key for key in jobs}
    assert order.index("a") < order.index("b") < order.index("c")
    pids = {(tmp_path / name).read_text() for name in jobs}
    assert (str(os.getpid()) in pids) == (n_workers == 1)


def fail():
    raise ValueError("blue: found red")


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_of_a_job_is_the_callers(tmp_path, n_workers):
    jobs = {"bad": (fail,), "good": (leave_note, tmp_path, "good"), "after": (fail,)}
    with pytest.raises(ValueError, match="blue: found red"):
        run_in_order(jobs, {"after": "bad"}, n_workers)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_runs_is_told_meanwhile_also_where_one_job_runs_alone(tmp_path, monkeypatch, n_jobs):
    monkeypatch.setattr(schedules, "SECONDS_BETWEEN_REPORTS", 0.01)
    told = []
    jobs = {k: (leave_note, tmp_path, str(k)) for k in range(n_jobs)}
    run_in_order(jobs, n_workers=n_jobs, under_way=told.append)
    assert told and set(sum(told, [])) <= set(jobs)


@pytest.mark.parametrize("is_here", [True, False])
def test_jobs_that_are_short_one_by_one_are_told_too(tmp_path, monkeypatch, is_here):
    monkeypatch.setattr(schedules, "SECONDS_BETWEEN_REPORTS", 0.12)  # longer than one, not than all
    jobs, told = {str(k): (leave_note, tmp_path, str(k)) for k in range(6)}, []
    with ThreadPoolExecutor(1) as executor:
        scheduler = "processes" if is_here else executor
        run_in_order(jobs, n_workers=1, under_way=told.append, scheduler=scheduler)
    assert told and all(len(keys) == 1 and keys[0] in jobs for keys in told)


def test_any_executor_will_do_also_for_one_job(tmp_path):
    with ThreadPoolExecutor(1, thread_name_prefix="cluster") as executor:
        jobs = {"where": (threading.current_thread,)}
        assert run_in_order(jobs, scheduler=executor)["where"].name.startswith("cluster")


def test_nothing_to_do():
    assert run_in_order({}, n_workers=2) == {}


def n_threads():
    return torch.get_num_threads(), {library["num_threads"] for library in threadpool_info()}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_jobs_compute_in_one_thread_wherever_they_run(n_jobs):
    """A single job runs in this process: more threads would sum in another order."""
    jobs = dict.fromkeys(range(n_jobs), (n_threads,))
    before = n_threads()
    assert list(run_in_order(jobs, n_workers=2).values()) == [(1, {1})] * n_jobs
    assert n_threads() == before
