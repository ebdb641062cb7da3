"""The one face of all scripts: ``python -m data_scripts.NAME SOURCE DEST``."""

import argparse
import importlib
import os
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

from ._conversion import convert
from ._downloads import fetch
from ._one_case import RECORDS, read_record
from ._reading import read_case
from ._report import summary_lines, write_contact_sheet

RUNNING = ("workers", "dry_run", "download", "mirror", "checksum")  # the scripts' own are others
INTERRUPTED = 130  # what a shell reports for Ctrl-C


def run_script(name, arguments=None):
    """Run the script called `name`; return the exit status: 0 if every case was converted.

    Parameters
    ----------
    name : str
        Of a module in ``data_scripts`` with ``FACTS`` and ``find(source, seed, **options)``, and
        perhaps ``add_options(parser)``, ``read_case(case)`` and ``archive(**options)``.
    arguments : list of str, optional
        Default the command line's.

    Returns
    -------
    int
    """
    script = importlib.import_module(f"data_scripts.{name}")
    options = vars(_parser(name, script).parse_args(arguments))
    source, dest = options.pop("source"), options.pop("dest")
    running = {key: options.pop(key) for key in RUNNING}
    try:
        if running["download"]:
            archive = script.archive(**options)
            source = fetch(archive, source, running["mirror"], running["checksum"])
        found = script.find(source, **options)
        if running["dry_run"]:
            return _say_what_would_be_done(found, dest)
        reader = getattr(script, "read_case", read_case)
        return _convert_and_report(found, reader, dest, running["workers"])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenExecutor:
        print("a process died, perhaps for lack of memory; try fewer --workers", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from {dest}", file=sys.stderr)
        return INTERRUPTED


def _parser(name, script):
    """Return the command line's reader, with the script's own options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m data_scripts.{name}",
        description=script.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the official download")
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder to make, or to go on with")
    parser.add_argument("--seed", type=int, default=2020, help="of a drawn split (default 2020)")
    parser.add_argument("--workers", type=_count, default=os.cpu_count(), help="processes")
    parser.add_argument("--dry-run", action="store_true", help="look at SOURCE, write nothing")
    parser.set_defaults(download=False, mirror=None, checksum=None)
    if hasattr(script, "archive"):
        parser.add_argument("--download", action="store_true", help="fetch it into SOURCE first")
        parser.add_argument("--mirror", metavar="URL", help="another address of the archive")
        parser.add_argument(
            "--checksum", metavar="MD5", help="such as md5:9d24..., of the mirror's"
        )
    if hasattr(script, "add_options"):
        script.add_options(parser)
    return parser


def _count(text):
    """Read a number of processes."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}, expected at least 1")
    return number


def _say_what_would_be_done(found, dest):
    """Print what a conversion would do; 0 if nothing stands in its way."""
    print(f"{found.facts.title}: {len(found.cases)} cases found")
    complete = sum(read_record(case, dest) is not None for case in found.cases)
    n_problems = sum(bool(case.problem) for case in found.cases)
    print(f"{complete} complete in {dest}, {n_problems} that cannot be converted")
    for case in found.cases:
        split = found.split_of[case.patient]
        print(f"  {case.name}: {case.problem or f'{case.domain}, {split}'}")
    return 1 if n_problems else 0


def _convert_and_report(found, reader, dest, workers):
    """Convert, print the report and draw the contact sheet; 0 if nothing was left out."""
    before = sum(read_record(case, dest) is not None for case in found.cases)
    started = time.monotonic()
    records, problems = convert(found, reader, dest, workers)
    seconds = time.monotonic() - started
    for line in summary_lines(found, records, problems, seconds, len(records) - before):
        print(line)
    if records:
        print(f"contact sheet: {write_contact_sheet(found, records, dest)}")
        print(f"use it as: python -m segcal_lite demo --data {dest} --task {found.facts.task}")
    elif (dest / RECORDS).is_dir():
        print(f"{dest} holds no case yet")
    return 1 if problems or not records else 0
