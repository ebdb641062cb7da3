"""CHAOS: CT and MR of the abdomen, DICOM images with PNG masks.

SOURCE is or holds ``Train_Sets`` with ``CT`` and ``MR``. ``--set`` takes one of the four kinds of
image, or ``MR``: all three MR sequences with the sequence as domain. By default the liver alone is
foreground, as in paper B; ``--organs all`` keeps all four organs of MR.

Images and masks belong together by the order of their file names, as in the organisers' evaluation,
and not by the DICOM positions; the pairs are then brought into the order of their positions. A case
whose names do not follow its positions, up or down, is refused.
"""

import re
import sys

import numpy as np

from segcal_lite._checks import wrong_input
from segcal_lite.data.volumes import Volume

from .convert.cases import Facts, Found, SourceCase, folder_of, visible
from .convert.downloads import Archive
from .convert.face import run_script
from .convert.reading import read_picture, read_series, read_slice_place
from .convert.splits import COUNTS_OF_B, drawn

ZENODO = "https://zenodo.org/records/3431873/files/CHAOS_Train_Sets.zip"
REFERENCE = "Kavur et al. 2021, doi 10.1016/j.media.2020.101950"
SETS = {  # folder of the images below a patient, folder of the masks
    "CT": ("CT", "DICOM_anon", "Ground"),
    "SPIR": ("MR", "T2SPIR/DICOM_anon", "T2SPIR/Ground"),
    "DUAL-in": ("MR", "T1DUAL/DICOM_anon/InPhase", "T1DUAL/Ground"),
    "DUAL-out": ("MR", "T1DUAL/DICOM_anon/OutPhase", "T1DUAL/Ground"),
}
MR_SETS = ("SPIR", "DUAL-in", "DUAL-out")
GREY_LEVELS = {  # of the masks, as the organisers give them: above the first, up to the second
    "liver": (55, 70),
    "right kidney": (110, 135),
    "left kidney": (175, 200),
    "spleen": (240, 255),
}


def _facts(title, modality, cases, task, papers):
    return Facts(
        script="chaos",
        title=title,
        organ="liver" if modality == "CT" else "liver (kidneys, spleen)",
        modality=modality,
        cases=cases,
        size="0.9 GB with all sets",
        licence="CC BY-NC-SA 4.0",
        obtain="https://doi.org/10.5281/zenodo.3431873, or --download",
        reference=REFERENCE,
        papers=papers,
        task=task,
        layout=(
            "emrekavur/CHAOS-evaluation (order of slices); MIC-DKFZ/nnUNet, "
            "Task037_038 (grey levels); constantinpape/torch-em, chaos.py"
        ),
        unconfirmed="which cases, if any, break the order of names; such a case is refused",
        download=True,
    )


FACTS = (
    _facts("CHAOS CT", "CT", "20", "liver_ct", ""),
    _facts("CHAOS MR", "MR: T2-SPIR, T1-DUAL in and out phase", "20 of each", "liver_mr", "B"),
)


def add_options(parser):
    """Add which images and organs are taken."""
    what = "which images; MR takes its three sequences"
    parser.add_argument("--set", choices=(*SETS, "MR"), required=True, dest="kind", help=what)
    what = "liver (default), or all four organs (MR only)"
    parser.add_argument("--organs", choices=("liver", "all"), default="liver", help=what)


def archive(**_):
    """Return the archive that ``--download`` fetches."""
    return Archive(ZENODO, "md5:df21053002a1cc86df918a87da3b2c19", "Train_Sets")


def find(source, kind, seed=2020, organs="liver"):
    """Find the cases of one kind, or of all three MR sequences, in `source`."""
    if kind == "CT" and organs == "all":
        raise wrong_input("--organs", "all, for CT", "liver: CT has no other masks")
    folder = folder_of(source, "Train_Sets", "CHAOS_Train_Sets/Train_Sets")
    kinds = MR_SETS if kind == "MR" else (kind,)
    entries = visible((folder / SETS[kinds[0]][0]).glob("[0-9]*"))
    patients = [path for path in entries if path.name.isdecimal() and path.is_dir()]
    if not patients:
        raise wrong_input(source, f"no patient in {SETS[kinds[0]][0]}", "the folder Train_Sets")
    ordered = sorted(patients, key=lambda path: int(path.name))
    cases = tuple(_find_case(path, name) for name in kinds for path in ordered)
    return Found(
        facts=FACTS[0] if kind == "CT" else FACTS[1],
        channels=("CT" if kind == "CT" else "MR",),
        segments=("liver",) if organs == "liver" else tuple(GREY_LEVELS),
        classes=classes_of(kind, organs),
        cases=cases,
        split_of=drawn(cases, COUNTS_OF_B, seed),
        settings={"dataset": "chaos", "set": kind, "seed": seed, "organs": organs},
        notes=("the kidneys and the spleen are background",) if _leaves_out(kind, organs) else (),
    )


def _leaves_out(kind, organs):
    return kind != "CT" and organs == "liver"


def classes_of(kind, organs):
    """Return the class of each grey level; levels between the published ranges are unknown.

    Examples
    --------
    >>> classes = classes_of("MR", "liver")
    >>> classes[63], classes[252], 80 in classes
    (1, 0, False)
    """
    if kind == "CT":
        return {0: 0, 1: 1, 255: 1}
    classes = {0: 0}
    for k, (low, high) in enumerate(GREY_LEVELS.values(), start=1):
        kept = k if organs == "all" or k == 1 else 0
        classes |= dict.fromkeys(range(low + 1, high + 1), kept)
    return classes


def _find_case(folder, kind):
    """Return one patient's images of one kind; `problem` names the files that are missing."""
    modality, images_below, masks_below = SETS[kind]
    images = by_number(visible((folder / images_below).glob("*"), ".dcm"))
    masks = by_number(visible((folder / masks_below).glob("*"), ".png"))
    problem = ""
    if not images or len(images) != len(masks):
        what = f"{folder / images_below} and {masks_below}"
        found = f"{len(images)} DICOM slices and {len(masks)} masks"
        problem = str(wrong_input(what, found, "as many of both"))
    return SourceCase(
        name=f"{kind}_{int(folder.name):02d}",
        images=(tuple(images),),
        labels=tuple(masks),
        patient=f"{modality}_{int(folder.name):02d}",
        domain=kind,
        problem=problem,
    )


def by_number(paths):
    """Sort by name with numbers in names as numbers, so that 2 stands before 10."""
    return sorted(paths, key=lambda p: [int(n) for n in re.findall(r"[0-9]+", p.stem)])


def read_case(case):
    """Read a series and its masks, the k-th mask with the k-th slice by name.

    Returns
    -------
    images : list of one Volume
    label : Volume
        Grey levels of the masks, on the grid of the series.
    """
    files = case.images[0]
    heights = [read_slice_place(path)["height"] for path in files]
    steps = np.diff(heights)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        found = "file names that do not follow the positions of the slices"
        raise wrong_input(files[0].parent, found, "names that rise or fall with them")
    volume = read_series(files)
    masks = [read_picture(case.labels[index]) for index in np.argsort(heights)]
    for path, mask in zip(case.labels, masks, strict=True):
        if mask.shape != volume.data.shape[:2]:
            raise wrong_input(path.parent, f"masks of {mask.shape}", f"{volume.data.shape[:2]}")
    return [volume], Volume(np.stack(masks, axis=-1), volume.affine, case.labels[0].parent)


if __name__ == "__main__":
    sys.exit(run_script("chaos"))
