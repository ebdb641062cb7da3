import json

import pytest
from conftest import write_dataset

from segcal_lite.data.sets import read_sets


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "raw" / "two")
    write_dataset(tmp_path / "raw" / "ct", channels=("CT",))
    return tmp_path


def write_sets(folder, **entry):
    path = folder / "sets.yaml"
    path.write_text(json.dumps({"mine": {"data": str(folder / "raw" / "two")} | entry}))  # is YAML
    return path


def test_a_set_is_one_channel_and_one_organ_of_a_dataset(folder):
    path = write_sets(folder, channel="FLAIR", foreground=["a", "c"], crop_size=[8, 8, 8])
    (name, source) = next(iter(read_sets(path).items()))
    assert name == "mine" == source.task.name
    assert source.task.segments == ("a + c",)
    assert (source.selection.channel, source.selection.classes) == (1, (1, 3))
    assert source.crop_size == (8, 8, 8)
    assert source.task.spacing_mm == (1.0, 1.0, 2.0)  # the median of 1, 2 and 3 mm
    assert source.task.intensity_rule == "standard_deviation"


def test_splits_are_the_papers_within_the_domains_asked_for(folder):
    path = write_sets(folder, channel="T1", domains=["there"])
    dataset = read_sets(path)["mine"].dataset
    assert {case.domain for case in dataset.cases} == {"there"}
    splits = sorted(case.split for case in dataset.cases)
    assert splits == ["test", "train", "train", "train", "validation"]
    assert any("60 : 10 : 30" in note for note in dataset.notes)
    assert sum(note.startswith("no split") for note in dataset.notes) == 1


def test_splits_of_the_data_are_kept(folder):
    table = folder / "raw" / "two" / "cases.csv"
    lines = table.read_text().split()
    splits = ["train"] * 4 + ["validation"] * 3 + ["test"] * 3
    rows = [f"{line},{split}" for line, split in zip(lines[1:], splits, strict=True)]
    table.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    dataset = read_sets(write_sets(folder, channel="T1"))["mine"].dataset
    assert [case.split for case in dataset.cases] == splits


def test_a_folder_of_datasets_is_a_file_of_sets(folder):
    for file in (folder / "raw" / "two" / "imagesTr").glob("*_0001.nii.gz"):
        file.unlink()
    description = json.loads((folder / "raw" / "two" / "dataset.json").read_text())
    description["channel_names"] = {"0": "T2"}
    (folder / "raw" / "two" / "dataset.json").write_text(json.dumps(description))
    sets = read_sets(folder / "raw")
    assert list(sets) == ["ct", "two"]
    assert sets["ct"].task.intensity_rule == "hounsfield"
    assert sets["two"].task.segments == ("a + b + c",)


def test_a_patient_who_trains_one_set_and_tests_another_is_refused(folder):
    """Two sequences of five people as domains: each set would draw a split of its own."""
    table = folder / "raw" / "two" / "cases.csv"
    header, *rows = table.read_text().split()
    people = [f"{row},p{number // 2}" for number, row in enumerate(rows)]
    one = {"data": str(folder / "raw" / "two"), "channel": "T1"}
    entries = {"x": one | {"domains": ["here"]}, "y": one | {"domains": ["there"]}}
    path = folder / "sets.yaml"
    path.write_text(json.dumps(entries))

    def give(*lines):
        table.write_text("\n".join([f"{header},patient", *lines]) + "\n")

    give(people[0], f"{rows[1]},p5", *people[2:])
    with pytest.raises(ValueError, match=r"patient p\d: found .* in set x, .* in set y, expected"):
        read_sets(path)
    give(*people)  # the same people: the same split
    x, y = (source.dataset.cases for source in read_sets(path).values())
    assert {case.patient: case.split for case in x} == {case.patient: case.split for case in y}
    assert len(x) == len(y) == 5


def test_a_set_with_several_channels_names_the_way_out(folder):
    raw = folder / "raw"
    with pytest.raises(ValueError) as error:
        read_sets(raw)
    entry = f"two: {{data: {raw / 'two'}, channel: T1}}"
    assert str(error.value) == (
        f"{raw}, set two: found channels ('T1', 'FLAIR'), expected channel: one of them, "
        f"as in {entry} in a file of sets, or leave_out: [two]."
    )
    (folder / "sets.yaml").write_text(entry)
    assert read_sets(folder / "sets.yaml")["two"].selection.channel == 0
    assert list(read_sets(raw, leave_out=["two"])) == ["ct"]


def test_sets_and_cases_are_left_out_by_name(folder):
    raw = folder / "raw"
    (raw / "ct" / "labelsTr" / "c3.nii.gz").write_bytes(b"broken")
    (raw / "two" / "dataset.json").write_text("{")
    source = read_sets(raw, leave_out=["c3", "two", "c0"])["ct"]
    assert "c3" not in {case.name for case in source.dataset.cases}
    assert len(source.dataset.cases) == 8
    assert "left out by name: c0, c3" in source.dataset.notes
    with pytest.raises(ValueError, match="leave_out: found c10, expected sets of .*or cases"):
        read_sets(raw, leave_out=["two", "c10"])
    with pytest.raises(ValueError, match="raw: found no set, expected at least one dataset"):
        read_sets(raw, leave_out=["two", "ct"])


def test_a_case_is_left_out_of_every_set_that_has_it(folder):
    write_dataset(folder / "raw" / "three", channels=("T2",), n_cases=12)
    sets = read_sets(folder / "raw", leave_out=["two", "c10", "c1"])
    assert {name: len(source.dataset.cases) for name, source in sets.items()} == {
        "ct": 9,
        "three": 10,
    }


def test_datasets_whose_files_lie_elsewhere_are_sets(folder):
    raw = folder / "raw"
    (raw / "two").rename(folder / "files")
    (raw / "listed").mkdir()
    description = json.loads((folder / "files" / "dataset.json").read_text())
    description["channel_names"] = {"0": "T1"}
    description["dataset"] = {
        f"c{n}": {
            "images": [f"../../files/imagesTr/c{n}_0000.nii.gz"],
            "label": str(folder / "files" / "labelsTr" / f"c{n}.nii.gz"),
        }
        for n in range(10)
    }
    (raw / "listed" / "dataset.json").write_text(json.dumps(description))
    (raw / ".cache").mkdir()
    (raw / ".cache" / "dataset.json").touch()
    assert [len(source.dataset.cases) for source in read_sets(raw).values()] == [10, 10]


def test_a_region_is_an_organ_of_several_classes(folder):
    path = folder / "raw" / "ct" / "dataset.json"
    description = json.loads(path.read_text())
    description["labels"] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 1}
    description["regions_class_order"] = [1, 3, 1]
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="regions_class_order: found 1 for whole"):
        read_sets(folder / "raw", leave_out=["two"])
    description["regions_class_order"] = [2, 3, 1]
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="regions_class_order: found 2 for whole"):
        read_sets(folder / "raw", leave_out=["two"])
    description["labels"] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}
    description["regions_class_order"] = [1, 2, 3]
    path.write_text(json.dumps(description))
    for organ, classes in ((["whole"], (1, 2, 3)), (["core"], (2, 3)), (["tip", "core"], (2, 3))):
        entry = {"data": str(path.parent), "foreground": organ}
        (folder / "sets.yaml").write_text(json.dumps({"mine": entry}))
        assert read_sets(folder / "sets.yaml")["mine"].selection.classes == classes


def test_channels_of_one_name_cannot_be_told_apart(folder):
    path = folder / "raw" / "two" / "dataset.json"
    description = json.loads(path.read_text()) | {"channel_names": {"0": "T1", "1": "T1"}}
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="set mine: found several channels called T1, expected"):
        read_sets(write_sets(folder, channel="T1"))


NAMES_OF_PLANS = ["a+b", "a-then-b", "a-THEN-b", "a-then", "then-b"]


@pytest.mark.parametrize("name", NAMES_OF_PLANS)
def test_folders_whose_names_cannot_be_sets_are_refused(folder, name):
    (folder / "raw" / "ct").rename(folder / "raw" / name)
    expected = r"raw, set: found .*, expected a name without \+ and -then-\.$"
    with pytest.raises(ValueError, match=expected):
        read_sets(folder / "raw")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"set mine: found channels \('T1', 'FLAIR'\), expected channel: one of them"),
        ({"channel": "T2"}, "set mine, channel: found 'T2', expected one of 'T1', 'FLAIR'"),
        ({"channel": "T1", "foreground": ["d"]}, "set mine, foreground: found 'd', expected"),
        ({"channel": "T1", "modality": "PET"}, "set mine, modality: found 'PET'"),
        ({"channel": "T1", "domains": ["far"]}, "set mine, domains: found 'far'"),
        ({"channel": "T1", "organ": "a"}, r"set mine: found keys .*'organ'.*, expected data and"),
        ({"channel": "T1", "spacing_mm": [1, 0, 1]}, "sets.yaml, set mine, spacing_mm: found"),
        ({"channel": "T1", "spacing_mm": 1.5}, "set mine, spacing_mm: found 1.5, expected a"),
        ({"channel": "T1", "crop_size": 96}, "set mine, crop_size: found 96, expected a list"),
        (
            {"channel": "T1", "foreground": "ab"},
            "set mine, foreground: found 'ab', expected a list",
        ),
        ({"channel": "T1", "foreground": []}, r"set mine, foreground: found \[\], expected a list"),
        ({"channel": "T1", "domains": None}, "set mine, domains: found None, expected a list"),
        ({"data": "/nowhere"}, "nowhere: found no such folder"),
        ({"data": ["x"]}, r"set mine, data: found \['x'\] of type list, expected a text"),
        ({"channel": ["T1"]}, r"set mine, channel: found \['T1'\] of type list, expected a text"),
        ({"modality": {"a": 1}}, "set mine, modality: found {'a': 1} of type dict, expected"),
        ({"channel": "T1", "foreground": ["a", "a"]}, "foreground: found .*, expected each name"),
        ({"channel": "T1", "domains": ["here", "here"]}, "domains: found .*, expected each name"),
        ({"spacing_mm": [1e6, 1e6, 1e6]}, "set mine, spacing_mm: found .* numbers up to 1000"),
        ({"spacing_mm": ["1e6", 1, 1]}, "set mine, spacing_mm: found .*, expected a list of three"),
        ({"spacing_mm": [1, 1]}, "set mine, spacing_mm: found .*, expected a list of three"),
        ({"spacing_mm": [True, 1, 1]}, "set mine, spacing_mm: found .*, expected a list of three"),
        ({"crop_size": [96, 96]}, "set mine, crop_size: found .*, expected a list of three"),
        ({"crop_size": [96, 96, 0]}, "set mine, crop_size: found 0, expected an integer of at"),
        ({"crop_size": [96, 96, 1.5]}, "set mine, crop_size: found 1.5, expected an integer"),
    ],
)
def test_wrong_entries_are_refused_by_name(folder, entry, message):
    with pytest.raises(ValueError, match=message):
        read_sets(write_sets(folder, **entry))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "found text that is no YAML"),
        ("just words", "found no table of sets"),
        ("a: b", "found no table of sets"),
        ("{}", "found no set, expected at least one dataset"),
        ("a: {data: x}\na: {data: y}", "found text that is no YAML .the key 'a' twice"),
        ("a: {data: x}\nA: {data: y}", "found 'a' and 'A', expected names that differ by more"),
        ("a: {data: x, data: y}", "found text that is no YAML .the key 'data' twice"),
        ("[" * 5000, "found text that is no YAML .maximum recursion depth"),
        (f"a: {{data: {'9' * 5000}}}", "found text that is no YAML .*5000 digits"),
        ("? [a]\n: {data: x}", "found text that is no YAML .* found unhashable key"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "sets.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"sets.yaml(, sets)?: {message}"):
        read_sets(tmp_path / "sets.yaml")
    with pytest.raises(ValueError, match="found no such file or folder"):
        read_sets(tmp_path / "missing.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: found no set"):
        read_sets(tmp_path / "empty")


@pytest.mark.parametrize(
    ("entry", "key", "found"),
    [
        ("002: {data: x}", "set", "2 of type int"),
        ("no: {data: x}", "set", "False of type bool"),
        ("1.50: {data: x}", "set", "1.5 of type float"),
        ("a: {data: 2024}", "set a, data", "2024 of type int"),
        ("a: {data: x, channel: 1}", "set a, channel", "1 of type int"),
        ("a: {data: x, foreground: [1, '2']}", "set a, foreground", "1 of type int"),
        ("a: {data: x, domains: ['3', 1.50]}", "set a, domains", "1.5 of type float"),
        ("a: {data: x, domains: [yes]}", "set a, domains", "True of type bool"),
    ],
)
def test_names_that_yaml_takes_for_numbers_are_refused(tmp_path, entry, key, found):
    (tmp_path / "sets.yaml").write_text(entry)
    message = f"sets.yaml, {key}: found {found}, expected a text: put it in quotes"
    with pytest.raises(ValueError, match=message):
        read_sets(tmp_path / "sets.yaml")


@pytest.mark.parametrize("name", ["1", *NAMES_OF_PLANS, "../up", "a/b", "a" * 201])
def test_names_that_cannot_be_folders_of_plans_are_refused(tmp_path, name):
    (tmp_path / "sets.yaml").write_text(f"{name}: {{data: x}}")
    with pytest.raises(ValueError, match="sets.yaml, set: found .* expected a"):
        read_sets(tmp_path / "sets.yaml")


def test_halves_of_letters_and_lists_of_lists_are_told_in_short(tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text('a: {data: "x\\ud800"}')
    with pytest.raises(ValueError, match=r"set a, data: found 'x\\ud800', expected whole letters"):
        read_sets(path)
    lists = ["a0: &a0 {data: x}"]
    lists += [f"a{n}: {{data: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    path.write_text("\n".join(lists))  # 9 to the power of 11, written out
    with pytest.raises(ValueError) as error:
        read_sets(path)
    assert "set a1, data: found [{'data': 'x'}, " in str(error.value)
    path.write_text("\n".join([*lists, "z: *a11"]).replace("{data: &a1 ", "&a1 ["))
    with pytest.raises(ValueError) as error:
        read_sets(path)
    assert len(str(error.value)) < 3000
