import json
import logging
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from segcal_lite._checks import IGNORED
from segcal_lite.data.cases import case_names
from segcal_lite.data.datasets import check_case, load_case, read_dataset, task_of
from segcal_lite.data.splits import (
    DEFAULT_COUNTS,
    SPLITS,
    keep_together,
    same_images,
    split_by_patient,
)
from segcal_lite.data.tasks import TASKS

NAMES = tuple("abcdef")
SPACING_MM = (1.5, 1.25, 5.0)


def write(path, data, spacing_mm=SPACING_MM):
    """Write a NIfTI file with nibabel alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*spacing_mm, 1.0])), path)


def write_files(folder, n_channels=1, values=(1,), names=NAMES, ending=".nii.gz"):
    """Write images that differ, and labels that hold every value once, in nnU-Net's form."""
    for number, name in enumerate(names):
        labels = np.zeros((4, 4, 2), dtype=np.uint8)
        labels[: len(values), 0, 0] = values
        write(folder / "labelsTr" / f"{name}{ending}", labels)
        for channel in range(n_channels):
            data = np.full((4, 4, 2), channel, dtype=np.float32)
            data[-1, -1, -1] += number
            write(folder / "imagesTr" / f"{name}_{channel:04d}{ending}", data)


def write_json(folder, channels=("T2",), labels=None, **more):
    """Write dataset.json in nnU-Net's form."""
    fields = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "prostate": 1},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(fields | more))


def write_table(folder, columns, *rows):
    """Write cases.csv."""
    (folder / "cases.csv").write_text("\n".join([columns, *rows]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Hold six cases of one channel and one segment in nnU-Net's layout."""
    path = tmp_path / "Dataset001"
    path.mkdir()
    write_files(path)
    write_json(path)
    return path


def names_by_split(dataset):
    return {name: [c.name for c in dataset.cases if c.split == name] for name in SPLITS}


def test_nnunet_layout(folder):
    dataset = read_dataset(folder)
    assert (dataset.folder, dataset.name) == (folder, "Dataset001")
    assert (dataset.channels, dataset.segments) == (("T2",), ("prostate",))
    assert dataset.label_values == (0, 1)
    assert tuple(case.name for case in dataset.cases) == NAMES
    first = dataset.cases[0]
    assert first.image_paths == (folder / "imagesTr" / "a_0000.nii.gz",)
    assert first.label_path == folder / "labelsTr" / "a.nii.gz"
    assert (first.domain, first.patient, first.posterior_path) == ("source", "a", None)
    assert dataset.domains == ("source",)
    image, labels, _ = load_case(dataset, first)
    assert image.shape == (1, 4, 4, 2)
    assert labels.sum() == 1


def test_name_of_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    dataset = read_dataset(".")
    assert dataset.name == "Dataset001"
    assert dataset.fingerprint() == read_dataset(folder).fingerprint()


def test_channels_keep_their_order(folder):
    write_files(folder, n_channels=3)
    write_json(folder, ("T1", "T2", "FLAIR"))
    dataset = read_dataset(folder)
    image, _, _ = load_case(dataset, dataset.cases[2])
    assert image[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_uncompressed_files(tmp_path):
    write_files(tmp_path, ending=".nii")
    write_json(tmp_path, file_ending=".nii")
    dataset = read_dataset(tmp_path)
    assert dataset.cases[0].label_path.name == "a.nii"
    check_case(dataset, dataset.cases[0])


def write_msd(folder, training):
    """Write six cases of two channels in MSD's form; return dataset.json's fields."""
    for number, name in enumerate(NAMES):
        data = np.full((4, 4, 3, 2), number, dtype=np.float32)
        write(folder / "imagesTr" / f"{name}.nii.gz", data)
        write(folder / "labelsTr" / f"{name}.nii.gz", np.ones((4, 4, 3), dtype=np.uint8))
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"not a volume")
        (folder / "labelsTr" / f"._{name}.nii.gz").write_bytes(b"not a volume")
    files = [f"{name}.nii.gz" for name in training]
    fields = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": f"./imagesTr/{f}", "label": f"./labelsTr/{f}"} for f in files],
    }
    (folder / "dataset.json").write_text(json.dumps(fields))


def test_msd_layout(tmp_path):
    write_msd(tmp_path, NAMES)
    dataset = read_dataset(tmp_path)
    assert (dataset.channels, dataset.segments) == (("T2", "ADC"), ("PZ", "TZ"))
    assert tuple(case.name for case in dataset.cases) == NAMES
    assert load_case(dataset, dataset.cases[0])[0].shape == (2, 4, 4, 3)
    assert len(dataset.notes) == 1


def test_training_list_decides_which_cases(tmp_path):
    write_msd(tmp_path, "cfab")
    dataset = read_dataset(tmp_path)
    assert "".join(case.name for case in dataset.cases) == "abcf"
    assert dataset.notes[0] == "dataset.json does not name, so left out: d, e"


def test_training_list_names_a_case_that_is_not_there(tmp_path):
    write_msd(tmp_path, "abcdefg")
    with pytest.raises(ValueError, match="labelsTr.g.nii.gz: found no such file, expected the la"):
        read_dataset(tmp_path)


def test_case_table(folder):
    rows = ["f,A,train", "a,A,validation", "c,B,test", "e,B,train"]
    write_table(folder, "case,domain,split", *rows)
    dataset = read_dataset(folder)
    found = [f"{case.name},{case.domain},{case.split}" for case in dataset.cases]
    assert found == sorted(rows)
    assert dataset.domains == ("A", "B")
    assert dataset.notes == ("cases.csv does not name, so left out: b, d",)


def test_a_case_table_may_name_cases_that_nnunet_keeps_for_tests(folder):
    for below in ("imagesTr", "labelsTr"):
        (folder / f"{below[:-1]}s").mkdir()
        for name in "aef":  # one name is in both folders
            of = f"{name}_0000" if below == "imagesTr" else name
            shutil.copy(folder / below / f"{of}.nii.gz", folder / f"{below[:-1]}s")
            if name != "a":
                (folder / below / f"{of}.nii.gz").unlink()
    write_json(folder, numTraining=4)
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == list("abcd")
    assert dataset.notes[0].startswith(
        "not read of labelsTs: a.nii.gz, e.nii.gz, f.nii.gz; to test"
    )
    write_table(folder, "case", *"abcde")
    with pytest.raises(ValueError, match="no column split, expected one, for it names .* e"):
        read_dataset(folder)
    rows = ["a,train", "b,train", "c,val", "d,val", "e,test"]
    write_table(folder, "case,split", *rows)
    dataset = read_dataset(folder)
    assert {case.name: case.split for case in dataset.cases}["e"] == "test"
    (note,) = dataset.notes
    assert note.startswith("not read of labelsTs: a.nii.gz, f.nii.gz; to test")
    paths = {case.name: (*case.image_paths, case.label_path) for case in dataset.cases}
    assert paths["a"][1] == folder / "labelsTr" / "a.nii.gz"
    assert paths["e"] == (
        folder / "imagesTs" / "e_0000.nii.gz",
        folder / "labelsTs" / "e.nii.gz",
    )
    assert case_names(folder) == list("abcde")
    assert load_case(dataset, dataset.cases[-1])[0].max() == 4
    (folder / "imagesTs" / "e_0000.nii.gz").unlink()
    with pytest.raises(ValueError, match="imagesTs, e: found channels none"):
        read_dataset(folder)


def test_names_are_the_same_however_their_accents_are_written(folder):
    two_letters, one_letter = "mu\u0308ller", "m\u00fcller"
    write_files(folder, names=(*NAMES, two_letters))
    paths = [folder / "imagesTr" / f"{two_letters}_0000.nii.gz"]
    posterior = folder / "posteriorsTr" / f"{two_letters}.nii.gz"
    write(posterior, np.ones((4, 4, 2, 2), dtype=np.float32))
    before = read_dataset(folder).fingerprint()
    for written in (two_letters, one_letter):
        rows = [f"{name},p{n}" for n, name in enumerate(["a", "b", "c", written])]
        write_table(folder, "case,patient", *rows)
        case = read_dataset(folder).cases[-1]
        assert (case.name, list(case.image_paths)) == (one_letter, paths)
        assert case.posterior_path == posterior
        assert [c.name for c in read_dataset(folder, leave_out=[written]).cases] == list("abc")
    (folder / "cases.csv").unlink()
    listed = {
        name: {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"}
        for name in ("a", "b", two_letters)
    }
    write_json(folder, dataset=listed)
    assert read_dataset(folder).cases[-1].name == one_letter
    write_json(folder, dataset=listed | {one_letter: listed["a"]})
    with pytest.raises(ValueError, match="expected names that differ by more than"):
        read_dataset(folder)
    write_json(folder)
    for below in ("imagesTr", "labelsTr", "posteriorsTr"):
        for path in (folder / below).glob(f"{two_letters}*"):
            path.rename(path.with_name(path.name.replace(two_letters, one_letter)))
    assert read_dataset(folder).fingerprint() == before  # a copy of another system


def test_case_table_without_split_is_drawn(folder, caplog):
    write_table(folder, "case,domain", *[f"{name},{name > 'c'}" for name in NAMES])
    with caplog.at_level(logging.INFO, logger="segcal_lite"):
        dataset = read_dataset(folder, seed=3, split=(3, 1, 2))
    note = "no split in cases.csv: seed 3 drew 3 train, 1 validation, 2 test patients for "
    assert dataset.notes == (note + "(3, 1, 2), domains mixed",)
    assert [record.getMessage() for record in caplog.records] == [f"Dataset001: {dataset.notes[0]}"]
    assert {case.name: case.split for case in dataset.cases} == split_by_patient(
        NAMES, (3, 1, 2), 3
    )


def test_split_is_by_patient(folder):
    patients = {"a": "p", "b": "q", "c": "q", "d": "r", "e": "p", "f": "p"}
    write_table(folder, "case,patient", *[f"{name},{p}" for name, p in patients.items()])
    seen = set()
    for seed in range(12):
        dataset = read_dataset(folder, seed=seed)
        assert {case.name: case.patient for case in dataset.cases} == patients
        split_of = {case.patient: case.split for case in dataset.cases}
        assert all(case.split == split_of[case.patient] for case in dataset.cases)
        assert sorted(split_of.values()) == sorted(SPLITS)
        seen.add(split_of["p"])
    assert seen == set(SPLITS)


def copy_image(folder, name, onto):
    """Let two cases have the same image; the labels stay."""
    shutil.copy(*(folder / "imagesTr" / f"{case}_0000.nii.gz" for case in (name, onto)))


def test_cases_of_one_image_stay_together_where_splits_are_drawn(folder):
    copy_image(folder, "b", "e")
    write_table(folder, "case,patient", *(f"{n},{p}" for n, p in zip(NAMES, "ABCDEE", strict=True)))
    for seed in range(10):
        dataset = read_dataset(folder, seed=seed)
        split_of = {case.name: case.split for case in dataset.cases}
        assert split_of["b"] == split_of["e"] == split_of["f"]
    assert [case.patient for case in dataset.cases] == list("ABCDBB")
    note = "b and e hold the same image, which stays in one split"
    assert note in dataset.notes and "drew 2 train, 1 validation, 1 test" in dataset.notes[-1]


def test_splits_that_part_cases_of_one_image_are_kept_and_noted(folder):
    copy_image(folder, "b", "e")
    splits = ("train", "train", "validation", "test", "test", "train")
    write_table(folder, "case,split", *(f"{n},{s}" for n, s in zip(NAMES, splits, strict=True)))
    dataset = read_dataset(folder)
    assert tuple(case.split for case in dataset.cases) == splits
    assert [case.patient for case in dataset.cases] == list(NAMES)
    end = "hold the same image: these splits are not independent"
    assert dataset.notes == (f"b (train) and e (test) {end}",)


def test_one_image_under_many_names_cannot_be_split(folder):
    for name in NAMES[2:]:
        copy_image(folder, "a", name)
    expected = "at least 3, or splits of your own in cases.csv"
    found = "found 2 patients, if those with the same image count as one"
    assert f"{found}, expected {expected}" in message_of(folder)


def test_a_note_about_many_cases_names_one_of_each_split():
    rows = [{"case": name, "split": "train"} for name in "abcd"] + [{"case": "e", "split": "test"}]
    note = "a (train) and e (test) and 3 more hold the same image: these splits are not independent"
    assert keep_together(rows, [tuple("abcde")]) == (rows, [note])


@pytest.mark.parametrize("channel", [0, 1])
def test_images_that_share_one_channel_only_are_two(tmp_path, channel):
    paths = {name: [tmp_path / f"{name}{n}" for n in (0, 1)] for name in "abc"}
    for name in "ab":
        for number, path in enumerate(paths[name]):
            path.write_bytes(f"{name}{number}".encode())
    shutil.copy(paths["a"][channel], paths["b"][channel])
    assert same_images(paths) == []  # of c no file is there
    shutil.copy(paths["a"][1 - channel], paths["b"][1 - channel])
    assert same_images(paths | {"d": []}) == [("a", "b")]
    for path in (*paths["b"], *paths["c"]):
        path.write_bytes(b"")  # a broken download is no image
    assert same_images(paths) == []


def test_counts_of_the_split(folder):
    default = {n: len(c) for n, c in names_by_split(read_dataset(folder)).items()}
    assert default == {"train": 3, "validation": 1, "test": 2}  # 60 : 10 : 30 of six
    by_task = {n: len(c) for n, c in names_by_split(read_dataset(folder, "prostate")).items()}
    assert by_task == {"train": 2, "validation": 1, "test": 3}  # 16 : 4 : 20 of six
    given = names_by_split(read_dataset(folder, "prostate", split=(4, 1, 1)))
    assert len(given["train"]) == 4
    assert f"for {DEFAULT_COUNTS}" in read_dataset(folder).notes[0]


def test_seed_decides(folder):
    drawn = [read_dataset(folder, seed=seed, split=(2, 2, 2)) for seed in range(8)]
    assert len({json.dumps(names_by_split(dataset)) for dataset in drawn}) > 3
    assert read_dataset(folder, seed=5) == read_dataset(folder, seed=5)


def test_external_test_set(folder):
    write_table(folder, "case,split", *[f"{name},test" for name in NAMES])
    dataset = read_dataset(folder)
    assert {case.split for case in dataset.cases} == {"test"}
    assert task_of(dataset).split == (0, 0, 6)


def test_posteriors(folder):
    write(folder / "posteriorsTr" / "b.nii.gz", np.ones((4, 4, 2, 2), dtype=np.float32))
    cases = read_dataset(folder).cases
    expected = [folder / "posteriorsTr" / "b.nii.gz" if name == "b" else None for name in NAMES]
    assert [case.posterior_path for case in cases] == expected


def test_posteriors_are_found_and_told_alike_however_the_folder_is_written(folder, monkeypatch):
    write(folder / "posteriorsTr" / "b.nii.gz", np.ones((4, 4, 2, 2), dtype=np.float32))
    whole = read_dataset(folder)
    for place, name in ((folder.parent, folder.name), (folder, ".")):
        monkeypatch.chdir(place)
        dataset = read_dataset(name)
        assert dataset.fingerprint() == whole.fingerprint()
        assert [case.posterior_path is not None for case in dataset.cases] == [
            name == "b" for name in NAMES
        ]


def test_a_list_whose_files_lie_in_the_current_folder(tmp_path, monkeypatch):
    for index in range(3):
        shape = np.indices((6, 6, 3)).sum(axis=0)
        write(tmp_path / f"i{index}.nii.gz", (shape + index).astype(np.float32))
        write(tmp_path / f"l{index}.nii.gz", (shape > 5).astype(np.uint8))
    files = {f"c{k}": {"images": [f"i{k}.nii.gz"], "label": f"l{k}.nii.gz"} for k in range(3)}
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1}}
    described |= {"numTraining": 3, "file_ending": ".nii.gz", "dataset": files}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    monkeypatch.chdir(tmp_path)
    assert len(read_dataset(".").cases) == 3


def test_label_values_with_gaps_are_renumbered(tmp_path):
    write_files(tmp_path, values=(5, 1, 5))
    write_json(tmp_path, labels={"background": 0, "far": 5, "near": 1})
    dataset = read_dataset(tmp_path)
    assert dataset.segments == ("near", "far")
    assert dataset.label_values == (0, 1, 5)
    assert dataset.notes[0] == "label values [0, 1, 5] become classes 0 to 2"
    assert load_case(dataset, dataset.cases[0])[1][:, 0, 0].tolist() == [2, 1, 2, 0]


def test_without_dataset_json(tmp_path):
    write_files(tmp_path, n_channels=2, values=(1, 4))
    write(tmp_path / "labelsTr" / "b.nii.gz", np.full((4, 4, 2), 6, dtype=np.uint8))
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("channel 0", "channel 1")
    assert dataset.segments == ("label 1", "label 4", "label 6")
    both = "channels channel 0, channel 1 and segments label 1, label 4, label 6"
    assert dataset.notes[0] == f"no dataset.json: {both} come from the files"
    assert dataset.notes[1] == "label values [0, 1, 4, 6] become classes 0 to 3"
    check_case(dataset, dataset.cases[1])


@pytest.mark.parametrize(("shape", "n_channels"), [((4, 4, 3), 1), ((4, 4, 3, 2), 2)])
def test_without_dataset_json_in_msd_form(tmp_path, shape, n_channels):
    for number, name in enumerate(NAMES):
        data = np.full(shape, number, dtype=np.float32)
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", data)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((4, 4, 3), dtype=np.uint8))
    dataset = read_dataset(tmp_path)
    assert len(dataset.channels) == n_channels
    check_case(dataset, dataset.cases[0])


def test_without_dataset_json_but_with_a_task(tmp_path):
    write_files(tmp_path, values=(1, 3))
    dataset = read_dataset(tmp_path, "heart")
    assert (dataset.channels, dataset.segments) == (("cine MR",), ("RV", "MYO", "LV"))
    assert dataset.label_values == (0, 1, 2, 3)
    assert dataset.notes[0].endswith("segments RV, MYO, LV come from task heart")


def test_task_with_other_names_is_announced(folder):
    write_json(folder, ("ADC",), {"background": 0, "gland": 1})
    dataset = read_dataset(folder, "prostate")
    assert dataset.channels == ("ADC",)
    assert dataset.notes[:2] == (
        "channels ADC stand for T2 of task prostate",
        "segments gland stand for prostate of task prostate",
    )
    assert task_of(dataset, "prostate") is TASKS["prostate"]


def test_task_with_the_same_names_is_not(folder):
    assert len(read_dataset(folder, TASKS["prostate"]).notes) == 1


def test_task_of_the_users_own(folder):
    own = replace(TASKS["prostate"], name="own", split=(4, 1, 1))
    dataset = read_dataset(folder, own)
    assert [case.split for case in dataset.cases].count("train") == 4
    assert task_of(dataset, own) is own


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("liver", "^task: found 'liver', expected one of 'brain', 'heart', 'prostate'"),
        ("heart", "^task heart: found 1 segments in the data .*, expected 3 "),
        ("brain", "^task brain: found 1 channels in the data .*, expected 3 "),
    ],
)
def test_task_that_does_not_fit(folder, task, message):
    dataset = read_dataset(folder)
    for use in (lambda: read_dataset(folder, task), lambda: task_of(dataset, task)):
        with pytest.raises(ValueError, match=message):
            use()


def test_task_of_the_headers(folder):
    for name, spacing_mm in (("a", (3.0, 2.0, 1.0)), ("b", (0.799999, 0.5, 9.0))):
        write(folder / "labelsTr" / f"{name}.nii.gz", np.ones((4, 4, 2), np.uint8), spacing_mm)
    task = task_of(read_dataset(folder, split=(3, 1, 2)))
    assert task.name == "Dataset001"
    assert (task.channels, task.segments) == (("T2",), ("prostate",))
    assert task.spacing_mm == (1.5, 1.25, None)
    assert (task.dice_weights, task.batch_size, task.split) == ((1.0,), 32, (3, 1, 2))


def test_task_of_an_even_number_of_headers_is_rounded(tmp_path):
    write_files(tmp_path)
    for name in NAMES:
        spacing_mm = (0.799999, 0.5 if name < "d" else 0.7, 1.0)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((4, 4, 2), np.uint8), spacing_mm)
    assert task_of(read_dataset(tmp_path)).spacing_mm == (0.8, 0.6, None)


def message_of(folder, **arguments):
    with pytest.raises(ValueError) as error:
        read_dataset(folder, **arguments)
    message = str(error.value)
    assert message.count("found") == message.count("expected") == 1
    return message.removeprefix(str(folder)).replace("\\", "/")


def test_missing_folder(tmp_path):
    message = message_of(tmp_path / "none")
    assert message == ": found no such folder, expected a dataset with imagesTr and labelsTr."


def test_no_volumes(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    write_json(tmp_path)
    message = message_of(tmp_path)
    assert message == ": found no volume in imagesTr and labelsTr, expected at least one case."


def test_missing_label(folder):
    (folder / "labelsTr" / "c.nii.gz").unlink()
    message = message_of(folder)
    assert message == "/labelsTr/c.nii.gz: found no such file, expected the label of c."


def test_missing_image(folder):
    (folder / "imagesTr" / "c_0000.nii.gz").unlink()
    message = message_of(folder)
    assert message == "/imagesTr, c: found channels none, expected 1, from 0000 on: T2."


@pytest.mark.parametrize("task", [None, "prostate"])
@pytest.mark.parametrize("kind", ["imagesTr", "labelsTr"])
def test_missing_file_without_dataset_json(folder, kind, task):
    (folder / "dataset.json").unlink()
    (folder / kind / f"c{'_0000' * (kind == 'imagesTr')}.nii.gz").unlink()
    assert message_of(folder, task=task).startswith(f"/{kind}")


def test_missing_and_extra_channels(folder):
    write_files(folder, n_channels=2)
    assert "/imagesTr, a: found channels 0000, 0001, expected 1, from" in message_of(folder)
    write_json(folder, ("T1", "T2", "FLAIR"))
    assert "a: found channels 0000, 0001, expected 3, from 0000 on: T1, T2" in message_of(folder)
    write_json(folder, ("T1", "T2"))
    (folder / "imagesTr" / "e_0000.nii.gz").unlink()
    assert "/imagesTr, e: found channels 0001, expected 2" in message_of(folder)


def test_both_forms_of_one_image(folder):
    write(folder / "imagesTr" / "b.nii.gz", np.ones((4, 4, 2), dtype=np.float32))
    assert "b: found channels all in one, 0000, expected 1" in message_of(folder)


def test_case_of_the_table_that_is_not_there(folder):
    write_table(folder, "case", *NAMES, "g")
    assert "/labelsTr/g.nii.gz: found no such file" in message_of(folder)


def test_case_of_the_table_that_leads_elsewhere(folder):
    write_table(folder, "case", *NAMES, "../labelsTr/a")
    assert "/cases.csv, line 8, case: found '../labelsTr/a'" in message_of(folder)


def test_patient_in_two_splits(folder):
    rows = ["a,p,train", "b,q,validation", "c,p,test"]
    write_table(folder, "case,patient,split", *rows)
    assert message_of(folder) == "patient p: found cases in test and train, expected one split."


def test_split_without_patient(folder):
    write_table(folder, "case,split", "a,train", "b,test")
    assert message_of(folder).startswith("split validation: found no patient")


def test_too_few_patients(folder):
    write_table(folder, "case,patient", *[f"{name},{name > 'c'}" for name in NAMES])
    assert message_of(folder).startswith("split: found 2 patients, expected at least 3")


def test_split_given_twice(folder):
    write_table(folder, "case,split", "a,train", "b,test", "c,validation")
    message = message_of(folder, split=(1, 1, 1))
    assert message.endswith("expected None, because cases.csv assigns the splits.")


def test_labels_without_any_segment(tmp_path):
    write_files(tmp_path, values=(0,))
    assert message_of(tmp_path).startswith("/labelsTr: found only 0, expected values")


def test_labels_that_cannot_be_read_say_why_where_no_description_names_segments(tmp_path):
    write_files(tmp_path)
    for path in (tmp_path / "labelsTr").iterdir():
        write(path, np.full((4, 4, 2), 0.5, dtype=np.float32))
    with pytest.raises(ValueError, match="labelsTr/a.nii.gz: found fractions"):
        read_dataset(tmp_path, problems={})


def test_endings_in_capitals_are_read(folder):
    write_files(folder, names="g", ending=".NII.GZ")
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == [*NAMES, "g"]
    assert load_case(dataset, dataset.cases[-1])[0].shape == (1, 4, 4, 2)


def test_files_that_are_not_read_are_named(folder):
    for name in ("imagesTr/g_0000.mgz", "labelsTr/g.mgz", "labelsTr/.hidden"):
        (folder / name).touch()
    notes = read_dataset(folder).notes
    assert notes[0] == (
        "files that belong to no case, not read: imagesTr/g_0000.mgz, labelsTr/g.mgz"
    )


def test_many_files_that_are_not_read_are_counted(folder):
    for number in range(30):
        (folder / f"imagesTr/p{number:02d}.png").touch()
    assert read_dataset(folder).notes[0].endswith(", imagesTr/p09.png and 20 more")


def test_fewer_cases_than_announced_are_refused(folder):
    write_json(folder, numTraining=len(NAMES))
    assert len(read_dataset(folder).cases) == len(NAMES)
    write_json(folder, numTraining=99)
    (folder / "imagesTr/g_0000.mgz").touch()
    assert message_of(folder) == (
        "/dataset.json, numTraining: found 99 announced and 6 in imagesTr and labelsTr "
        "(not read: imagesTr/g_0000.mgz), expected one number; add what is missing, correct it, "
        "or name the cases in cases.csv."
    )


@pytest.mark.parametrize("listed", ["cases.csv", "training", "dataset"])
def test_where_a_list_says_which_cases_the_announced_number_is_compared_in_a_note(folder, listed):
    write_json(folder, numTraining=99)
    if listed == "cases.csv":
        write_table(folder, "case", *NAMES)
    elif listed == "dataset":
        write_json(folder, numTraining=99, dataset=listed_files(NAMES))
    else:
        files = [f"{name}.nii.gz" for name in NAMES]
        pairs = [{"image": f"./imagesTr/{f}", "label": f"./labelsTr/{f}"} for f in files]
        write_json(folder, numTraining=99, training=pairs)
    dataset = read_dataset(folder)
    assert dataset.notes[0] == "numTraining in dataset.json announces 99 cases, found 6"


def listed_files(names, images="imagesTr", labels="labelsTr"):
    """Return what ``dataset`` says of cases of one channel; their names differ from the files'."""
    return {
        f"{name}-case": {
            "images": [f"{images}/{name}_0000.nii.gz"],
            "label": f"{labels}/{name}.nii.gz",
        }
        for name in names
    }


def test_listed_files(folder):
    write_json(folder, dataset=listed_files("fbca"))
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["a-case", "b-case", "c-case", "f-case"]
    assert dataset.cases[0].image_paths == (folder / "imagesTr" / "a_0000.nii.gz",)
    assert load_case(dataset, dataset.cases[3])[0].max() == NAMES.index("f")
    unread = "imagesTr/d_0000.nii.gz, imagesTr/e_0000.nii.gz, labelsTr/d.nii.gz, labelsTr/e.nii.gz"
    assert dataset.notes[0] == f"files that belong to no case, not read: {unread}"


def test_listed_files_elsewhere(folder, tmp_path):
    (folder / "imagesTr").rename(tmp_path / "scans")
    (folder / "labelsTr").rename(tmp_path / "masks")
    write_json(folder, dataset=listed_files(NAMES, tmp_path / "scans", "../masks"))
    dataset = read_dataset(folder)
    check_case(dataset, dataset.cases[0])
    assert dataset.cases[0].label_path == tmp_path / "masks" / "a.nii.gz"
    fingerprint = dataset.fingerprint()
    moved = shutil.copytree(folder, tmp_path / "deeper" / "set")
    shutil.copytree(tmp_path / "masks", tmp_path / "deeper" / "masks")
    assert read_dataset(moved).fingerprint() == fingerprint
    write(tmp_path / "deeper" / "masks" / "c.nii.gz", np.ones((4, 4, 2), np.uint8))
    assert read_dataset(moved).fingerprint() != fingerprint


def test_listed_files_belong_to_their_cases_by_whichever_way_the_folder_is_named(folder):
    write_json(folder, dataset=listed_files(NAMES))
    named, beside = read_dataset(folder), folder.parent / "beside"
    beside.mkdir(exist_ok=True)
    dotted = read_dataset(beside / ".." / folder.name)
    assert dotted.notes == named.notes
    assert dotted.fingerprint() == named.fingerprint()


def test_listed_files_that_are_not_there_or_too_few(folder):
    (folder / "labelsTr" / "b.nii.gz").unlink()
    write_json(folder, dataset=listed_files(NAMES))
    message = message_of(folder)
    assert message == "/labelsTr/b.nii.gz: found no such file, expected a volume of b-case."
    problems = {}
    dataset = read_dataset(folder, problems=problems)
    assert list(problems) == ["b-case"] and len(dataset.cases) == 5
    write_json(folder, ("T1", "T2"), dataset=listed_files("acd"))
    message = "/dataset.json, a-case: found channels 0000, expected 2, from 0000 on: T1, T2."
    assert message_of(folder) == message


REGIONS = {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "tip": 4}


def write_regions(folder, **labels):
    write_files(folder, values=(1, 2, 4))
    write_json(folder, labels=REGIONS | labels, regions_class_order=[1, 2, 4])


def test_regions(folder):
    write_regions(folder)
    dataset = read_dataset(folder)
    assert dataset.segments == ("whole", "core", "tip")
    assert dataset.label_values == (0, 1, 2, 4)
    assert (dataset.regions, dataset.region_order) == (((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    assert dataset.notes[1] == "segment whole is the region of label values 1, 2, 4"
    assert load_case(dataset, dataset.cases[0])[1][:, 0, 0].tolist() == [1, 2, 3, 0]
    task = task_of(dataset)
    assert (task.segments, task.regions) == (dataset.segments, dataset.regions)
    assert task.region_order == (1, 2, 3)
    assert task_of(read_dataset(folder, task), task) is task


def test_a_named_task_and_regions_exclude_each_other(folder):
    write_regions(folder)
    dataset = read_dataset(folder)
    found = (
        r"found regions \('whole', 'core', 'tip'\) in the data, expected the regions of the task;"
    )
    for use in (lambda: read_dataset(folder, "heart"), lambda: task_of(dataset, "heart")):
        with pytest.raises(ValueError, match=f"^task heart: {found} without a task they come"):
            use()
    write_json(folder, labels={"background": 0, "whole": 1, "core": 2, "tip": 4})
    with pytest.raises(ValueError, match="found classes that exclude each other in the data"):
        read_dataset(folder, task_of(dataset))


def test_an_ignore_label(folder):
    write_files(folder, values=(1, 3, 7))
    write_json(folder, labels={"background": 0, "b": 3, "a": 1, "ignore": 7})
    dataset = read_dataset(folder)
    assert dataset.segments == ("a", "b")
    assert (dataset.label_values, dataset.ignore_value) == ((0, 1, 3), 7)
    assert dataset.notes[1] == "label value 7, ignore, is left out of losses, scores and boxes"
    labels = load_case(dataset, dataset.cases[0])[1]
    assert labels.dtype == np.int16
    assert labels[:, 0, 0].tolist() == [1, 2, IGNORED, 0]
    write_json(folder, labels={"background": 0, "b": 3, "a": 1, "c": 7})
    assert read_dataset(folder).fingerprint() != dataset.fingerprint()


def test_an_ignore_label_beside_a_named_task_and_regions(folder):
    write_files(folder, values=(1, 2))
    write_json(folder, labels={"background": 0, "prostate": 1, "ignore": 2})
    dataset = read_dataset(folder, "prostate")
    assert (dataset.segments, dataset.ignore_value) == (("prostate",), 2)
    write_regions(folder, ignore=5)
    assert read_dataset(folder).ignore_value == 5


def test_cases_left_out_by_name(folder):
    (folder / "labelsTr" / "c.nii.gz").unlink()
    whole = message_of(folder)
    assert whole == "/labelsTr/c.nii.gz: found no such file, expected the label of c."
    dataset = read_dataset(folder, leave_out=["e", "c"])
    assert "".join(case.name for case in dataset.cases) == "abdf"
    assert dataset.notes[0] == "left out by name: c, e"
    fewer = read_dataset(folder, leave_out=("c",))
    assert fewer.fingerprint() != dataset.fingerprint()
    assert read_dataset(folder, leave_out=["c"]).fingerprint() == fewer.fingerprint()


def test_what_is_left_out_opens_no_file_and_changes_no_announced_number(folder):
    write_json(folder, numTraining=len(NAMES))
    assert len(read_dataset(folder, leave_out=["a"]).cases) == 5
    (folder / "dataset.json").unlink()
    (folder / "labelsTr" / "b.nii.gz").write_bytes(b"broken")
    assert len(read_dataset(folder, leave_out=["b"]).cases) == 5


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (["a", "x"], "leave_out: found x, expected cases of .*: a, b, c, d, e, f"),
        ("a", "leave_out: found 'a', expected a list of names"),
        ([2], r"leave_out: found \[2\], expected a list of names, each as text"),
        (list(NAMES), "leave_out: found all cases of .*, expected at least one that stays"),
    ],
)
def test_names_that_cannot_be_left_out(folder, leave_out, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(folder, leave_out=leave_out)


def test_a_case_that_the_table_leaves_out_cannot_be_left_out_again(folder):
    write_table(folder, "case", *"abcde")
    assert case_names(folder) == list("abcde")
    with pytest.raises(ValueError, match="leave_out: found f, expected cases of"):
        read_dataset(folder, leave_out=["f"])


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION", "dev"])
def test_splits_by_other_names(folder, name):
    rows = ["a,Tr", f"b,{name}", "c,ts", "d,Training", "e,testing", "f,TRAIN"]
    write_table(folder, "case,split", *rows)
    dataset = read_dataset(folder)
    assert names_by_split(dataset) == {
        "train": ["a", "d", "f"],
        "validation": ["b"],
        "test": ["c", "e"],
    }


@pytest.mark.parametrize(
    ("name", "n_cases", "n_channels", "n_segments", "n_domains", "counts", "in_plane_mm"),
    [
        ("Task04_Hippocampus", 180, 1, 2, 1, (108, 18, 54), 1.0),
        ("TCGA_LGG", 52, 3, 1, 4, (31, 5, 16), 2.0),
        ("Fetal_CP", 46, 1, 8, 3, (28, 4, 14), 0.8),
        ("OpenKBP_CT", 36, 1, 5, 1, (22, 3, 11), 4.1325),
    ],
)
def test_real_layouts(
    name, n_cases, n_channels, n_segments, n_domains, counts, in_plane_mm, real_data
):
    dataset = read_dataset(real_data / name)
    assert len(dataset.cases) == n_cases
    assert (len(dataset.channels), len(dataset.segments)) == (n_channels, n_segments)
    assert dataset.label_values == tuple(range(n_segments + 1))
    assert len(dataset.domains) == n_domains
    task = task_of(dataset)
    assert task.spacing_mm == (in_plane_mm, in_plane_mm, None)
    assert task.split == counts
    for case in dataset.cases[:: len(dataset.cases) // 3]:
        image, labels, _ = load_case(dataset, case)
        assert image.shape == (n_channels, *labels.shape)
        assert set(np.unique(labels)) <= set(range(n_segments + 1))


def test_spacing_of_a_sagittal_acquisition_is_that_of_its_slices(discs, tmp_path):
    copy = shutil.copytree(discs, tmp_path / "sagittal")
    for path in copy.rglob("*.nii.gz"):
        volume = nib.load(path)
        turned = np.moveaxis(np.asarray(volume.dataobj), -1, 0)
        nib.save(nib.Nifti1Image(turned, np.diag([8.0, 2.0, 2.0, 1.0])), path)
    assert task_of(read_dataset(copy)).spacing_mm == (2.0, 2.0, None)


@pytest.mark.parametrize("name", ["dataset.json", "cases.csv"])
def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "nowhere")
    with pytest.raises(ValueError, match=f"{name}: found a link that leads nowhere"):
        read_dataset(folder)


def test_a_file_that_went_away_is_named_by_the_fingerprint(folder):
    dataset = read_dataset(folder)
    path = dataset.cases[0].label_path
    path.unlink()
    path.symlink_to(folder / "nowhere")
    with pytest.raises(ValueError, match=f"{path.name}: found no such file or directory"):
        dataset.fingerprint()
