import json
import time
from pathlib import Path

import pytest

from segcal_lite.data.layouts import (
    Description,
    find_file_ending,
    find_files,
    passed_over,
    read_description,
    read_layout,
    unread_files,
)

NNUNET = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "tumour": 1},
    "file_ending": ".nii.gz",
}
MSD = {
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "anterior", "2": "posterior"},
    "training": [
        {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
        {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"},
    ],
}


def write_json(folder, fields):
    text = fields if isinstance(fields, str) else json.dumps(fields)
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def test_without_dataset_json(tmp_path):
    assert read_description(tmp_path) is None


def test_nnunet_form(tmp_path):
    write_json(tmp_path, NNUNET)
    expected = Description(("tumour",), (0, 1), channels=("T1", "FLAIR"), file_ending=".nii.gz")
    assert read_description(tmp_path) == expected


def test_channels_are_in_numerical_order(tmp_path):
    channels = {str(number): f"c{number}" for number in reversed(range(11))}
    write_json(tmp_path, NNUNET | {"channel_names": channels})
    assert read_description(tmp_path).channels == tuple(f"c{number}" for number in range(11))


def test_msd_form(tmp_path):
    write_json(tmp_path, "\ufeff" + json.dumps(MSD))
    of_files = {"channels": ("MRI",), "file_ending": ".nii.gz", "training": ("b", "a")}
    expected = Description(("anterior", "posterior"), (0, 1, 2), **of_files)
    assert read_description(tmp_path) == expected


def test_segments_follow_label_values(tmp_path):
    write_json(tmp_path, NNUNET | {"labels": {"b": 5, "air": 0, "a": 1}})
    description = read_description(tmp_path)
    assert description.label_values == (0, 1, 5)
    assert description.segments == ("a", "b")


def change(key, value):
    return NNUNET | {key: value}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("{", "dataset.json: found unreadable text .*expected a JSON object"),
        ("[]", "dataset.json: found a list, expected a JSON object"),
        ('{"labels": {}, "labels": {}}', "dataset.json: found the key 'labels' twice"),
        ('{"labels": {"a": 1, "a": 2}}', "dataset.json: found the key 'a' twice"),
        (change("file_ending", ".jpg"), "file_ending: found '.jpg', expected one of '.nii.gz'"),
        (change("file_ending", None), "file_ending: found None, expected one of"),
        (change("dataset", {}), "dataset.json, dataset: found {}, expected cases such as"),
        (change("dataset", ["a"]), r"dataset.json, dataset: found \['a'\], expected cases such as"),
        (change("dataset", {"a/b": {}}), "dataset: found 'a/b', expected a plain name"),
        (change("dataset", {"..": {}}), "dataset: found '..', expected a plain name"),
        (change("dataset", {"a": "a.nii.gz"}), "dataset, a: found 'a.nii.gz', expected cases"),
        (change("dataset", {"a": {"images": ["a.nii.gz"]}}), "dataset, a: found {'images': .*"),
        (change("dataset", {"a": {"images": "a.nii.gz", "label": "b.nii"}}), "dataset, a: found"),
        (change("dataset", {"a": {"images": ["a.npy"], "label": "b.nii"}}), "dataset, a: found"),
        (change("numTraining", "5"), "numTraining: found '5', expected an integer of at least 0"),
        (change("numTraining", -1), "numTraining: found -1, expected an integer of at least 0"),
        (change("channel_names", {}), "channel_names: found {}, expected channels by number"),
        (change("channel_names", ["T1"]), r"channel_names: found \['T1'\]"),
        (change("channel_names", {"1": "T1"}), "channel_names: found {'1': 'T1'}"),
        (change("channel_names", {"0": 1}), "channel_names: found {'0': 1}"),
        ({"labels": {"background": 0, "a": 1}}, "channel_names: found None"),
        (MSD | {"modality": "MRI"}, "modality: found 'MRI', expected channels by number"),
        (change("labels", None), "labels: found None, expected background and at least one"),
        (change("labels", {"background": 0}), "labels: found .*, expected background and at"),
        (change("labels", {"background": 0, "whole": [1, 2]}), "regions_class_order: found None"),
        (change("labels", {"0": "background", "1": "Ignore"}), "background and at least one"),
        (change("labels", {"background": 0, "a": -1}), "found 'a': -1, expected names with int"),
        (change("labels", {"background": 0, "a": 1.0}), "found 'a': 1.0, expected names with"),
        (change("labels", {"background": 0, "a": True}), "found 'a': True, expected names with"),
        (change("labels", {"0": "background", "1": 1}), "found 1: 1, expected names with"),
        (change("labels", {"a": 1, "b": 2}), r"found values \[1, 2\], expected 0 for the back"),
        (change("labels", {"background": 0, "a": 1, "b": 1}), "each value once"),
        (change("labels", {"0": "a", "1": "b", "01": "c"}), "each value once"),
        (
            change("labels", {"background": 1, "ring": 0}),
            "'background': 1, expected 0 for the back",
        ),
        (change("labels", {"0": "ring", "1": "Background"}), "'Background': 1, expected 0 for"),
        (change("labels", {"background": 0, "a": 65536}), "'a': 65536, expected .* at most 65535"),
        (change("labels", {"0": "background", "9" * 5000: "a"}), "found 'a': 9999999999, expected"),
        ('{"numTraining": ' + "9" * 5000 + "}", "found unreadable text .*5000 digits"),
        ("[" * 100_000, "found unreadable text .*recursion"),
        ('{"labels": {"a\\ud800": 1}}', r"found '.*a\\ud800', expected whole letters"),
        (change("labels", [[[[[[1] * 99]]]]]), r"labels: found \[\[\[\[...\]\]\]\], expected back"),
        (MSD | {"training": ["imagesTr/a.nii.gz"]}, "training: found 'imagesTr/a.nii.gz', exp"),
        (MSD | {"training": {"a": 1}}, "training: found {'a': 1}, expected images"),
        (MSD | {"training": MSD["training"][:1] * 2}, "training: found b 2 times"),
    ],
)
def test_wrong_dataset_json(tmp_path, fields, message):
    write_json(tmp_path, fields)
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/a.nii.gz", "labelsTr/b.nii.gz"),
        ("../imagesTr/a.nii.gz", "../labelsTr/a.nii.gz"),
        ("imagesTr/../a.nii.gz", "labelsTr/../a.nii.gz"),
        ("/imagesTr/a.nii.gz", "/labelsTr/a.nii.gz"),
        ("imagesTr/.a.nii.gz", "labelsTr/.a.nii.gz"),
        ("imagesTr/..\\a.nii.gz", "labelsTr/..\\a.nii.gz"),
        ("imagesTr/a.mha", "labelsTr/a.mha"),
        ("imagesTr/a.nii.gz", None),
        ("", ""),
    ],
)
def test_training_list_names_files_in_the_folder_only(tmp_path, image, label):
    write_json(tmp_path, MSD | {"training": [{"image": image, "label": label}]})
    with pytest.raises(ValueError, match="training: found .*, expected (images|a plain name)"):
        read_description(tmp_path)


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_files_of_both_forms(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    touch(tmp_path, "imagesTr/b_0007.nii.gz", "labelsTr/b_0007.nii.gz", "imagesTr/c_001.nii.gz")
    touch(tmp_path, "imagesTr/._a_0000.nii.gz", "labelsTr/._a.nii.gz", "labelsTr/notes.txt")
    images, labels = find_files(tmp_path, ".nii.gz")
    assert {name: sorted(found, key=str) for name, found in images.items()} == {
        "a": [0, 1],
        "b_0007": [None],  # a label of that name: the digits belong to the case
        "c_001": [None],
    }
    assert images["a"][1] == tmp_path / "imagesTr" / "a_0001.nii.gz"
    assert labels == {name: tmp_path / "labelsTr" / f"{name}.nii.gz" for name in ("a", "b_0007")}


def test_file_ending(tmp_path):
    touch(tmp_path, "labelsTr/.b.nii.gz", "labelsTr/a.nii")
    assert find_file_ending(tmp_path / "labelsTr") == ".nii"
    touch(tmp_path, "labelsTr/b.nii.gz")
    with pytest.raises(ValueError, match="labelsTr: found .nii.gz and .nii, expected all"):
        find_file_ending(tmp_path / "labelsTr")


def test_no_volume(tmp_path):
    touch(tmp_path, "labelsTr/a.jpg")
    with pytest.raises(ValueError, match="labelsTr: found no volume, expected all"):
        find_file_ending(tmp_path / "labelsTr")


def test_volumes_of_another_ending_are_not_overlooked(tmp_path):
    touch(tmp_path, "labelsTr/a.nii.gz", "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii")
    with pytest.raises(ValueError, match="a_0001.nii: found this ending, expected .nii.gz"):
        find_files(tmp_path, ".nii.gz")


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_missing_folder(tmp_path, folder):
    touch(tmp_path, "labelsTr/a.nii.gz", "imagesTr/a_0000.nii.gz")
    for path in (tmp_path / folder).iterdir():
        path.unlink()
    (tmp_path / folder).rmdir()
    with pytest.raises(ValueError, match=f"{folder}: found no such folder"):
        find_files(tmp_path, ".nii.gz")


@pytest.mark.parametrize(("given", "expected"), [("f_0000.NII.GZ", "f"), ("g_0000.Nii.gz", "g")])
def test_endings_in_capitals_are_the_same_endings(tmp_path, given, expected):
    touch(tmp_path, f"imagesTr/{given}", f"labelsTr/{expected}.NII.GZ", "labelsTr/a.nii.gz")
    images, labels = find_files(tmp_path, ".nii.gz")
    assert images == {expected: {0: tmp_path / "imagesTr" / given}}
    assert set(labels) == {"a", expected}
    assert find_file_ending(tmp_path / "labelsTr") == ".nii.gz"
    write_json(tmp_path, NNUNET | {"file_ending": ".NII.gz"})
    assert read_description(tmp_path).file_ending == ".nii.gz"


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "labelsTr/a.NII.GZ", "labelsTr/a.nii.gz", "imagesTr/a_0000.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz: found a second a beside a.NII.GZ, expected"):
        find_files(tmp_path, ".nii.gz")


def test_names_in_a_training_list_may_have_capitals(tmp_path):
    entry = {"image": "imagesTr/a.NII.GZ", "label": "labelsTr/a.NII.GZ"}
    write_json(tmp_path, MSD | {"training": [entry]})
    assert read_description(tmp_path).training == ("a",)


def test_files_that_belong_to_no_case_are_named(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0000.png", "imagesTr/.hidden")
    touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/notes.txt", "imagesTr/f_0000.mgz")
    (tmp_path / "labelsTr" / "old").mkdir()
    unread = unread_files(tmp_path, *find_files(tmp_path, ".nii.gz"))
    assert unread == [
        "imagesTr/a_0000.png",
        "imagesTr/f_0000.mgz",
        "labelsTr/notes.txt",
        "labelsTr/old",
    ]


def test_what_nnunet_keeps_beside_the_cases_is_told(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    _, labels = find_files(tmp_path, ".nii.gz")
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "splits_final.json").symlink_to(tmp_path / "nowhere")
    assert passed_over(tmp_path, labels) == []
    (tmp_path / "splits_final.json").unlink()
    touch(tmp_path, "imagesTs/b_0000.nii.gz", "imagesTs/c_0000.nii.gz", "splits_final.json")
    without_labels, folds = passed_over(tmp_path, labels)
    assert without_labels.startswith("imagesTs is not read: cases without labels")
    assert folds.startswith("splits_final.json is not read: name splits")
    touch(tmp_path, "labelsTs/b.nii.gz", "labelsTs/c.nii.gz", "labelsTs/.hidden")
    told, _ = passed_over(tmp_path, labels)
    assert told.startswith("not read of labelsTs: b.nii.gz, c.nii.gz; to test on them, give every")
    labels |= {"b": tmp_path / "labelsTs" / "b.nii.gz"}
    assert passed_over(tmp_path, labels)[0].startswith("not read of labelsTs: c.nii.gz; to")
    labels |= {"c": tmp_path / "labelsTs" / "c.nii.gz"}
    assert passed_over(tmp_path, labels) == [folds]


def test_listed_files_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SCANS", str(tmp_path / "scans"))
    folder = tmp_path / "set"
    folder.mkdir()
    given = {
        "one": {"images": ["imagesTr/x.nii.gz", "../more/./y.NII.GZ"], "label": "/labels/z.nii"},
        "two": {"images": ["$SCANS/a.nii", "${SCANS}/b.nii"], "label": "labelsTr/two.nii.gz"},
    }
    write_json(folder, NNUNET | {"dataset": given, "training": MSD["training"]})
    description, _, images, labels = read_layout(folder)
    assert description.training == ("one", "two")
    scans = tmp_path / "scans"
    assert images == {
        "one": {0: folder / "imagesTr" / "x.nii.gz", 1: tmp_path / "more" / "y.NII.GZ"},
        "two": {0: scans / "a.nii", 1: scans / "b.nii"},
    }
    assert labels == {"one": Path("/labels/z.nii"), "two": folder / "labelsTr" / "two.nii.gz"}
    assert unread_files(folder, images, labels) == []  # there is no imagesTr
    touch(folder, "imagesTr/x.nii.gz", "imagesTr/v.nii.gz")
    assert unread_files(folder, images, labels) == ["imagesTr/v.nii.gz"]


def test_the_announced_number(tmp_path):
    write_json(tmp_path, NNUNET)
    assert read_description(tmp_path).n_announced is None
    write_json(tmp_path, NNUNET | {"numTraining": 7})
    assert read_description(tmp_path).n_announced == 7


def test_many_labels_are_read_at_once(tmp_path):
    labels = {f"a{value}": [value, value + 1] for value in range(1, 30_000)}
    fields = change("labels", {"background": 0} | labels)
    fields["regions_class_order"] = list(range(1, 30_000))
    write_json(tmp_path, fields)
    started = time.process_time()
    assert len(read_description(tmp_path).regions) == 29_999
    assert time.process_time() - started < 10  # the square of 30,000 takes minutes
