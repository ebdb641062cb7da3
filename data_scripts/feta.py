"""FeTA: reconstructed T2 MR of the fetal brain; the cortical plate is the foreground.

A public stand-in for the in-house fetal sets of paper B. SOURCE holds ``sub-001/anat`` and so on,
with ``sub-001_rec-mial_T2w.nii.gz`` (or ``rec-irtk``) and its ``_dseg``. The domain is the
reconstruction, or with ``--domain age`` the gestational age in ``participants.tsv``, divided at
``--weeks``. ``--segments all`` keeps the seven tissues.
"""

import sys

import pandas as pd

from segcal_lite._checks import wrong_input

from .convert.cases import Facts, Found, SourceCase, folder_of, visible
from .convert.face import run_script
from .convert.splits import COUNTS_OF_B, drawn
from .convert.tables import read_table

FACTS = (
    Facts(
        script="feta",
        title="FeTA",
        organ="fetal brain: cortical plate (or 7 tissues)",
        modality="T2 MR",
        cases="80 (2022: 120)",
        size="about 1 GB",
        licence="terms of the challenge, research and education only",
        obtain="https://www.synapse.org/#!Synapse:syn25649159 (registration)",
        reference="Payette et al. 2021, doi 10.1038/s41597-021-00946-3",
        papers="B (stand-in for its in-house fetal sets)",
        task="cortical_plate",
        layout="openmedlab/Awesome-Medical-Dataset; constantinpape/torch-em, feta24.py",
        unconfirmed=(
            "the exact header of participants.tsv (the column that names the "
            "gestational age is found)"
        ),
    ),
)
TISSUES = (
    "external CSF",
    "grey matter",
    "white matter",
    "ventricles",
    "cerebellum",
    "deep grey matter",
    "brainstem",
)
CORTICAL_GREY_MATTER = 2


def add_options(parser):
    """Add what the domain is, and which tissues are kept."""
    parser.add_argument("--domain", choices=("reconstruction", "age"), default="reconstruction")
    parser.add_argument("--weeks", type=float, default=28.0, help="age that divides (default 28)")
    parser.add_argument("--segments", choices=("cortical plate", "all"), default="cortical plate")


def find(source, seed=2020, domain="reconstruction", weeks=28.0, segments="cortical plate"):
    """Find the subjects in `source`."""
    releases = [path.name for path in visible(source.glob("feta_*")) if path.is_dir()]
    if len(releases) > 1:
        raise wrong_input(source, ", ".join(releases), "one release: name its folder")
    folder = folder_of(source, *releases)
    subjects = [path for path in visible(folder.glob("sub-*")) if path.is_dir()]
    if not subjects:
        raise wrong_input(source, "no sub-001 or the like", "FeTA's training data")
    ages = _read_ages(folder / "participants.tsv") if domain == "age" else None
    cases = tuple(_find_case(path, ages, weeks) for path in subjects)
    one = segments != "all"
    values = range(len(TISSUES) + 1)
    return Found(
        facts=FACTS[0],
        channels=("MR",),
        segments=("cortical plate",) if one else TISSUES,
        classes={v: int(v == CORTICAL_GREY_MATTER) if one else v for v in values},
        cases=cases,
        split_of=drawn(cases, COUNTS_OF_B, seed),
        settings={
            "dataset": "feta",
            "seed": seed,
            "domain": domain,
            "weeks": weeks if domain == "age" else None,
            "segments": segments,
        },
        notes=("of the seven tissues only grey matter (2) is foreground",) if one else (),
    )


def _find_case(folder, ages, weeks):
    """Return one subject."""
    images = visible((folder / "anat").glob(f"{folder.name}_rec-*_T2w.*"), ".nii.gz")
    labels = visible((folder / "anat").glob(f"{folder.name}_rec-*_dseg.*"), ".nii.gz")
    problem = ""
    if len(images) != 1 or len(labels) != 1:
        found = f"{len(images)} images and {len(labels)} labels"
        problem = str(wrong_input(folder / "anat", found, "one *_T2w.nii.gz and one *_dseg.nii.gz"))
    if ages is not None and folder.name not in ages:
        problem = problem or f"{folder.name}: found no age in participants.tsv, expected one."
    return SourceCase(
        name=folder.name,
        images=tuple(images[:1]),
        labels=tuple(labels[:1]),
        patient=folder.name,
        domain=_domain(folder.name, images, ages, weeks),
        problem=problem,
    )


def _domain(subject, images, ages, weeks):
    """Return the reconstruction in the file's name, or the side of `weeks`."""
    if ages is not None:
        return "older fetus" if ages.get(subject, 0) >= weeks else "younger fetus"
    return images[0].name.split("_rec-")[1].split("_")[0] if images else "unknown"


def _read_ages(path):
    """Return the gestational age of each subject in weeks, from whichever column names it."""
    if not path.is_file():
        raise wrong_input(path, "no such file", "a table with the gestational ages")
    table = read_table(path, separator="\t")
    columns = [name for name in table.columns if "gestational age" in name.lower()]
    if "participant_id" not in table.columns or len(columns) != 1:
        found = f"columns {', '.join(table.columns)}"
        raise wrong_input(path, found, "participant_id and one with 'Gestational age'")
    ages = pd.to_numeric(table[columns[0]], errors="coerce")
    known = ages.notna()
    return dict(zip(table.participant_id[known], ages[known], strict=True))


if __name__ == "__main__":
    sys.exit(run_script("feta"))
