"""The one face of all scripts: ``python -m data_scripts.NAME SOURCE DEST``."""

import argparse
import importlib
import os
import shlex
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.data.splits import SPLITS
from segcal_lite.kit.environment import escape_other_letters

from .archives import unpack
from .conversion import check_conversion, complete_cases, convert, outlook
from .downloads import fetch
from .one_case import RECORDS
from .reading import read_case
from .report import summary_lines, write_contact_sheet

RUNNING = ("workers", "dry_run", "download", "mirror", "checksum")  # the scripts' own are others
WORKERS = "processes, each with one case in memory (default: one a core)"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
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
    parser = _parser(name, script)
    options = vars(parser.parse_args(arguments))
    source, dest = options.pop("source"), options.pop("dest")
    running = {key: options.pop(key) for key in RUNNING}
    if running["download"] and running["dry_run"]:
        parser.error("--dry-run writes nothing, so it cannot download")
    if (running["mirror"] or running["checksum"]) and not running["download"]:
        parser.error("--mirror and --checksum belong to --download")
    return said_in_one_sentence(_run, script, source, dest, running, options)


def _run(script, source, dest, running, options):
    """Fetch, find, convert; return the exit status."""
    if running["download"]:
        archive = script.archive(**options)
        source = fetch(archive, source, running["mirror"], running["checksum"])
    found = script.find(_unpacked(source, running["dry_run"]), **options)
    if running["dry_run"]:
        return _say_what_would_be_done(found, dest)
    reader = getattr(script, "read_case", read_case)
    return _convert_and_report(found, reader, dest, running["workers"])


def said_in_one_sentence(action, *arguments, **options):
    """Call `action`; return its exit status, or print what went wrong and return another."""
    escape_other_letters()
    try:
        return action(*arguments, **options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenExecutor:
        print("a process died, perhaps for lack of memory; try fewer --workers", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED


def _unpacked(source, dry_run):
    """Return the folder of a SOURCE that is an archive, unpacked beside it; else `source`."""
    ending = next((end for end in ARCHIVES if source.name.lower().endswith(end)), None)
    if ending is None or not source.is_file():
        return source
    folder = source.with_name(f"{source.name}.unpacked")
    if dry_run and not folder.exists():
        raise wrong_input(source, "an archive", "its unpacked folder: a dry run writes nothing")
    return unpack(source, folder)


def _parser(name, script):
    """Return the command line's reader, with the script's own options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m data_scripts.{name}",
        description=script.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help=getattr(script, "SOURCE", "the official download: its folder, or a tar or zip"),
    )
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder to make, or to go on with")
    parser.add_argument("--seed", type=int, default=2020, help="of a drawn split (default 2020)")
    parser.add_argument("--workers", type=count, default=os.cpu_count(), help=WORKERS)
    parser.add_argument(
        "--dry-run", action="store_true", help="list cases, splits and missing files; write nothing"
    )
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


def count(text):
    """Read a number of processes."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}, expected at least 1")
    return number


def _say_what_would_be_done(found, dest):
    """Print what a conversion would do; 0 if nothing stands in its way."""
    check_conversion(found, dest)
    print(f"{found.facts.title}: {len(found.cases)} cases found")
    found, records, moves, problems, _ = outlook(found, dest)
    for line in moves:
        print(line)
    complete = sum(case.name in records for case in found.cases)
    print(
        f"{complete} complete in {dest}, {len(problems)} with missing or doubtful files (volumes "
        "are opened on conversion only: grids and label values are checked then)"
    )
    for case in found.cases:
        split = found.split_of[case.patient]
        print(f"  {case.name}: {problems.get(case.name) or f'{case.domain}, {split}'}")
    for name in sorted(problems.keys() - {case.name for case in found.cases}):
        print(f"  {name}: {problems[name]}")
    return 1 if problems else 0


def _convert_and_report(found, reader, dest, workers):
    """Convert, print the report and draw the contact sheet; 0 if nothing was left out."""
    before = complete_cases(dest)
    started = time.monotonic()
    records, problems = convert(found, reader, dest, workers)
    seconds = time.monotonic() - started
    n_converted = sum(record["case"] not in before for record in records)
    for line in summary_lines(found, records, problems, seconds, n_converted):
        print(line)
    if records:
        print(f"contact sheet: {write_contact_sheet(found, records, dest)}")
        print(next_step(found, {record["split"] for record in records}, dest))
    elif (dest / RECORDS).is_dir():
        print(f"{dest} holds no case yet")
    return 1 if problems or not records else 0


def next_step(found, splits, dest):
    """Return what the dataset can be used for now."""
    folder, absent = shlex.quote(str(dest)), [name for name in SPLITS if name not in splits]
    if absent:
        empty = f"no case in {' and '.join(absent)}"
        if set(splits) == {"test"}:
            use = f"it can serve as an external test set, -p ood_data {folder} in notebook 05"
            return f"{empty}: {use}"
        return f"{empty}: no notebook can open it before there is one in each"
    task = f" --task {found.task}" if found.task else ""
    return f"use it as: python -m segcal_lite demo --data {folder}{task}"
