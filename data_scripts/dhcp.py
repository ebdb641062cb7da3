"""dHCP: T2 MR of newborns with DrawEM labels; the cortical plate is the foreground.

SOURCE is the structural pipeline's folder, or one that holds it: ``sub-CC00070XX05/ses-26700/anat``
and so on. The three releases name their files differently and are all read:

    third   *_desc-restore_T2w.nii.gz   *_desc-drawem9_dseg.nii.gz
    second  *_desc-restore_T2w.nii.gz   *_desc-drawem9_space-T2w_dseg.nii.gz
    first   *_T2w_restore.nii.gz        *_drawem_tissue_labels.nii.gz

``--image T2w`` takes the image before bias correction. Sessions of one child share its split.
"""

import sys

from segcal_lite._checks import wrong_input

from .convert.cases import Facts, Found, SourceCase, folder_of, missing_files, visible
from .convert.face import run_script
from .convert.splits import COUNTS_OF_B, drawn

FACTS = (
    Facts(
        script="dhcp",
        title="dHCP neonatal",
        organ="brain: cortical plate",
        modality="T2 MR",
        cases="886 sessions (third release; paper B: 400)",
        size="some 100 GB with all derivatives",
        licence="user terms of the dHCP",
        obtain="https://www.developingconnectome.org (registration)",
        reference="Edwards et al. 2022, doi 10.3389/fnins.2022.886772",
        papers="B",
        task="cortical_plate",
        layout=("BioMedIA/dHCP-release-notes, structure.md; MIRTK/DrawEM, tissue_labels.csv"),
        unconfirmed="the first two releases' names, from copies only",
    ),
)
PLACES = ("derivatives/dhcp_anat_pipeline", "rel3_dhcp_anat_pipeline", "dhcp_anat_pipeline")
CORTICAL_GREY_MATTER = 2
DRAWEM_LABELS = range(10)
LABEL_ENDINGS = (
    "_desc-drawem9_dseg.nii.gz",
    "_desc-drawem9_space-T2w_dseg.nii.gz",
    "_drawem_tissue_labels.nii.gz",
)
IMAGE_ENDINGS = {
    "restore": ("_desc-restore_T2w.nii.gz", "_T2w_restore.nii.gz"),
    "T2w": ("_T2w.nii.gz",),
}


def add_options(parser):
    """Add which image is taken."""
    parser.add_argument("--image", choices=IMAGE_ENDINGS, default="restore")


def find(source, seed=2020, image="restore"):
    """Find the sessions in `source`."""
    folder = folder_of(source, *PLACES, "derivatives")
    sessions = [path for path in visible(folder.glob("sub-*/ses-*/anat")) if path.is_dir()]
    if not sessions:
        raise wrong_input(source, "no sub-*/ses-*/anat", "the structural pipeline's folder")
    cases = tuple(_find_case(path, image) for path in sessions)
    return Found(
        facts=FACTS[0],
        channels=("MR",),
        segments=("cortical plate",),
        classes={value: int(value == CORTICAL_GREY_MATTER) for value in DRAWEM_LABELS},
        cases=cases,
        split_of=drawn(cases, COUNTS_OF_B, seed),
        settings={"dataset": "dhcp", "seed": seed, "image": image},
        notes=("of DrawEM's nine tissues only cortical grey matter (2) is foreground",),
    )


def _find_case(folder, image):
    """Return one session."""
    subject, session = folder.parent.parent.name, folder.parent.name
    stem = folder / f"{subject}_{session}"
    images, labels = (
        [path for path in (stem.with_name(stem.name + end) for end in endings) if path.is_file()]
        for endings in (IMAGE_ENDINGS[image], LABEL_ENDINGS)
    )
    problem = ""
    for found, endings in ((images, IMAGE_ENDINGS[image]), (labels, LABEL_ENDINGS)):
        if not found:
            problem = problem or missing_files([stem.with_name(stem.name + endings[0])])
    return SourceCase(
        name=f"{subject}_{session}",
        images=tuple(images[:1]),
        labels=tuple(labels[:1]),
        patient=subject,
        domain="newborn",
        problem=problem,
    )


if __name__ == "__main__":
    sys.exit(run_script("dhcp"))
