"""Each script on a small source in its official layout: the result is right in the scanner's mm."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import official_layouts as official
import pytest

import data_scripts
from data_scripts.chaos import by_number, classes_of
from data_scripts.convert.face import run_script
from segcal_lite.data.datasets import check_case, read_dataset, task_of
from segcal_lite.data.tasks import TASKS


def converted(script, source, dest, *options, workers=1):
    """Run a script that has to succeed; return the dataset."""
    arguments = [str(source), str(dest), "--workers", str(workers), *map(str, options)]
    assert run_script(script, arguments) == 0
    description = json.loads((dest / "dataset.json").read_text())
    assert description["task"] in ("", *TASKS)
    return read_dataset(dest, task=description["task"] or None)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_place(dest, name, index, classes, channel=0, n_channels=1, original=0, offset=0):
    """Compare one converted case with case `index` of the official layouts.

    `classes` maps each value of the source to its class; the image's brightest voxels are the block
    of the first value. Channel `channel` has to hold the voxels of the source's `original`.
    """
    values = tuple(classes)
    channels, labels, affine = official.make_case(index, values, n_channels)
    label = nib.load(dest / "labelsTr" / f"{name}.nii.gz")
    found = np.asarray(label.dataobj)
    for k in sorted(set(classes.values()) - {0}):
        mask = np.isin(labels, [value for value, c in classes.items() if c == k])
        place = official.place_of(found == k, label.affine)
        np.testing.assert_allclose(place, official.place_of(mask, affine), atol=0.02)
        assert (found == k).sum() == mask.sum()
    assert set(np.unique(found)) == set(classes.values()) | {0}
    image = nib.load(dest / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
    voxels = np.asarray(image.dataobj)
    place = official.place_of(voxels == voxels.max(), image.affine)
    expected = official.place_of(labels == values[0], affine)
    np.testing.assert_allclose(place, expected, atol=0.02)
    assert sorted(voxels.ravel()) == sorted((channels[original] + offset).ravel())
    sizes_mm = sorted(nib.affines.voxel_sizes(affine))
    np.testing.assert_allclose(sorted(image.header.get_zooms()[:3]), sizes_mm, rtol=1e-4)


def check_all_fit(dataset):
    """Every case is what the notebooks accept, with the channels and segments of its task."""
    for case in dataset.cases:
        check_case(dataset, case)
    task = task_of(
        dataset, json.loads((dataset.folder / "dataset.json").read_text())["task"] or None
    )
    assert (dataset.channels, dataset.segments) == (task.channels, task.segments)
    assert (dataset.folder / "contact_sheet.png").stat().st_size > 5000


def test_acdc(tmp_path):
    source = official.acdc(tmp_path / "ACDC", n_patients=6)
    dataset = converted("acdc", source, tmp_path / "out", workers=2)
    check_all_fit(dataset)
    assert [case.name for case in dataset.cases] == [f"patient{n:03d}" for n in range(1, 7)]
    for index in range(6):
        label = nib.load(tmp_path / f"out/labelsTr/patient{index + 1:03d}.nii.gz")
        _, labels, affine = official.make_case(index, (1, 2, 3))
        sizes_mm = nib.affines.voxel_sizes(affine)
        np.testing.assert_allclose(nib.affines.voxel_sizes(label.affine), sizes_mm, rtol=1e-5)
        assert np.array_equal(np.asarray(label.dataobj), labels)
        image = nib.load(tmp_path / f"out/imagesTr/patient{index + 1:03d}_0000.nii.gz")
        assert np.asarray(image.dataobj).max() == official.BRIGHTEST - index
        assert image.header.get_zooms() == pytest.approx(sizes_mm)
    groups = {row["case"]: row["group"] for row in rows_of(tmp_path / "out/cases.csv")}
    assert groups["patient002"] == "HCM"


def test_acdc_takes_end_systole_and_keeps_a_patient_together(tmp_path):
    source = official.acdc(tmp_path / "ACDC", n_patients=6)
    both = converted("acdc", source, tmp_path / "both", "--frames", "both")
    assert len(both.cases) == 12
    split_of = {}
    for case in both.cases:
        assert split_of.setdefault(case.patient, case.split) == case.split
    image = nib.load(tmp_path / "both/imagesTr/patient003_ES_0000.nii.gz")
    assert np.asarray(image.dataobj).max() == official.BRIGHTEST - 2 + 1  # brighter by 1


def test_acdc_takes_each_group_as_a_domain(tmp_path):
    source = official.acdc(tmp_path / "ACDC", n_patients=6)
    plain = converted("acdc", source, tmp_path / "plain")
    by_disease = converted("acdc", source, tmp_path / "disease", "--domain", "disease")
    assert plain.domains == ("source",)
    groups = {row["case"]: row["group"] for row in rows_of(tmp_path / "plain/cases.csv")}
    assert {case.name: case.domain for case in by_disease.cases} == groups
    settings = json.loads((tmp_path / "plain/conversion.json").read_text())
    assert "domain" not in settings  # what was converted before may be continued


def test_acdc_splits_100_patients_within_their_groups(tmp_path):
    from data_scripts import acdc

    source = tmp_path / "training"
    for number in range(1, 101):
        place = source / f"patient{number:03d}"
        place.mkdir(parents=True)
        group = acdc.GROUPS[number % 5]
        (place / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: {group}\n")
    found = acdc.find(source)
    assert Counter(found.split_of.values()) == {"train": 40, "validation": 10, "test": 50}
    for group in acdc.GROUPS:
        splits = Counter(found.split_of[c.patient] for c in found.cases if c.group == group)
        assert splits == {"train": 8, "validation": 2, "test": 10}
    assert found.split_of == acdc.find(source).split_of
    assert found.split_of != acdc.find(source, seed=1).split_of


def test_brats2017(tmp_path):
    source = official.brats2017(tmp_path)
    dataset = converted("brats2017", source, tmp_path / "out")
    check_all_fit(dataset)
    names = [f"Brats17_CBICA_{who}_1" for who in official.BRATS["CBICA"]]
    names += [f"Brats17_TCIA_{who}_1" for who in official.BRATS["TCIA"]]
    assert [case.name for case in dataset.cases] == names
    for index, name in enumerate(names):
        for channel in range(3):  # T1, the first in the source, is left out
            check_place(tmp_path / "out", name, index, {1: 1, 2: 2, 4: 3}, channel, 4, channel + 1)
    assert {case.split for case in dataset.cases if case.domain == "TCIA"} == {"test"}
    cbica = Counter(case.split for case in dataset.cases if case.domain == "CBICA")
    assert cbica == {"train": 3, "validation": 1}


def test_brats2017_has_the_sizes_of_paper_a(tmp_path):
    from data_scripts import brats2017

    root = tmp_path / "HGG"
    for where, n in (("CBICA", 88), ("TCIA", 102), ("2013", 20)):
        for number in range(n):
            (root / f"Brats17_{where}_{number}_1").mkdir(parents=True)
    found = brats2017.find(tmp_path)
    splits = Counter(found.split_of.values())
    assert (splits["train"], splits["validation"], splits["test"]) == TASKS["brain"].split
    assert len(brats2017.find(tmp_path, domains="all").cases) == 210
    assert all("no such file" in case.problem for case in found.cases)


def test_brats2017_takes_all_grades_and_institutions_when_asked(tmp_path):
    source = official.brats2017(tmp_path)
    options = ("--grades", "all", "--domains", "all")
    dataset = converted("brats2017", source, tmp_path / "out", *options)
    assert dataset.domains == ("2013", "CBICA", "TCIA")
    assert len(dataset.cases) == 8


def test_promise12(tmp_path):
    source = official.promise12(tmp_path / "in")
    dataset = converted("promise12", source, tmp_path / "out")
    check_all_fit(dataset)
    assert {case.split for case in dataset.cases} == {"test"}
    for index in range(4):
        check_place(tmp_path / "out", f"Case{index:02d}", index, {1: 1})


def test_promise12_takes_coils_as_domains(tmp_path):
    source = official.promise12(tmp_path / "in")
    coils = tmp_path / "coils.csv"
    coils.write_text("case,coil\nCase00,yes\nCase01,no\nCase02,Yes\nCase03,no\n")
    options = ("--coils", coils, "--split", "drawn")
    dataset = converted("promise12", source, tmp_path / "out", *options)
    assert [c.domain for c in dataset.cases] == ["endorectal coil", "no coil"] * 2
    assert {case.split for case in dataset.cases} == {"train", "validation", "test"}


def test_sliver07(tmp_path):
    source = official.sliver07(tmp_path / "in")
    dataset = converted("sliver07", source, tmp_path / "out")
    check_all_fit(dataset)
    for index in range(4):
        check_place(tmp_path / "out", f"liver{index + 1:03d}", index, {1: 1}, offset=-500)


@pytest.mark.parametrize("task", [2, 4, 5, 7, 9])
def test_msd_as_one_organ(tmp_path, task):
    source = official.msd(tmp_path / "in", task)
    dataset = converted("msd", source, tmp_path / "out", "--task", task)
    check_all_fit(dataset)
    _, stem, modality, segments = official.MSD_TASKS[task]
    merged = dict.fromkeys(range(1, len(segments) + 1), 1)
    for index in range(5):
        check_place(tmp_path / "out", f"{stem}_{index + 1:03d}", index, merged, 0, len(modality))
    notes = json.loads((tmp_path / "out/dataset.json").read_text())["notes"]
    assert bool(notes) == (len(segments) > 1 or len(modality) > 1)


def test_msd_with_the_tasks_own_labels_and_channels(tmp_path):
    source = official.msd(tmp_path / "in", 5)
    dataset = converted("msd", source, tmp_path / "out", "--task", 5, "--segments", "own")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["task"] == ""
    assert (dataset.channels, dataset.segments) == (("T2", "ADC"), ("PZ", "TZ"))
    for channel in range(2):
        check_place(tmp_path / "out", "prostate_002", 1, {1: 1, 2: 2}, channel, 2, channel)


def test_msd_any_other_task_keeps_its_labels(tmp_path):
    source = official.msd(tmp_path / "in", 6)
    dataset = converted("msd", source / "Task06_Lung", tmp_path / "out", "--task", 6)
    assert dataset.segments == ("cancer",)


@pytest.mark.parametrize("kind", ["CT", "SPIR", "DUAL-in", "DUAL-out"])
def test_chaos(tmp_path, kind):
    """The masks of CT are named from top to bottom, against the positions; of MR with them."""
    source = official.chaos(tmp_path / "in")
    dataset = converted("chaos", source, tmp_path / "out", "--set", kind)
    check_all_fit(dataset)
    original = {"CT": 0, "SPIR": 0, "DUAL-in": 1, "DUAL-out": 2}[kind]
    offset = -300 * (kind == "CT")
    classes = {1: 1, 2: 0, 3: 0, 4: 0}
    for index, patient in enumerate((1, 2, 19, 34)):
        name = f"{kind}_{patient:02d}"
        check_place(tmp_path / "out", name, index, classes, 0, 3, original, offset)


def test_chaos_all_organs_of_all_sequences(tmp_path):
    source = official.chaos(tmp_path / "in") / "Train_Sets"
    options = ("--set", "MR", "--organs", "all")
    assert run_script("chaos", [str(source), str(tmp_path / "out"), *options]) == 0
    dataset = read_dataset(tmp_path / "out")
    assert dataset.domains == ("DUAL-in", "DUAL-out", "SPIR")
    assert dataset.segments == ("liver", "right kidney", "left kidney", "spleen")
    classes = {1: 1, 2: 2, 3: 3, 4: 4}
    for original, case in enumerate(("SPIR_19", "DUAL-in_19", "DUAL-out_19")):
        check_place(tmp_path / "out", case, 2, classes, 0, 3, original)
    split_of = {}
    for case in dataset.cases:
        assert split_of.setdefault(case.patient, case.split) == case.split


def test_chaos_grey_levels_are_ranges_and_what_lies_between_is_unknown():
    classes = classes_of("MR", "all")
    assert [classes.get(v) for v in (0, 55, 56, 63, 70, 71)] == [0, None, 1, 1, 1, None]
    assert [classes.get(v) for v in (126, 189, 252, 255)] == [2, 3, 4, 4]
    assert classes_of("CT", "liver") == {0: 0, 1: 1, 255: 1}


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = ["IMG-0004-00010.dcm", "IMG-0004-00002.dcm", "i0001,0000b.dcm", "i0000,0000b.dcm"]
    ordered = [path.name for path in by_number([tmp_path / name for name in names])]
    assert ordered == ["i0000,0000b.dcm", "i0001,0000b.dcm", names[1], names[0]]


@pytest.mark.parametrize("release", [1, 2, 3])
def test_dhcp(tmp_path, release):
    source = official.dhcp(tmp_path / "in", release)
    dataset = converted("dhcp", source, tmp_path / "out")
    check_all_fit(dataset)
    assert len(dataset.cases) == 5
    classes = {2: 1, 1: 0, 3: 0, 9: 0}
    check_place(tmp_path / "out", "sub-CC00071XX06_ses-27000", 1, classes)
    split_of = {}
    for case in dataset.cases:
        assert split_of.setdefault(case.patient, case.split) == case.split
    assert len(split_of) == 4


def test_dhcp_image_before_bias_correction(tmp_path):
    source = official.dhcp(tmp_path / "in")
    converted("dhcp", source, tmp_path / "out", "--image", "T2w")
    image = nib.load(tmp_path / "out/imagesTr/sub-CC00070XX05_ses-26700_0000.nii.gz")
    assert np.asarray(image.dataobj).max() == official.BRIGHTEST + 1


def test_feta(tmp_path):
    source = official.feta(tmp_path / "in")
    dataset = converted("feta", source, tmp_path / "out")
    check_all_fit(dataset)
    assert [case.domain for case in dataset.cases] == ["mial"] * 3 + ["irtk"] * 2
    for index in range(5):
        check_place(tmp_path / "out", f"sub-{index + 1:03d}", index, {2: 1, 1: 0, 3: 0, 7: 0})


def test_feta_by_age_and_with_all_tissues(tmp_path):
    source = official.feta(tmp_path / "in")
    options = ("--domain", "age", "--weeks", "26", "--segments", "all")
    arguments = [str(source / "feta_2.1"), str(tmp_path / "out"), *options]
    assert run_script("feta", arguments) == 0
    dataset = read_dataset(tmp_path / "out")
    assert [case.domain for case in dataset.cases] == ["younger fetus"] * 2 + ["older fetus"] * 3
    check_place(tmp_path / "out", "sub-002", 1, {2: 2, 1: 1, 3: 3, 7: 7})


def test_prostatex_with_the_masks_of_the_repository(tmp_path):
    source, masks = official.prostatex(tmp_path), official.prostatex_masks(tmp_path / "masks")
    dataset = converted("prostatex", source, tmp_path / "out", "--masks", masks)
    check_all_fit(dataset)
    assert [case.name for case in dataset.cases] == [f"ProstateX-{n:04d}" for n in range(4)]
    for index in range(4):
        check_place(tmp_path / "out", f"ProstateX-{index:04d}", index, {1: 1}, n_channels=2)


def test_prostatex_takes_the_series_that_the_list_names_among_two_on_one_grid(tmp_path, capsys):
    source, masks = official.prostatex(tmp_path), official.prostatex_masks(tmp_path / "masks")
    patients = [
        sorted((source / f"PROSTATEx/ProstateX-000{k}").glob("*/5*tra*"))[0] for k in (0, 2)
    ]
    shutil.copytree(patients[0], patients[0].with_name("9-t2tsetra-55555"))  # a repetition
    patients[1].rename(patients[1].with_name("8-t2tsetra-98209"))  # not the one that was contoured
    arguments = [str(source), str(tmp_path / "out"), "--masks", str(masks)]
    assert run_script("prostatex", arguments) == 1
    printed = capsys.readouterr().out
    assert "ProstateX-0002: found no axial T2 series with the number 5" in printed
    assert "3 complete" in printed


def test_prostatex_with_meyers_zones_finds_the_series_by_its_grid(tmp_path):
    source, masks = official.prostatex(tmp_path), official.meyer_masks(tmp_path / "masks")
    dataset = converted("prostatex", source, tmp_path / "out", "--masks", masks)
    check_all_fit(dataset)
    for index in range(4):
        label = nib.load(tmp_path / f"out/labelsTr/ProstateX-{index:04d}.nii.gz")
        _, zones, affine = official.make_case(index, (1, 2, 3, 4))
        place = official.place_of(np.asarray(label.dataobj) == 1, label.affine)
        np.testing.assert_allclose(place, official.place_of(zones > 0, affine), atol=0.02)
        image = nib.load(tmp_path / f"out/imagesTr/ProstateX-{index:04d}_0000.nii.gz")
        first_series = official.make_case(index, n_channels=2)[0][0]
        assert sorted(np.asarray(image.dataobj).ravel()) == sorted(first_series.ravel())


def test_pairs(tmp_path):
    rows = ["case,image:T2,image:ADC,label,patient,domain"]
    for index, ending in enumerate((".nii.gz", ".mha", ".nrrd", ".nii.gz")):
        channels, labels, affine = official.make_case(index, (5, 7), n_channels=2)
        names = [f"{kind}{index}{ending}" for kind in ("t2", "adc", "label")]
        for name, array in zip(names, (*channels, labels), strict=True):
            write = official.write_nifti if ending == ".nii.gz" else official.write_metaimage
            write(tmp_path / "in" / name, array, affine)
        rows.append(f"case{index},{','.join(names)},patient{min(index, 2)},site{index % 2}")
    (tmp_path / "in" / "pairs.csv").write_text("\n".join(rows) + "\n")
    options = ("--classes", "zone=5", "lesion=7")
    arguments = [str(tmp_path / "in"), str(tmp_path / "out"), *options]
    assert run_script("pairs", arguments) == 0
    dataset = read_dataset(tmp_path / "out")
    assert (dataset.channels, dataset.segments) == (("T2", "ADC"), ("zone", "lesion"))
    assert dataset.domains == ("site0", "site1")
    for index in range(4):
        for channel in range(2):
            check_place(tmp_path / "out", f"case{index}", index, {5: 1, 7: 2}, channel, 2, channel)
    assert {c.split for c in dataset.cases if c.patient == "patient2"} in (
        {"train"},
        {"validation"},
        {"test"},
    )


CAPITALS = {
    "promise12": (official.promise12, (".mhd",)),
    "sliver07": (official.sliver07, (".mhd",)),
    "chaos --set CT": (official.chaos, (".dcm", ".png")),
    "feta": (official.feta, (".nii.gz",)),
    "prostatex": (official.prostatex, (".dcm",)),
}


@pytest.mark.parametrize("command", CAPITALS)
def test_endings_in_capitals_are_the_same_files(tmp_path, command):
    make, endings = CAPITALS[command]
    (script, *options), source = command.split(), make(tmp_path / "in")
    if script == "prostatex":
        masks = official.prostatex_masks(tmp_path / "masks")
        options, endings = ("--masks", masks), (*endings, ".nii.gz")
    for path in [path for path in tmp_path.rglob("*.*") if path.is_file()]:
        for ending in endings:
            if path.name.endswith(ending):
                path.rename(path.with_name(path.name.removesuffix(ending) + ending.upper()))
    dataset = converted(script, source, tmp_path / "out", *options)
    check_all_fit(dataset)
    assert len(dataset.cases) >= 4


def test_every_dataset_names_a_task_that_exists():
    from data_scripts.__main__ import all_facts

    for facts in all_facts():
        assert facts.task in ("", *TASKS)
        assert all((facts.title, facts.licence, facts.obtain, facts.organ, facts.size))


def test_every_script_with_facts_is_in_the_table():
    from data_scripts.__main__ import SCRIPTS

    folder = Path(data_scripts.__file__).parent
    found = [path.stem for path in folder.glob("*.py") if "\nFACTS = " in path.read_text()]
    assert set(found) <= set(SCRIPTS)


def test_the_readme_is_what_the_scripts_say(tmp_path):
    from data_scripts.__main__ import README, TABLES
    from segcal_lite.kit.results.published import fill_readme

    copy = Path(shutil.copy(README, tmp_path))
    fill_readme(copy, TABLES)
    assert copy.read_text(encoding="utf-8") == README.read_text(encoding="utf-8")
