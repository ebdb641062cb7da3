"""``python -m segcal_lite COMMAND``: what the Makefile calls, the same on every system."""

import argparse
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from .kit.arguments import PHANTOMS, PROFILES, path_from_here, seed, source, source_or_phantoms
from .kit.environment import (
    check_python,
    ensure_environment,
    escape_other_letters,
    run_to_its_end,
)

EXTRAS = {  # packages that a command needs beside the usual ones
    "test": ("data", "test"),
    "test-real": ("data", "test"),
    "test-slow": ("data", "test", "slow", "cluster"),
    "test-nnunet": ("data", "test", "nnunet"),
    "bench": ("data", "test"),
    "hippocampus": ("data",),
}
STOPPED = (
    "stopped: nothing runs on in the background (a cluster ends the jobs that it has begun), what "
    "is finished is kept, and the same command goes on from there"
)
INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main(arguments=None):
    """Read the command line, go over to the project's environment, run the command."""
    check_python()
    chosen = _parser().parse_args(arguments)
    python = ensure_environment(EXTRAS.get(chosen.command, ()))
    if str(python) != sys.executable:
        return run_to_its_end([python, "-m", "segcal_lite", *(arguments or sys.argv[1:])])
    from .kit import checks, commands  # they need the installed packages

    options = {key: value for key, value in vars(chosen).items() if key != "command"}
    name = chosen.command.replace("-", "_")
    return getattr(checks if hasattr(checks, name) else commands, name)(**options)


def said_in_one_sentence(action):
    """Return the exit status of `action`; what goes wrong is a sentence, its traceback a file."""
    escape_other_letters()
    try:
        return action()
    except KeyboardInterrupt:
        print(f"\n{STOPPED}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        print(_sentence(error), file=sys.stderr)
        kept = {"prefix": "segcal_lite-", "suffix": ".txt", "delete": False, "encoding": "utf-8"}
        # On a full disk the sentence has to do.
        with suppress(OSError), tempfile.NamedTemporaryFile("w", **kept) as file:
            file.write(traceback.format_exc())
            file.flush()
            print(f"(traceback: {file.name})", file=sys.stderr)
        return 1


def _sentence(error):
    """What went wrong; of what the system says the file first, and no number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or repr(error)


def _parser():
    """The command line's reader; a default that is a path starts from the project root."""
    parser = argparse.ArgumentParser(prog="python -m segcal_lite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands.add_parser("demo", help="run the notebooks and gather a page of results"))
    _add_hippocampus(
        commands.add_parser("hippocampus", help="download MSD Task04, convert, run the notebooks")
    )
    judge = "judge your own model's predictions: scores, corrections, cases to review, a page"
    _add_evaluate(commands.add_parser("evaluate", help=judge))
    judged = "judge the papers' claims by the tables of runs, or of folders in results/"
    claims = commands.add_parser("claims", help=judged)
    claims.add_argument("runs", type=source, nargs="+", metavar="RUN")
    _add_out(claims, "runs/claims")
    lab = commands.add_parser("lab", help="open JupyterLab on the notebooks")
    lab.add_argument("--port", type=int, help="default 8888, or the next one that is free")
    ip = "address to listen at: 0.0.0.0 in a container (default: of this machine alone)"
    lab.add_argument("--ip", help=ip)
    lab.add_argument("--allow-root", action="store_true", help="for containers, where all are root")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    commands.add_parser("test", help="lint, layers, tests, doctests and all notebooks")
    commands.add_parser("test-real", help="what needs SEGCAL_REAL_DATA")
    commands.add_parser("test-slow", help="what needs a browser (Chromium), or long")
    commands.add_parser("test-nnunet", help="a real nnU-Net, trained and judged")
    commands.add_parser("bench", help="time the scores beside other libraries, as a table")
    publish = commands.add_parser("publish", help="copy a run's tables and figures to results/NAME")
    publish.add_argument("run", type=source)
    publish.add_argument("name")
    stored = commands.add_parser("store-outputs", help="take the checked outputs from a run folder")
    _add_out(stored, "runs/demo")
    copies = commands.add_parser("copies", help="notebooks for students and for instructors")
    _add_out(copies, "runs/copies")
    seeds = commands.add_parser("story", help="claims on several seeds of phantoms, as tables")
    seeds.add_argument("--seeds", type=seed, nargs="+", required=True)
    stories = ("story", "story_volumes", "story_floor", "story_claims")
    stories += ("story_floor_volumes", "story_claims_volumes")
    seeds.add_argument("--tables", nargs="+", choices=stories, default=stories[:2])
    of_b = [f"B{number}" for number in range(1, 7)]
    rounds = "of story_claims_volumes, in rounds whose rows make one table (default: all)"
    seeds.add_argument("--claims", nargs="+", choices=of_b, help=rounds)
    _add_out(seeds, "runs/story")
    return parser


def _add_demo(demo):
    """Options of the notebooks' run on any data."""
    data = "a dataset's folder (default: phantoms)"
    demo.add_argument("--data", type=source_or_phantoms, default=PHANTOMS, help=data)
    demo.add_argument("--task", help="such as heart (default: as the data say; of phantoms heart)")
    sets = "a file of sets, or a folder of datasets (notebooks 07, 08)"
    demo.add_argument("--sets", type=source_or_phantoms, help=sets)
    demo.add_argument(
        "--volumes", type=source_or_phantoms, help="a dataset with one organ (notebook 06)"
    )
    leave_out = "cases, and sets, to go on without"
    demo.add_argument("--leave-out", nargs="+", metavar="NAME", help=leave_out)
    crop = "two multiples of 16: pixels that the 2D networks see (default: as the profile says)"
    demo.add_argument("--crop-size", nargs=2, type=int, metavar="N", help=crop)
    volume = "three multiples of 16: voxels that notebook 06's networks see"
    demo.add_argument("--volumes-crop-size", nargs=3, type=int, metavar="N", help=volume)
    cut = "keep the voxels, even if a crop then cuts away more than 1 %% of a segment"
    demo.add_argument("--cut-foreground", action="store_true", help=cut)
    _add_run(demo, "runs/demo", PROFILES)


def _add_evaluate(own):
    """Options of the evaluation of somebody's predictions."""
    folders = {"--labels": None, "--predictions": "+", "--images": "*", "--new": "*"}
    what = {
        "--labels": "folder with a label a case",
        "--predictions": "a folder a member (fold, seed): nnU-Net's npz, NIfTI, NumPy, hard labels",
        "--images": "folders with the images, only to be shown",
        "--new": "the members' predictions of cases without labels",
    }
    for name, n_folders in folders.items():
        required = name in ("--labels", "--predictions")
        default = None if required else []
        own.add_argument(
            name,
            type=source,
            nargs=n_folders,
            metavar="DIR",
            required=required,
            default=default,
            help=what[name],
        )
    own.add_argument("--dataset", type=source, help="dataset.json (default: beside the labels)")
    patients = "a table with columns case, patient, if patients have several scans"
    own.add_argument("--patients", type=source, metavar="FILE.csv", help=patients)
    classes = "names of the label values 1, 2, ... where no dataset.json has them"
    own.add_argument("--classes", nargs="+", default=[], metavar="NAME", help=classes)
    signatures = "spectral signatures that your network left: of its training cases, of the cases"
    own.add_argument(
        "--signatures",
        type=source,
        nargs=2,
        metavar=("TRAINING.csv", "CASES.csv"),
        default=[],
        help=signatures,
    )
    averaged = "what the ensemble is the mean of (default: probabilities)"
    own.add_argument(
        "--members-averaged",
        choices=("probabilities", "logits"),
        default="probabilities",
        help=averaged,
    )
    regions = ("whole", "box", "band")
    own.add_argument(
        "--regions", nargs="+", choices=regions, default=regions, help="where to score"
    )
    own.add_argument("--n-bins", type=int, default=10, help="of ECE and MCE (default: 10)")
    box = "reach of the box around the true foreground (default: 8)"
    own.add_argument("--box-mm", type=float, default=8.0, help=box)
    band = "half width of the band around true boundaries (default: 4)"
    own.add_argument("--band-mm", type=float, default=4.0, help=band)
    corrected = "also write corrected probabilities, as NIfTI (alone: after the temperature)"
    methods = {"nargs": "?", "const": "temperature", "help": corrected}
    methods["choices"] = ("temperature", "vector_scaling", "both")
    own.add_argument("--write-corrected", **methods)
    own.add_argument("--workers", type=int, help="processes (default: as cores and memory allow)")
    own.add_argument("--seed", type=seed, default=0)
    _add_scheduler(own)
    _add_out(own, "runs/mine")


def _add_hippocampus(real):
    """Options of the download, and of the notebooks' run on it."""
    folders = {
        "--source": ("data/sources", "the download"),
        "--data": ("data/Hippocampus", "cases"),
    }
    for name, (default, what) in folders.items():
        real.add_argument(
            name, type=path_from_here, default=Path(default), help=f"folder for {what}"
        )
    _add_run(real, "runs/hippocampus", PROFILES[:2])
    real.add_argument("--mirror", help="another address of the archive")
    real.add_argument("--checksum", help="of the mirror's archive, if it was packed anew")


def _add_run(parser, out, profiles):
    """What every run of the notebooks is asked for."""
    parser.add_argument("--profile", default="smoke", choices=profiles)
    _add_out(parser, out)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    _add_scheduler(parser)


def _add_scheduler(parser):
    """Where jobs run."""
    where = "where jobs run: processes (default), dask, or a Dask scheduler's tcp://HOST:PORT"
    parser.add_argument("--scheduler", default="processes", help=where)


def _add_out(parser, default):
    """Where a command writes, or finds what notebooks wrote."""
    of_the_run = f"folder of the run (default: {default} of the project)"
    parser.add_argument("--out", type=path_from_here, default=Path(default), help=of_the_run)


if __name__ == "__main__":
    sys.exit(said_in_one_sentence(main))
