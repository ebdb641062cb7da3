"""What ``python -m segcal_lite`` does once the packages are there."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from .._checks import check_choice, named, wrong_input
from ..data.cases import case_names, check_leave_out
from ..data.sets import names_in_sets, read_sets
from ..data.tasks import TASKS
from ..runs.devices import choose_device
from ..runs.executors import check_scheduler
from ..runs.folders import project_root, resolve_path, write_json
from ..runs.schedules import run_in_order
from ..runs.tables import is_sealed
from . import index_page, notebook_sources, pages
from .arguments import PHANTOMS
from .checks import run_python
from .parameters import check_values
from .results import published, readme_tables

NOTEBOOKS = (
    "01_preprocessing",
    "02_training",
    "03_calibration",
    "04_segment_entropy",
    "05_ood_detection",
    "06_volumetric",
    "07_joint_training",
    "08_ood_volumes",
    "09_your_own_model",
    "10_claims",
)
NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
OTHER_DATA = {  # the parameter of notebooks that do not work on the dataset of the others
    "06_volumetric": "volumes",
    "07_joint_training": "sets",
    "08_ood_volumes": "sets",
}


def demo(
    data,
    task,
    profile,
    out,
    seed,
    device,
    scheduler="processes",
    sets=None,
    volumes=None,
    leave_out=None,
    crop_size=None,
    volumes_crop_size=None,
    cut_foreground=False,
):
    """Run the notebooks in order on one run folder, then gather ``index.html``.

    Those of `OTHER_DATA` run on phantoms where the others do, or where theirs are given.
    """
    folder = resolve_path(out)
    default = PHANTOMS if str(data) == PHANTOMS else None
    sources = {"data": str(data), "sets": sets or default, "volumes": volumes or default}
    if volumes_crop_size and not sources["volumes"]:
        expected = "--volumes beside it, whose networks see such crops"
        raise wrong_input("--volumes-crop-size", volumes_crop_size, expected)
    absent = left_out_of(sources, leave_out)
    common = {"profile": profile, "out": str(folder), "seed": seed, "device": device}
    common |= {"scheduler": scheduler, "cut_foreground": cut_foreground}
    own = {kind: {kind: sources[kind], "leave_out": absent[kind]} for kind in sources}
    own["data"] |= {"task": task, "crop_size": crop_size}
    own["volumes"] |= {"crop_size": volumes_crop_size}
    kinds = {name: OTHER_DATA.get(name, "data") for name in NOTEBOOKS}
    given = {name: common | own[kind] for name, kind in kinds.items() if sources[kind]}
    for parameters in given.values():
        check_values(parameters)
    if task is not None:
        check_choice("task", task, tuple(TASKS))
    choose_device(device)
    check_scheduler(scheduler)
    if not _are_fit(_data_to_check(sources, absent, task, folder, seed)):
        return 1
    pages.run_notebooks(given, folder)
    print(f"done: open {index_page.write_index(folder, list(given))}", flush=True)
    return 0


def _data_to_check(sources, absent, task, folder, seed):
    """Options of ``data_scripts.check`` for each folder whose cases are not all prepared yet."""
    options = {}
    for kind, place in (("data", folder), ("volumes", folder / "volumetric")):
        if sources[kind] not in (None, PHANTOMS) and not _is_prepared(place):
            named_task = ["--task", task] if kind == "data" and task else []
            options.setdefault(resolve_path(sources[kind]), [named_task, absent[kind]])
    if sources["sets"] not in (None, PHANTOMS):
        leave_out = absent["sets"] or []
        for name, source in read_sets(resolve_path(sources["sets"]), seed, leave_out).items():
            if not _is_prepared(folder / "sets" / name):
                place = source.dataset.folder
                of_it = [case for case in case_names(place) if case in leave_out]
                options.setdefault(place, [[], of_it])
    return {
        place: [str(place), *named_task, *(["--leave-out", *names] if names else [])]
        for place, (named_task, names) in options.items()
    }


def _is_prepared(folder):
    """Whether every case of a part of a run was read before."""
    return is_sealed(folder / "prepared" / "cases.csv")


def _are_fit(options):
    """Open every volume of some folders, as notebooks will; print which do not fit."""

    def check(folder):
        print(f"checking {folder}", flush=True)
        command = [sys.executable, "-m", "data_scripts.check", *options[folder]]
        return subprocess.run(
            command, cwd=project_root(), capture_output=True, text=True, errors="replace"
        )

    def under_way(folders):
        print(*(f"  still checking {folder}" for folder in folders), sep="\n", flush=True)

    jobs = {folder: (check, folder) for folder in options}
    checked = run_in_order(jobs, under_way=under_way).values()
    for done in checked:
        if done.returncode:
            lines = (done.stdout + done.stderr).splitlines()
            print(*(line for line in lines if ": fit (" not in line), sep="\n", flush=True)
    return not any(done.returncode for done in checked)


def evaluate(out, workers, **asked):
    """Judge somebody's predictions, then write ``index.html`` of what was found."""
    from ..experiments.own_model import evaluate as judge
    from ..report.own_figures import draw_figures
    from .own_page import write_page

    folder = judge(out=out, n_workers=workers, **asked)
    command = ["python", "-m", "segcal_lite", *sys.argv[1:]]
    write_json(folder / "command.json", {"command": shlex.join(command)})
    draw_figures(folder)
    print(f"done: open {write_page(folder)}", flush=True)
    return 0


def claims(runs, out):
    """Judge the papers' claims by the tables of finished runs: print the ledger, and write it."""
    from ..experiments.claims.ledger import write_ledger

    out = resolve_path(out)
    ledger, _ = write_ledger([resolve_path(run) for run in runs], out)
    for row in ledger.itertuples():
        print(f"{row.claim:4} {row.verdict:13} {row.data}")
    if out == project_root() / "results":  # the published one
        readme_tables.fill_readmes(project_root())
    print(f"done: {out / 'claims.csv'}, and the parts of each claim beside it")
    return 0


def left_out_of(sources, leave_out):
    """Return for each source of data which of the names to leave out it holds, or None.

    ``sets`` are a folder or a file, others folders; phantoms hold no such name. A name that is in
    none of them is a ``ValueError``.
    """
    wanted, absent = check_leave_out(leave_out), {}
    for key, source in sources.items():
        known = ()
        if wanted and source not in (None, PHANTOMS):
            path = resolve_path(source)
            known = names_in_sets(path, wanted) if key == "sets" else case_names(path)
        absent[key] = [name for name in wanted if name in known] or None
    unknown = set(wanted).difference(*filter(None, absent.values()))
    if unknown:
        given = ", ".join(f"--{key} {source}" for key, source in sources.items() if source)
        raise wrong_input("--leave-out", named(unknown), f"names of cases or sets in {given}")
    return absent


def hippocampus(source, data, mirror, checksum, **run):
    """Download MSD's hippocampus, convert it, run the notebooks on it."""
    dest = resolve_path(data)
    convert = ["-m", "data_scripts.msd", str(resolve_path(source)), str(dest), "--task", "4"]
    for option, value in (("--mirror", mirror), ("--checksum", checksum)):
        convert += [option, value] if value else []
    return run_python(*convert, "--download") or demo(dest, "hippocampus", **run)


def lab(port=None, ip=None, allow_root=False, no_browser=False):
    """Open JupyterLab on the notebooks; README, data and runs are beside them in its browser."""
    options = ["--LabApp.default_url=/lab/tree/notebooks"]
    options += [f"--ServerApp.root_dir={project_root()}"]
    options += [] if port is None else [f"--ServerApp.port={port}"]
    options += [] if ip is None else [f"--ServerApp.ip={ip}"]
    options += ["--allow-root"] if allow_root else []
    options += ["--no-browser"] if no_browser else []
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "labconfig" / "default_setting_overrides.json", NO_NEWS)
        places = filter(None, (folder, os.environ.get("JUPYTER_CONFIG_PATH")))
        return run_python("-m", "jupyterlab", *options, JUPYTER_CONFIG_PATH=os.pathsep.join(places))


def copies(out):
    """Write the notebooks for students, without solutions, and for instructors."""
    for path in notebook_sources.write_copies(project_root() / "notebooks", resolve_path(out)):
        print(path)
    return 0


def story(seeds, tables, claims, out):
    """Test claims on several seeds of phantoms; write ``results/story*.csv``."""
    from .results.story import write_stories  # it loads MONAI

    if claims and "story_claims_volumes" not in tables:
        expected = "none without --tables story_claims_volumes, which they are of"
        raise wrong_input("--claims", ", ".join(claims), expected)
    return 0 if write_stories(tables, resolve_path(out), seeds, claims) else 1


def store_outputs(out):
    """Store what the checked cells put out in the run folder `out`, and strip all other cells."""
    folder = resolve_path(out) / "notebooks"
    executed = [folder / f"{name}.ipynb" for name in NOTEBOOKS]
    absent = [path.name for path in executed if not path.is_file()]
    if absent:
        raise wrong_input(folder, f"no {named(absent)}", "what a run of the demo leaves there")
    for path in executed:
        notebook_sources.store_outputs(project_root() / "notebooks" / path.name, path)
    return 0


def publish(run, name):
    """Take a run's tables and figures over into ``results/NAME``, and fill the READMEs' tables."""
    for path in published.publish(resolve_path(run), name):
        print(path.relative_to(project_root()))
    readme_tables.fill_readmes(project_root())
    return 0
