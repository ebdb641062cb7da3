"""Write phantoms in the common layout: ``python -m data_scripts.phantoms heart DEST``.

WHAT is a task (brain, heart, prostate, prostate_3d: two domains), one of paper B's sets (such as
liver_ct), or ``sets``: all twelve, a folder each. What holds the same phantoms is left as it is.
"""

import argparse
import sys
from pathlib import Path

from segcal_lite._checks import check_choice, wrong_input
from segcal_lite.data.tasks import ORGAN_SETS

from ..convert.face import said_in_one_sentence
from .folders import AMOUNTS, PHANTOM_TASKS, write_patients, write_set, write_sets

ALL_SETS = "sets"
WHAT = tuple(dict.fromkeys((*PHANTOM_TASKS, ALL_SETS, *ORGAN_SETS)))


def main(arguments=None):
    """Read the command line and write the phantoms; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.phantoms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", metavar="WHAT", help=", ".join(WHAT))
    parser.add_argument("dest", metavar="DEST", type=Path)
    amounts = "how many and how large: smoke (default), laptop or paper"
    parser.add_argument("--profile", default="smoke", choices=AMOUNTS, help=amounts)
    parser.add_argument("--seed", type=int, default=0)
    images = "of each of paper B's sets (default: as many as B has, at most 14, 40 or 400)"
    parser.add_argument("--images", type=int, metavar="N", help=images)
    return said_in_one_sentence(_write, **vars(parser.parse_args(arguments)))


def _write(what, dest, profile, seed, images):
    """Write a task's patients, a set or all sets, and say what lies there and how to use it."""
    if check_choice("WHAT", what, WHAT) in PHANTOM_TASKS:
        if images is not None:
            raise wrong_input("--images", images, f"none with {what}: it is for paper B's sets")
        write_patients(dest, what, profile, seed)
        use = f"--data {dest} --task {what}"
    elif what == ALL_SETS:
        write_sets(dest, ORGAN_SETS, profile, seed, images)
        use = f"--sets {dest}"
    else:
        write_set(dest, what, profile, seed, images)
        use = f"--data {dest}"
    n_cases = len(list(dest.rglob("labelsTr/*.nii.gz")))
    print(f"{dest}: {n_cases} phantoms, {what}, profile {profile}, seed {seed}")
    print(f"use it as: python -m segcal_lite demo {use} --profile {profile}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
