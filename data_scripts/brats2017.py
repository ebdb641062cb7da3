"""BraTS 2017: gliomas in T1CE, T2 and FLAIR, with the institution as domain.

SOURCE holds ``HGG`` and ``LGG`` with a folder a patient, ``Brats17_CBICA_AAB_1`` and the like, of
``_t1``, ``_t1ce``, ``_t2``, ``_flair`` and ``_seg``. Paper A trains and validates on CBICA (66 and
22) and tests on TCIA (102): the sizes of these two among the high-grade patients, which are what
is taken by default. ``--grades all`` adds LGG and ``--domains all`` the patients named 2013, to
test on.
"""

import re
import sys

import numpy as np

from segcal_lite._checks import wrong_input
from segcal_lite.data.splits import SPLITS

from .convert.cases import Facts, Found, SourceCase, folder_of, missing_files, visible
from .convert.face import run_script
from .convert.splits import drawn

FACTS = (
    Facts(
        script="brats2017",
        title="BraTS 2017",
        organ="brain tumour: non-enhancing, oedema, enhancing",
        modality="MR: T1CE, T2, FLAIR (T1 is left out)",
        cases="285 (210 HGG, 75 LGG)",
        size="about 2.5 GB",
        licence="terms of the challenge, for research",
        obtain="http://www.med.upenn.edu/sbia/brats2017.html (registration for 2017 is closed)",
        reference="Menze et al. 2015, doi 10.1109/TMI.2014.2377694",
        papers="A",
        task="brain",
        layout=(
            "constantinpape/torch-em, brats.py (labels); MIC-DKFZ/nnUNet, "
            "Task032_BraTS_2018.py (same files)"
        ),
        unconfirmed=(
            "counts per institution: 88 CBICA and 102 TCIA of high grade are taken "
            "from their agreement with paper A"
        ),
    ),
)
PLACES = ("Brats17TrainingData", "MICCAI_BraTS17_Data_Training")
SEQUENCES = ("t1ce", "t2", "flair")  # A takes these three; T1 is left out
TRAINING_DOMAIN = "CBICA"
NAME = re.compile(r"Brats17_(CBICA|TCIA|2013)_\w+")


def add_options(parser):
    """Add the choice of grades and institutions."""
    parser.add_argument("--grades", choices=("HGG", "LGG", "all"), default="HGG")
    parser.add_argument(
        "--domains", choices=("papers", "all"), default="papers", help="papers: CBICA and TCIA"
    )


def find(source, seed=2020, grades="HGG", domains="papers"):
    """Find the patients in `source`; see the module for what is taken."""
    folder = folder_of(source, *PLACES)
    wanted = ("HGG", "LGG") if grades == "all" else (grades,)
    found = [path for grade in wanted for path in visible((folder / grade).glob("Brats17_*"))]
    cases = [_find_case(path) for path in found if domains == "all" or "_2013_" not in path.name]
    if not cases:
        expected = f"{' and '.join(wanted)} with folders such as Brats17_CBICA_AAB_1"
        raise wrong_input(source, "no patient", expected)
    return Found(
        facts=FACTS[0],
        channels=("T1CE", "T2", "FLAIR"),
        segments=("non-enhancing", "oedema", "enhancing"),
        classes={0: 0, 1: 1, 2: 2, 4: 3},
        cases=tuple(cases),
        split_of=_split(cases, seed),
        settings={"dataset": "brats2017", "seed": seed, "grades": grades, "domains": domains},
        notes=("stored label 4 (enhancing tumour) becomes class 3; 3 is not in use",),
    )


def _find_case(folder):
    """Return one patient."""
    match = NAME.fullmatch(folder.name)
    if not match:
        expected = "Brats17_, then CBICA, TCIA or 2013, then an id"
        problem = str(wrong_input(folder, "this name", expected))
        return SourceCase(folder.name, patient=folder.name, domain="unknown", problem=problem)
    images = tuple(folder / f"{folder.name}_{sequence}.nii.gz" for sequence in SEQUENCES)
    label = folder / f"{folder.name}_seg.nii.gz"
    return SourceCase(
        folder.name,
        images=images,
        labels=(label,),
        patient=folder.name,
        domain=match[1],
        group=folder.parent.name,
        problem=missing_files((*images, label)),
    )


def _split(cases, seed):
    """CBICA trains and validates as 66 to 22, all others test; CBICA alone is split in three."""
    training = [case for case in cases if case.domain == TRAINING_DOMAIN]
    split_of = dict.fromkeys((case.patient for case in cases), SPLITS[2])
    if len(training) == len(cases):
        return drawn(cases, (66, 22, 102), seed)
    if len(training) > 1:
        split_of |= _two_way(training, seed)
    return split_of


def _two_way(cases, seed):
    """Return train and validation in the proportion 66 to 22."""
    patients = sorted({case.patient for case in cases})
    n_validation = max(1, round(len(patients) * 22 / 88))
    order = np.random.default_rng(seed).permutation(len(patients))
    return {
        patients[index]: SPLITS[1] if rank < n_validation else SPLITS[0]
        for rank, index in enumerate(order)
    }


if __name__ == "__main__":
    sys.exit(run_script("brats2017"))
