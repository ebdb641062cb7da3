"""PROMISE12: T2 MR of the prostate from several centres, the shifted test set of paper A.

SOURCE holds ``Case00.mhd``, ``Case00.raw``, ``Case00_segmentation.mhd`` and so on, in one folder or
in ``TrainingData_Part1`` to ``3``; folders called test are left out. All cases test, as in paper A
(it says 50 in the text, 35 in a table); ``--split drawn`` splits them for training. Nothing in the
files says which cases were taken with an endorectal coil: a CSV of your own with the columns
``case`` and ``coil`` (yes or no) makes it the domain.
"""

import sys
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.data.other_formats import voxel_files
from segcal_lite.data.splits import check_commas, check_unique

from .convert.cases import (
    Facts,
    Found,
    SourceCase,
    folder_of,
    keyed,
    missing_files,
    outside_test_folders,
    visible,
)
from .convert.face import run_script
from .convert.splits import COUNTS_OF_B, all_test, drawn
from .convert.tables import read_table

FACTS = (
    Facts(
        script="promise12",
        title="PROMISE12",
        organ="prostate",
        modality="T2 MR",
        cases="50",
        size="324 MB",
        licence="terms of the challenge, for research",
        obtain="https://promise12.grand-challenge.org (registration)",
        reference="Litjens et al. 2014, doi 10.1016/j.media.2013.12.002",
        papers="A",
        task="prostate",
        layout=("MIC-DKFZ/nnUNet, Task024_Promise2012.py; constantinpape/torch-em, promise12.py"),
        unconfirmed="the licence of the copy on Zenodo, so it is not downloaded",
    ),
)
COIL = {"yes": "endorectal coil", "no": "no coil"}


def add_options(parser):
    """Add the table of coils and the kind of split."""
    parser.add_argument("--coils", type=Path, metavar="CSV", help="columns case, coil (yes, no)")
    parser.add_argument("--split", choices=("test", "drawn"), default="test")


def find(source, seed=2020, coils=None, split="test"):
    """Find the cases in `source`; see the module for the options."""
    folder = folder_of(source)
    found = outside_test_folders(visible(folder.rglob("Case[0-9][0-9].*"), ".mhd"), folder)
    images = keyed(found, lambda path: path.stem).values()
    if not images:
        raise wrong_input(source, "no Case00.mhd or the like", "PROMISE12's training data")
    domain_of = _read_coils(coils) if coils else {}
    cases = tuple(_find_case(path, domain_of) for path in images)
    chosen = all_test(cases) if split == "test" else drawn(cases, COUNTS_OF_B, seed)
    return Found(
        facts=FACTS[0],
        channels=("T2",),
        segments=("prostate",),
        classes={0: 0, 1: 1},
        cases=cases,
        split_of=chosen,
        settings={"dataset": "promise12", "seed": seed, "split": split, "domains": domain_of},
    )


def _find_case(path, domain_of):
    """Return one case; a table of coils must know it."""
    label = path.with_name(f"{path.stem}_segmentation{path.suffix}")
    problem = missing_files((label, *voxel_files(path), *voxel_files(label)))
    if domain_of and path.stem not in domain_of:
        problem = problem or f"{path.stem}: found no row in the table of coils, expected one."
    return SourceCase(
        path.stem,
        images=(path,),
        labels=(label,),
        patient=path.stem,
        domain=domain_of.get(path.stem, "PROMISE12"),
        problem=problem,
    )


def _read_coils(path):
    """Return the domain of each case from the user's table."""
    if not path.is_file():
        raise wrong_input(path, "no such file", "a table with the columns case and coil")
    table = read_table(path)
    if not {"case", "coil"} <= set(table.columns):
        check_commas(path, table.columns)
        raise wrong_input(path, f"columns {', '.join(table.columns)}", "case and coil")
    if table.empty:
        raise wrong_input(path, "no row", "one for each case")
    check_unique(f"{path}, case", list(table.case))
    unknown = sorted(set(table.coil.str.lower()) - set(COIL))
    if unknown:
        raise wrong_input(f"{path}, coil", ", ".join(map(repr, unknown)), "yes or no")
    return dict(zip(table.case, table.coil.str.lower().map(COIL), strict=True))


if __name__ == "__main__":
    sys.exit(run_script("promise12"))
