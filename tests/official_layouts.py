"""Small sources in the official layouts of the public datasets, with landmarks of known place.

Each case is a box-shaped grid of its own spacing and orientation; a block of label 1 (and of each
further label) lies around a known point of the scanner's space, in mm to right, anterior, superior,
and the image is brightest in its middle.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

BRIGHTEST = 900


def grid_affine(spacing_mm, flips=(1, 1, 1), angles=(0, 0, 0), origin=(5.0, -7.0, 11.0)):
    """Affine of a grid whose axes are flipped and then turned by angles in degrees."""
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(flips) @ np.diag(spacing_mm)
    affine[:3, 3] = origin
    return affine


GRIDS = (  # shape, affine: two spacings, one oblique, one flipped
    ((20, 16, 8), grid_affine((1.0, 1.0, 3.0))),
    ((18, 22, 9), grid_affine((0.8, 0.8, 2.5), angles=(8, -5, 12))),
    ((16, 20, 8), grid_affine((1.0, 1.2, 3.0), flips=(-1, -1, 1))),
)


def make_case(index, values=(1,), n_channels=1):
    """Image channels, labels and affine of one case; block k of `values` is 3 x 3 x 2 voxels."""
    shape, affine = GRIDS[index % len(GRIDS)]
    rng = np.random.default_rng(index)
    labels = np.zeros(shape, dtype=np.uint8)
    for k, value in enumerate(values):
        labels[3 + 3 * k % 12 : 6 + 3 * k % 12, 8:11, 2:4] = value
    channels = rng.integers(0, 100, (n_channels, *shape)).astype(np.int16)
    channels[:, labels == values[0]] = BRIGHTEST - index
    return channels, labels, affine


def place_of(mask, affine):
    """Centre of a mask in mm."""
    return nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0))


def write_nifti(path, array, affine):
    """Write NIfTI with the voxel size in all places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def to_simpleitk(array, affine):
    """The same volume as SimpleITK has it: axes to left, posterior, superior."""
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write_metaimage(path, array, affine):
    """Write MetaImage or NRRD, as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(to_simpleitk(array, affine), str(path))


def write_dicom(folder, names, array, affine, modality="MR", series_number=1, description="t2"):
    """Write one slice a file, slice k of `array` (X, Y, Z) under ``names[k]``.

    The third axis has to be perpendicular to the others, as in a scanner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    along = lps[:3, :3] / spacing
    series, study = generate_uid(), generate_uid()
    storage = CTImageStorage if modality == "CT" else MRImageStorage
    for k, name in enumerate(names):
        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = storage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.SeriesInstanceUID, data.StudyInstanceUID = series, study
        data.Modality, data.SeriesNumber, data.SeriesDescription = (
            modality,
            series_number,
            description,
        )
        data.PatientID, data.InstanceNumber = "anonymous", k + 1
        data.ImagePositionPatient = [f"{x:.8g}" for x in lps[:3] @ [0, 0, k, 1]]
        data.ImageOrientationPatient = [f"{x:.9g}" for x in (*along[:, 0], *along[:, 1])]
        data.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
        data.SliceThickness = f"{spacing[2]:.8g}"
        data.Columns, data.Rows = array.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        stored = array[:, :, k].T.astype(np.int16)
        if modality == "CT":
            data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
            stored = stored + 1024
        data.PixelData = np.ascontiguousarray(stored, dtype=np.int16).tobytes()
        data.save_as(folder / name, enforce_file_format=True)


def write_pictures(folder, names, array):
    """Write one PNG a slice: rows are the second axis of `array` (X, Y, Z)."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        rows = np.ascontiguousarray(array[:, :, k].T.astype(np.uint8))
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rows), str(folder / name))


def acdc(folder, n_patients=6):
    """``training/patient001/patient001_frame01{,_gt}.nii.gz`` and ``Info.cfg``."""
    groups = ("DCM", "HCM", "MINF", "NOR", "RV")
    for index in range(n_patients):
        patient = f"patient{index + 1:03d}"
        place = Path(folder) / "training" / patient
        frames = {"ED": 4 if index == 1 else 1, "ES": 12}
        place.mkdir(parents=True)
        lines = [f"{phase}: {frame}" for phase, frame in frames.items()]
        lines += [f"Group: {groups[index % 5]}", "Height: 184.0", "NbFrame: 30", "Weight: 95.0"]
        (place / "Info.cfg").write_text("\n".join(lines) + "\n")
        for shift, frame in enumerate(frames.values()):
            channels, labels, affine = make_case(index, (1, 2, 3))
            size_mm = nib.affines.voxel_sizes(affine)
            for array, end in ((channels[0] + shift, ""), (labels, "_gt")):
                image = nib.Nifti1Image(array, None)
                image.header.set_sform(np.eye(4), code=2)  # the official files know pixdim alone
                image.header.set_zooms(size_mm)
                nib.save(image, place / f"{patient}_frame{frame:02d}{end}.nii.gz")
        (place / f"{patient}_4d.nii.gz").write_bytes(b"whole cycle, not used")
    return Path(folder)


BRATS = {"CBICA": ("AAB", "AAG", "AAL", "AAP"), "TCIA": ("105", "109"), "2013": ("2",)}


def brats2017(folder):
    """``Brats17TrainingData/HGG/Brats17_CBICA_AAB_1/Brats17_CBICA_AAB_1_t1ce.nii.gz`` and so on."""
    root = Path(folder) / "Brats17TrainingData"
    names = [f"Brats17_{where}_{who}_1" for where, ids in BRATS.items() for who in ids]
    for index, name in enumerate([*names, "Brats17_TCIA_300_1"]):
        grade = "LGG" if name.endswith("300_1") else "HGG"
        channels, labels, affine = make_case(index, (1, 2, 4), n_channels=4)
        for sequence, channel in zip(("t1", "t1ce", "t2", "flair"), channels, strict=True):
            write_nifti(root / grade / name / f"{name}_{sequence}.nii.gz", channel, affine)
        write_nifti(root / grade / name / f"{name}_seg.nii.gz", labels, affine)
    (root / "survival_data.csv").write_text("Brats17ID,Age,Survival\n")
    return Path(folder)


def promise12(folder, n_cases=4):
    """``TrainingData_Part1/Case00.mhd``, ``Case00_segmentation.mhd`` and their ``.raw``."""
    for index in range(n_cases):
        place = Path(folder) / f"TrainingData_Part{1 + index // 2}"
        channels, labels, affine = make_case(index)
        write_metaimage(place / f"Case{index:02d}.mhd", channels[0], affine)
        write_metaimage(place / f"Case{index:02d}_segmentation.mhd", labels, affine)
    return Path(folder)


def sliver07(folder, n_cases=4):
    """``training-part1/liver-orig001.mhd`` and ``liver-seg001.mhd`` with their ``.raw``."""
    for index in range(n_cases):
        place = Path(folder) / f"training-part{1 + index // 2}"
        channels, labels, affine = make_case(index)
        write_metaimage(place / f"liver-orig{index + 1:03d}.mhd", channels[0] - 500, affine)
        write_metaimage(place / f"liver-seg{index + 1:03d}.mhd", labels, affine)
    return Path(folder)


MSD_TASKS = {  # folder, file stem, modality, labels
    2: ("Task02_Heart", "la", ("MRI",), ("left atrium",)),
    4: ("Task04_Hippocampus", "hippocampus", ("MRI",), ("Anterior", "Posterior")),
    5: ("Task05_Prostate", "prostate", ("T2", "ADC"), ("PZ", "TZ")),
    7: ("Task07_Pancreas", "pancreas", ("CT",), ("pancreas", "cancer")),
    9: ("Task09_Spleen", "spleen", ("CT",), ("spleen",)),
    6: ("Task06_Lung", "lung", ("CT",), ("cancer",)),
}


def msd(folder, task, n_cases=5):
    """``Task04_Hippocampus/{dataset.json,imagesTr,labelsTr,imagesTs}``, 4D with channels."""
    name, stem, modality, segments = MSD_TASKS[task]
    root = Path(folder) / name
    training = []
    for index in range(n_cases):
        case = f"{stem}_{index + 1:03d}"
        channels, labels, affine = make_case(index, range(1, len(segments) + 1), len(modality))
        image = np.moveaxis(channels, 0, -1) if len(modality) > 1 else channels[0]
        write_nifti(root / "imagesTr" / f"{case}.nii.gz", image, affine)
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", labels, affine)
        (root / "imagesTr" / f"._{case}.nii.gz").write_bytes(b"of macOS")
        training.append(
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
        )
    (root / "imagesTs").mkdir()
    description = {
        "name": name[7:],
        "relase": "1.0",
        "tensorImageSize": "4D" if len(modality) > 1 else "3D",
        "modality": {str(c): text for c, text in enumerate(modality)},
        "labels": {"0": "background"} | {str(k + 1): text for k, text in enumerate(segments)},
        "numTraining": n_cases,
        "numTest": 1,
        "training": training,
        "test": ["./imagesTs/x.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return Path(folder)


GREY = {1: 63, 2: 126, 3: 189, 4: 252}  # liver, right kidney, left kidney, spleen


def chaos(folder, patients=("1", "2", "19", "34")):
    """``Train_Sets/{CT,MR}/<id>`` with DICOM folders and PNG masks, named as in the archive.

    The CT names rise while the positions fall; in MR both rise. The second patient's CT files have
    the other style of names.
    """
    root = Path(folder) / "Train_Sets"
    for index, patient in enumerate(patients):
        channels, labels, affine = make_case(index, (1, 2, 3, 4), n_channels=3)
        grey = np.zeros_like(labels)
        for k, level in GREY.items():
            grey[labels == k] = level
        n = labels.shape[2]
        numbers = range(n - 1, -1, -1)  # slice k, from bottom to top, has name n - 1 - k
        if index == 1:
            names = [f"IMG-0001-{i + 1:05d}.dcm" for i in numbers]
        else:
            names = [f"i{i:04d},0000b.dcm" for i in numbers]
        ct = root / "CT" / patient
        write_dicom(ct / "DICOM_anon", names, channels[0] - 300, affine, "CT")
        pngs = [f"liver_GT_{i:03d}.png" for i in numbers]
        write_pictures(ct / "Ground", pngs, 255 * (labels == 1))
        mr = root / "MR" / patient
        spir = [f"IMG-0003-{k + 1:05d}" for k in range(n)]
        write_dicom(mr / "T2SPIR" / "DICOM_anon", [f"{s}.dcm" for s in spir], channels[0], affine)
        write_pictures(mr / "T2SPIR" / "Ground", [f"{s}.png" for s in spir], grey)
        inside = [f"IMG-0004-{2 * k + 2:05d}" for k in range(n)]
        outside = [f"IMG-0004-{2 * k + 1:05d}" for k in range(n)]
        dual = mr / "T1DUAL"
        for phase, stems, channel in (("InPhase", inside, 1), ("OutPhase", outside, 2)):
            files = [f"{stem}.dcm" for stem in stems]
            write_dicom(dual / "DICOM_anon" / phase, files, channels[channel], affine)
        write_pictures(dual / "Ground", [f"{stem}.png" for stem in inside], grey)
    return Path(folder)


DHCP_NAMES = {  # release: (image, label)
    3: ("_desc-restore_T2w", "_desc-drawem9_dseg"),
    2: ("_desc-restore_T2w", "_desc-drawem9_space-T2w_dseg"),
    1: ("_T2w_restore", "_drawem_tissue_labels"),
}


def dhcp(folder, release=3):
    """``rel3_dhcp_anat_pipeline/sub-CC00070XX05/ses-26700/anat/...``; one child came twice."""
    place = {3: "rel3_dhcp_anat_pipeline", 2: "dhcp_anat_pipeline", 1: "derivatives"}[release]
    image_end, label_end = DHCP_NAMES[release]
    sessions = [("CC00070XX05", "26700"), ("CC00071XX06", "27000"), ("CC00071XX06", "31100")]
    sessions += [("CC00083XX10", "30900"), ("CC00099BN15", "35900")]
    for index, (subject, session) in enumerate(sessions):
        channels, labels, affine = make_case(index, (2, 1, 3, 9))
        stem = Path(folder) / place / f"sub-{subject}" / f"ses-{session}" / "anat"
        name = f"sub-{subject}_ses-{session}"
        write_nifti(stem / f"{name}{image_end}.nii.gz", channels[0], affine)
        write_nifti(stem / f"{name}_T2w.nii.gz", channels[0] + 1, affine)
        write_nifti(stem / f"{name}{label_end}.nii.gz", labels, affine)
    return Path(folder)


def feta(folder, n_cases=5):
    """``feta_2.1/sub-001/anat/sub-001_rec-mial_T2w.nii.gz`` and its ``_dseg``; ages in a table."""
    root = Path(folder) / "feta_2.1"
    rows = ["participant_id\tPathology\tGestational age"]
    for index in range(n_cases):
        subject, tag = f"sub-{index + 1:03d}", "mial" if index < 3 else "irtk"
        channels, labels, affine = make_case(index, (2, 1, 3, 7))
        stem = root / subject / "anat" / f"{subject}_rec-{tag}"
        write_nifti(stem.with_name(f"{stem.name}_T2w.nii.gz"), channels[0], affine)
        write_nifti(stem.with_name(f"{stem.name}_dseg.nii.gz"), labels.astype(np.float32), affine)
        rows.append(
            f"{subject}\t{('Neurotypical', 'Pathological')[index % 2]}\t{22.5 + 2.5 * index}"
        )
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return Path(folder)


def prostatex(folder, n_patients=4):
    """TCIA's folders in newer and older style: two axial T2 series a patient, one sagittal."""
    for index in range(n_patients):
        patient = f"ProstateX-{index:04d}"
        channels, _, affine = make_case(index, n_channels=2)
        if index % 2:
            study, series = (
                "10-18-2011-NA-MR prostaat kanker detectie WDSmc MCAPRODETW-45493",
                (
                    "5.000000-t2tsetra-75680",
                    "7.000000-t2tsetra-11111",
                    "4.000000-t2tsesag-22222",
                ),
            )
        else:
            study, series = (
                "10-21-2011-MR prostaat kanker detectie NDmc MCAPRODETN-79408",
                (
                    "5-t2tsetra-98209",
                    "7-t2tsetra-33333",
                    "4-t2tsesag-44444",
                ),
            )
        place = Path(folder) / "PROSTATEx" / patient / study
        names = [f"1-{k + 1:02d}.dcm" for k in range(channels.shape[3])][::-1]
        moved = affine.copy()
        moved[:3, 3] += 4.0
        for name, channel, where in zip(
            series, channels[[0, 1, 1]], (affine, moved, moved), strict=True
        ):
            write_dicom(place / name, names, channel, where, description="t2_tse_tra")
    return Path(folder)


def prostatex_masks(folder, n_patients=4):
    """The repository PROSTATEx_masks: ``Files/prostate/mask_prostate`` and ``image_list.csv``.

    dcm2niix turns the rows of DICOM round, and one name has three digits as in the repository.
    """
    place = Path(folder) / "Files" / "prostate"
    rows = ["T2"]
    for index in range(n_patients):
        _, labels, affine = make_case(index)
        turned = affine @ np.diag([1.0, -1, 1, 1])
        turned[:3, 3] = affine[:3] @ [0, labels.shape[1] - 1, 0, 1]
        name = f"ProstateX-{index:03d}" if index == 2 else f"ProstateX-{index:04d}"
        write_nifti(place / "mask_prostate" / f"{name}.nii.gz", labels[:, ::-1], turned)
        rows.append(f"ProstateX-{index:04d}_t2_tse_tra_5")
    (place / "image_list.csv").write_text("\n".join(rows) + "\n")
    return Path(folder)


def meyer_masks(folder, n_patients=4):
    """``GT Export/Train/ProstateX-0000/*.nrrd`` with four zones."""
    for index in range(n_patients):
        _, labels, affine = make_case(index, (1, 2, 3, 4))
        side = "Train" if index < 3 else "Test"
        patient = f"ProstateX-{index:04d}"
        write_metaimage(Path(folder) / "GT Export" / side / patient / "zones.nrrd", labels, affine)
    return Path(folder)
