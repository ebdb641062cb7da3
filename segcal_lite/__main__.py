"""``python -m segcal_lite COMMAND``: what the Makefile calls, the same on every system."""

import argparse
import subprocess
import sys

from .kit.environment import ensure_environment

EXTRAS = {  # packages that a command needs beside the usual ones
    "test": ("data", "test"),
    "test-real": ("data", "test"),
    "test-slow": ("data", "test", "slow"),
    "hippocampus": ("data",),
}


def main(arguments=None):
    """Read the command line, go over to the project's environment, run the command."""
    parser = argparse.ArgumentParser(prog="python -m segcal_lite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run the notebooks and gather a page of results")
    demo.add_argument("--data", default="phantoms", help="a dataset's folder (default: phantoms)")
    demo.add_argument("--task", help="such as heart (default: as the data say; of phantoms heart)")
    demo.add_argument("--sets", help="a file of sets, or a folder of datasets (notebooks 07, 08)")
    demo.add_argument("--volumes", help="a dataset with one organ (notebook 06)")
    leave_out = "cases, and sets, to go on without"
    demo.add_argument("--leave-out", nargs="+", metavar="NAME", help=leave_out)
    crop = "two multiples of 16: pixels that the 2D networks see (default: as the profile says)"
    demo.add_argument("--crop-size", nargs=2, type=int, metavar="N", help=crop)
    volume = "three multiples of 16: voxels that notebook 06's networks see"
    demo.add_argument("--volumes-crop-size", nargs=3, type=int, metavar="N", help=volume)
    cut = "keep the voxels, even if a crop then cuts away more than 1 %% of a segment"
    demo.add_argument("--cut-foreground", action="store_true", help=cut)
    demo.add_argument("--profile", default="smoke", help="smoke, laptop or paper")
    demo.add_argument("--out", default="runs/demo", help="run folder")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    real = commands.add_parser(
        "hippocampus", help="download MSD Task04, convert, run the notebooks"
    )
    real.add_argument("--profile", default="smoke", choices=("smoke", "laptop"))
    real.add_argument("--source", default="data/sources", help="folder for the download")
    real.add_argument("--data", default="data/Hippocampus", help="folder for the converted cases")
    real.add_argument("--out", default="runs/hippocampus", help="run folder")
    real.add_argument("--seed", type=int, default=0)
    real.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    real.add_argument("--mirror", help="another address of the archive")
    real.add_argument("--checksum", help="of the mirror's archive, if it was packed anew")
    commands.add_parser("lab", help="open JupyterLab on the notebooks")
    commands.add_parser("test", help="lint, layers, tests, doctests and all notebooks")
    commands.add_parser("test-real", help="what needs SEGCAL_REAL_DATA")
    commands.add_parser("test-slow", help="what needs a browser (Chromium), or long")
    publish = commands.add_parser("publish", help="copy a run's tables and figures to results/NAME")
    publish.add_argument("run")
    publish.add_argument("name")
    stored = commands.add_parser("store-outputs", help="take the checked outputs from a run folder")
    stored.add_argument("--out", default="runs/demo")
    copies = commands.add_parser("copies", help="notebooks for students and for instructors")
    copies.add_argument("--out", default="runs/copies")
    seeds = commands.add_parser("story", help="the smoke run's claims on several seeds, as a table")
    seeds.add_argument("--seeds", type=int, nargs="+", required=True)
    stories = ("story", "story_volumes")
    seeds.add_argument("--tables", nargs="+", choices=stories, default=stories)
    seeds.add_argument("--out", default="runs/story")
    chosen = parser.parse_args(arguments)
    python = ensure_environment(EXTRAS.get(chosen.command, ()))
    if str(python) != sys.executable:
        again = [str(python), "-m", "segcal_lite", *(arguments or sys.argv[1:])]
        return subprocess.run(again, check=False).returncode
    from .kit import commands as implementation  # needs the installed packages

    options = {key: value for key, value in vars(chosen).items() if key != "command"}
    return getattr(implementation, chosen.command.replace("-", "_"))(**options)


if __name__ == "__main__":
    sys.exit(main())
