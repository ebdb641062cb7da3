"""Where jobs run: what is admitted, what a job may rely on, and what the page on it says."""

import ast
import re
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from own_predictions import write_study

from segcal_lite.experiments.own_model import evaluate
from segcal_lite.kit.parameters import SCHEDULERS
from segcal_lite.runs import executors
from segcal_lite.runs.claims import machine
from segcal_lite.runs.executors import check_scheduler, count_places, open_executor, run_alone
from segcal_lite.runs.folders import project_root, remove_left_over
from segcal_lite.runs.schedules import run_in_order
from segcal_lite.training import members
from segcal_lite.training.groups import N_LANES
from segcal_lite.training.members import Member, train_members

PAGE = project_root() / "segcal_lite" / "runs" / "CLUSTER.md"
NAMES = ("processes", "dask", "tcp://10.0.0.1:8786", "tls://node:1")
NO_NAMES = ("slurm", "tcp://node", "dask:tcp://a:1", "http://node:8786", "tcp://a b:1", "", None)
LANGUAGES = ("python", "bash")  # of the page's blocks: what submits to SLURM, and what it submits


@pytest.mark.parametrize("scheduler", [*NAMES, *NO_NAMES])
def test_a_notebook_and_a_run_admit_the_same_names(scheduler, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: name)
    admitted = isinstance(scheduler, str) and bool(re.fullmatch(SCHEDULERS, scheduler))
    assert admitted == (scheduler in NAMES)
    if admitted:
        assert check_scheduler(scheduler) == scheduler
    else:
        with pytest.raises(ValueError, match=r"^scheduler: found .*, expected 'processes', 'dask'"):
            check_scheduler(scheduler)


@pytest.mark.parametrize("scheduler", NAMES)
def test_without_dask_a_sentence_says_how_to_install_it(scheduler, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    if scheduler == "processes":
        assert check_scheduler(scheduler) == scheduler
        return
    told = rf'^scheduler {scheduler!r}: found no Dask, expected it installed: .*\[cluster\]"\.$'
    with pytest.raises(ValueError, match=told):
        check_scheduler(scheduler)


def test_here_cores_count_and_elsewhere_all_jobs_are_handed_out(monkeypatch):
    monkeypatch.setattr(executors, "count_workers", lambda n_jobs, device: 2)
    assert [count_places(name, 50) for name in NAMES[:3]] == [2, 2, 50]
    with ThreadPoolExecutor(1) as executor:
        assert count_places(executor, 50) == 50
    there = SimpleNamespace(cluster=SimpleNamespace(workers=range(4)))
    monkeypatch.setitem(executors._clients, "dask", there)  # of the memory that they take
    assert [count_places("dask", n) for n in (3, 50)] == [3, 4]
    assert count_places("dask", 50, "cuda") == count_places("processes", 50) == 2


def draw(seed):
    """Numbers of the generator that all threads of a process share, and the threads of PyTorch."""
    torch.manual_seed(seed)
    drawn = []
    for _ in range(20):
        drawn.append(torch.rand(1).item())
        time.sleep(0.001)
    return drawn, torch.get_num_threads()


def test_jobs_in_threads_of_one_process_do_not_mix_their_random_numbers():
    jobs, state = {seed: (draw, seed) for seed in range(4)}, torch.get_rng_state()
    with ThreadPoolExecutor(4) as executor:
        found = run_in_order(jobs, None, 4, scheduler=executor)
    assert found == run_in_order(jobs)
    assert {n_threads for _, n_threads in found.values()} == {1}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_worker_that_does_not_see_the_run_refuses_and_nothing_stays(tmp_path):
    told = f"^a worker on .*: found no {tmp_path / 'out'} of this run, expected one folder"
    with pytest.raises(ValueError, match=told):
        run_alone(tmp_path / "out" / "sign", pow, 2, 3)
    (tmp_path / "out").mkdir()
    others = [tmp_path / "out" / f".driver-{m}-999999999-0" for m in (machine(), "elsewhere")]
    for sign in others:
        sign.touch()
    folder = str(tmp_path / "out")  # as text, too
    with ThreadPoolExecutor(1) as executor, open_executor(executor, 1, folder) as submit:
        assert submit(pow, 2, 3).result() == 8
        remove_left_over(tmp_path)
        (mine,) = set((tmp_path / "out").iterdir()) - {others[1]}
        assert mine not in others
    assert list((tmp_path / "out").iterdir()) == others[1:]


class Waiting(Executor):
    """Keeps jobs and begins none but the first, which fails."""

    def __init__(self):
        self.futures = []

    def submit(self, *job):
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_exception(KeyboardInterrupt())
        return self.futures[-1]


def test_what_has_not_begun_is_taken_back_when_the_block_ends_early():
    executor = Waiting()
    with pytest.raises(KeyboardInterrupt):
        run_in_order({key: (pow, 2, key) for key in range(5)}, None, 5, scheduler=executor)
    assert [future.cancelled() for future in executor.futures[1:]] == [True] * 4


def test_without_jobs_no_executor_is_opened():
    assert run_in_order({}, scheduler="tcp://nowhere:1") == {}


@pytest.mark.parametrize(("scheduler", "sizes"), [("processes", [7]), ("tcp://a:1", [3, 3, 1])])
def test_gpus_of_a_cluster_share_the_members_in_groups(
    scheduler, sizes, settings, tmp_path, monkeypatch
):
    pool, handed = [Member(tmp_path / str(k), settings("ce", k)) for k in range(7)], {}
    monkeypatch.setattr(members, "choose_device", torch.device)
    monkeypatch.setattr(members, "count_places", lambda scheduler, n_jobs, device: n_jobs)
    monkeypatch.setattr(members, "run_in_order", lambda jobs, *rest: handed.update(jobs))
    train_members(pool, tmp_path, scheduler, "cuda", lambda line: None)
    assert [len(group) for _, group, *_ in handed.values()] == sizes
    assert sum((group for _, group, *_ in handed.values()), []) == pool
    assert max(sizes[1:], default=N_LANES) == N_LANES


@pytest.mark.slow
def test_somebodys_predictions_are_judged_alike_on_any_executor(tmp_path):
    given, tables = write_study(tmp_path, n_cases=3, n_members=2, n_new=1), []
    with ThreadPoolExecutor(2) as executor:
        for name, scheduler in (("here", "processes"), ("there", executor)):
            out = evaluate(**given, out=tmp_path / name, scheduler=scheduler, report=str)
            tables.append({p.name: p.read_bytes() for p in (out / "tables").glob("*.csv")})
    assert tables[0] == tables[1]
    assert len(tables[0]) > 3


@pytest.mark.slow
def test_the_script_for_slurm_is_what_its_generator_writes():
    jobqueue = pytest.importorskip("dask_jobqueue")
    text = PAGE.read_text(encoding="utf-8")
    source, script = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in LANGUAGES)
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    call = next(c for c in calls if getattr(c.func, "id", "") == "SLURMCluster")
    options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    options["scheduler_options"] |= {"host": "127.0.0.1", "port": 0, "dashboard_address": ":0"}
    with jobqueue.SLURMCluster(**options) as cluster:
        made = cluster.job_script().replace(cluster.scheduler_address, "tcp://10.0.0.1:8786")
    assert script.split() == made.split()
    assert "#SBATCH" in made
