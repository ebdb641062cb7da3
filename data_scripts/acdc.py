"""ACDC: cine MR of the heart, at end-diastole (ED), end-systole (ES) or both.

SOURCE is the official download or any folder in it that holds ``training``: of each patient
``Info.cfg`` (ED, ES, Group), the frames named there and their ``_gt``; ``testing`` is not read.
Paper A uses end-diastole of the 100 training patients, 40 for training, 10 for validation and 50
for testing, and does not say which; here 8, 2 and 10 are drawn in each of the five groups. With
``--domain disease`` each group is a domain, so that one may be left out of a training. The voxel
size stands in pixdim alone, beside a unit sform; the files written here carry it in both.
"""

import re
import sys
from dataclasses import replace

from segcal_lite._checks import wrong_input

from .convert.cases import Facts, Found, SourceCase, folder_of, missing_files, visible
from .convert.face import run_script
from .convert.splits import drawn_in_groups

FACTS = (
    Facts(
        script="acdc",
        title="ACDC",
        organ="heart: RV, MYO, LV",
        modality="cine MR",
        cases="100 training patients: ED, or ED and ES",
        size="2.3 GB",
        licence="for research; organisers state CC BY-NC-SA 4.0",
        obtain="https://humanheart-project.creatis.insa-lyon.fr/database (registration)",
        reference="Bernard et al. 2018, doi 10.1109/TMI.2018.2837502",
        papers="A",
        task="heart",
        layout=(
            "MIC-DKFZ/nnUNet, dataset_conversion Task027 and Dataset027; "
            "constantinpape/torch-em, acdc.py; 100 real patients"
        ),
        unconfirmed="the licence, which the archive states",
    ),
)
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
SPLIT = (40, 10, 50)
PLACES = ("training", "database/training", "ACDC/database/training")
DOMAINS = ("source", "disease")
FRAMES = {"ed": ("ED",), "es": ("ES",), "both": ("ED", "ES")}


def add_options(parser):
    """Add which frames are taken, and what the domain is."""
    parser.add_argument("--frames", choices=FRAMES, default="ed", help="default ed, as paper A")
    parser.add_argument("--domain", choices=DOMAINS, default=DOMAINS[0], help="one, or the group")


def find(source, seed=2020, frames="ed", domain=DOMAINS[0]):
    """Find the patients in `source`.

    Parameters
    ----------
    source : path
    seed : int
        Of the split.
    frames : {"ed", "es", "both"}
    domain : {"source", "disease"}
        One domain for all, or each patient's group: DCM, HCM, MINF, NOR or RV.

    Returns
    -------
    Found
    """
    folder = folder_of(source, *PLACES)
    patients = [path for path in visible(folder.glob("patient[0-9]*")) if path.is_dir()]
    if not patients:
        raise wrong_input(source, "no folder patient001, patient002, ...", "ACDC's training folder")
    cases = [_find_case(path, phase) for path in patients for phase in FRAMES[frames]]
    settings = {"dataset": "acdc", "seed": seed, "frames": frames}
    if domain == "disease":
        cases = [replace(case, domain=case.group or case.domain) for case in cases]
        settings["domain"] = domain
    order = {group: index for index, group in enumerate((*GROUPS, ""))}
    by_group = sorted(cases, key=lambda case: (order[case.group], case.name))
    return Found(
        facts=FACTS[0],
        channels=("cine MR",),
        segments=("RV", "MYO", "LV"),
        classes={0: 0, 1: 1, 2: 2, 3: 3},
        cases=tuple(cases),
        split_of=drawn_in_groups(by_group, SPLIT, seed),
        settings=settings,
    )


def _find_case(folder, phase):
    """Return one frame of one patient; the name of end-diastole is the patient's."""
    name = folder.name if phase == "ED" else f"{folder.name}_{phase}"
    try:
        frame, group = read_info(folder / "Info.cfg", phase)
    except ValueError as error:
        return SourceCase(name, patient=folder.name, problem=str(error))
    image = folder / f"{folder.name}_frame{frame:02d}.nii.gz"
    label = image.with_name(f"{folder.name}_frame{frame:02d}_gt.nii.gz")
    return SourceCase(
        name,
        images=(image,),
        labels=(label,),
        patient=folder.name,
        group=group,
        problem=missing_files((image, label)),
    )


def read_info(path, phase):
    """Return the number of a frame, which counts from 1, and the patient's group."""
    if not path.is_file():
        raise wrong_input(path, "no such file", "the Info.cfg of an ACDC patient")
    text = path.read_text(encoding="utf-8", errors="replace")
    fields = dict(re.findall(r"^\s*(\w+)\s*:\s*(\S+)\s*$", text, flags=re.MULTILINE))
    frame, group = fields.get(phase, "no line"), fields.get("Group", "no line")
    if not re.fullmatch(r"[0-9]{1,2}", frame):
        raise wrong_input(f"{path}, {phase}", frame, "a frame number")
    if group not in GROUPS:
        raise wrong_input(f"{path}, Group", group, f"one of {', '.join(GROUPS)}")
    return int(frame), group


if __name__ == "__main__":
    sys.exit(run_script("acdc"))
