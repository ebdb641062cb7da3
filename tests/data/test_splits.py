import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcal_lite.data.splits import (
    SPLITS,
    check_name,
    check_splits,
    check_unique,
    join_patients,
    read_case_table,
    split_by_patient,
    split_counts,
    split_named,
)

COUNTS = st.tuples(*[st.integers(1, 200)] * 3)


@settings(deadline=None)
@given(counts=COUNTS, n_patients=st.integers(3, 300))
def test_scaled_counts_add_up_and_leave_no_split_empty(counts, n_patients):
    scaled = split_counts(counts, n_patients)
    assert sum(scaled) == n_patients
    assert min(scaled) >= 1


@settings(deadline=None)
@given(counts=COUNTS, n_patients=st.integers(3, 300))
def test_scaled_counts_keep_proportions(counts, n_patients):
    exact = [n * n_patients / sum(counts) for n in counts]
    if min(exact) >= 1:
        scaled = split_counts(counts, n_patients)
        assert all(abs(m - e) < 1 for m, e in zip(scaled, exact, strict=True))


@settings(deadline=None)
@given(counts=COUNTS)
def test_counts_that_add_up_are_kept(counts):
    assert split_counts(counts, sum(counts)) == counts


@pytest.mark.parametrize(
    ("counts", "n_patients", "scaled"),
    [
        ((40, 10, 50), 10, (4, 1, 5)),
        ((40, 10, 50), 20, (8, 2, 10)),
        ((60, 10, 30), 52, (31, 5, 16)),
        ((1, 1, 1), 4, (2, 1, 1)),
        ((1, 1, 1), 5, (2, 2, 1)),
        ((100, 1, 1), 3, (1, 1, 1)),
    ],
)
def test_scaled_counts_by_hand(counts, n_patients, scaled):
    assert split_counts(counts, n_patients) == scaled


@pytest.mark.parametrize(
    ("counts", "n_patients", "message"),
    [
        ((1, 1), 5, "split: found 2 counts, expected one for each of train, validation, test."),
        ((4, 0, 1), 5, "split, validation: found 0, expected an integer of at least 1."),
        ((4, 1, 0.5), 5, "split, test: found 0.5, expected an integer of at least 1."),
        ((4, 1, 1), 2, "split: found 2 patients, expected at least 3, one for each split."),
    ],
)
def test_wrong_counts(counts, n_patients, message):
    with pytest.raises(ValueError) as error:
        split_counts(counts, n_patients)
    assert str(error.value) == message


@settings(deadline=None, max_examples=50)
@given(
    patients=st.integers(3, 30).map(lambda n: [f"p{number}" for number in range(n)]),
    counts=COUNTS,
    seed=st.integers(0, 2**32),
    random=st.randoms(use_true_random=False),
)
def test_split_is_a_partition_that_ignores_order_and_repetition(patients, counts, seed, random):
    split_of = split_by_patient(patients, counts, seed)
    assert set(split_of) == set(patients)
    values = list(split_of.values())
    assert tuple(values.count(name) for name in SPLITS) == split_counts(counts, len(patients))
    cases = patients + patients[:2]
    random.shuffle(cases)
    assert split_by_patient(cases, counts, seed) == split_of


def test_split_depends_on_the_seed_and_reaches_every_patient():
    patients = [f"p{number}" for number in range(12)]
    drawn = [split_by_patient(patients, (6, 2, 4), seed) for seed in range(40)]
    assert len({tuple(sorted(split.items())) for split in drawn}) > 30
    for patient in patients:
        assert {split[patient] for split in drawn} == set(SPLITS)


def test_split_is_the_same_on_every_machine():
    split_of = split_by_patient("abcdef", (3, 1, 2), seed=2020)
    splits = [split_of[patient] for patient in "abcdef"]
    assert splits == ["train", "train", "train", "validation", "test", "test"]


@pytest.mark.parametrize("seed", [-1, 0.5, None, True])
def test_wrong_seed(seed):
    with pytest.raises(ValueError, match="^seed: found .*, expected an integer of at least 0"):
        split_by_patient("abc", (1, 1, 1), seed)


def test_check_splits():
    check_splits(["train", "validation", "test", "train"], ["a", "b", "c", "a"])
    check_splits(["test"], ["a"])
    with pytest.raises(ValueError, match="^patient b: found cases in train and validation"):
        check_splits(["train", "validation", "train", "test"], ["a", "b", "b", "c"])
    with pytest.raises(ValueError, match="^split validation: found no patient"):
        check_splits(["train", "test"], ["a", "b"])
    with pytest.raises(ValueError, match="^split test: found no patient"):
        check_splits(["train", "validation"], ["a", "b"])
    with pytest.raises(ValueError, match="^split train: found no patient"):
        check_splits(["validation", "test"], ["a", "b"])


@pytest.mark.parametrize("name", ["a", "patient 1", "a.b", "a_0000", "Füßchen", "1"])
def test_plain_names(name):
    assert check_name("case", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "/a",
        "a\\b",
        "\\a",
        "c:a",
        ":",
        ".hidden",
        "a..b",
        "a\x00b",
        "a\nb",
        3,
    ]
    + [None, " a"],
)
def test_names_that_could_lead_elsewhere(name):
    with pytest.raises(ValueError, match="^case: found .* expected a plain name without sep"):
        check_name("case", name)


@pytest.mark.parametrize("name", ["a.", "a ", "NUL", "con", "Aux.nii", "COM1", "lpt9.a.b"])
def test_names_that_windows_would_change(name):
    with pytest.raises(ValueError, match="case: found '.*', expected a name that every system"):
        check_name("case", name)


@pytest.mark.parametrize("name", ["NA", "nan", "002", "1.5", "nullify", "console", "com10", "a.b"])
def test_names_that_only_look_odd_pass(name):
    assert check_name("case", name) == name


@pytest.mark.parametrize(
    "pair", [("case_a", "Case_A"), ("\u00e9", "e\u0301"), ("stra\u00dfe", "STRASSE")]
)
def test_names_of_one_file_on_some_systems_are_refused(pair):
    with pytest.raises(ValueError, match="list: found '.*' and '.*', expected names that differ"):
        check_unique("list", ["b", *pair])


def test_check_unique():
    check_unique("list", ["a", "b"])
    with pytest.raises(ValueError, match="^list: found b 3 times, expected each case once"):
        check_unique("list", ["b", "a", "b", "b"])


def test_case_table(tmp_path):
    assert read_case_table(tmp_path / "cases.csv") is None
    text = '\ufeffcase, domain,split,group\r\na,"x, y",train,1\r\n\r\n b ,z,test,\r\n'
    (tmp_path / "cases.csv").write_text(text, encoding="utf-8", newline="")
    assert read_case_table(tmp_path / "cases.csv") == [
        {"case": "a", "domain": "x, y", "split": "train", "group": "1"},
        {"case": "b", "domain": "z", "split": "test", "group": ""},
    ]


def test_names_of_columns_and_splits_in_any_letters(tmp_path):
    (tmp_path / "cases.csv").write_text("CASE,Split,Group\na,VAL,x\nb,Tr,y\n")
    assert read_case_table(tmp_path / "cases.csv") == [
        {"case": "a", "split": "validation", "Group": "x"},
        {"case": "b", "split": "train", "Group": "y"},
    ]


def test_the_names_of_a_split():
    names = {
        "train": ["train", "training", "tr"],
        "validation": ["validation", "val", "valid", "dev"],
        "test": ["test", "testing", "ts"],
    }
    for split, others in names.items():
        for name in others:
            assert {split_named("s", each) for each in (name, name.upper(), name.title())} == {
                split
            }
    every = ", ".join(name for others in names.values() for name in others)
    for wrong in ("", "holdout", "train "):
        with pytest.raises(ValueError) as error:
            split_named("s", wrong)
        assert str(error.value) == f"s: found {wrong!r}, expected one of {every}."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"found columns \[\], expected case, and if wanted domain, split, patient, each once"),
        ("name,split\na,train\n", r"cases.csv: found columns \['name', 'split'\]"),
        (
            "case;split\na;train\n",
            "cases.csv: found semicolons in case;split, expected commas between the cells",
        ),
        ("case,split,split\na,test,train\n", "cases.csv: found columns"),
        ("case,split\n", "cases.csv: found no case, expected at least one row"),
        ("case,split\na\n", "cases.csv, line 2: found 1 cells, expected 2: case, split"),
        ("case,split\na,train,b\n", "cases.csv, line 2: found 3 cells, expected 2"),
        ("case,split\na,,\n", "cases.csv, line 2, split: found ''"),
        ("case,split\na,train\nb,exam\n", "cases.csv, line 3, split: found 'exam', expected one"),
        ("case,Case\na,b\n", r"cases.csv: found columns \['case', 'case'\]"),
        ("case,split\na,\n", "cases.csv, line 2, split: found '', expected one of"),
        ("case,domain\na,\n", "cases.csv, line 2, domain: found an empty cell"),
        ("case,patient\na,\n", "cases.csv, line 2, patient: found an empty cell"),
        ("case\n../../a\n", "cases.csv, line 2, case: found '../../a', expected a plain name"),
        ("case,patient\na,P1\nb,p1\n", "cases.csv, patient: found 'P1' and 'p1', expected names"),
        ("case,domain\na,s\nb,S\n", "cases.csv, domain: found 's' and 'S', expected names"),
        ("case,domain\na,All\n", "cases.csv, domain: found 'All', expected another"),
        ("case\na\nb\na\n", "cases.csv: found a 2 times, expected each case once"),
        ('case\n"a\n', "cases.csv: found unreadable text"),
        (b"case\n\xff\n", "cases.csv: found unreadable text"),
    ],
)
def test_wrong_case_table(tmp_path, text, message):
    (tmp_path / "cases.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_case_table(tmp_path / "cases.csv")


def test_empty_cells_of_a_spreadsheet_are_none(tmp_path):
    (tmp_path / "cases.csv").write_text("case,split\na,train,\n,,,\nb,test,,\n  \n")
    rows = [{"case": "a", "split": "train"}, {"case": "b", "split": "test"}]
    assert read_case_table(tmp_path / "cases.csv") == rows
    (tmp_path / "cases.csv").write_text("case,split,,\na,train,,\nb,test,,\n")
    assert read_case_table(tmp_path / "cases.csv") == rows


def test_names_that_fit_no_file_are_refused():
    assert check_name("case", "\u00e9" * 100) == "\u00e9" * 100
    with pytest.raises(ValueError, match="case: found .* of 202 bytes, expected at most 200"):
        check_name("case", "\u00e9" * 101)
    for name in ("\ud800", "a\udcff"):
        with pytest.raises(ValueError, match="expected a plain name"):
            check_name("case", name)


def test_duplicates_among_many_are_found_at_once():
    names = [f"case{number}" for number in range(40_000)]
    pairs = [(f"case{n}", f"case{n + 1}") for n in range(0, 40_000, 2)]
    started = time.process_time()
    check_unique("cases", names)
    with pytest.raises(ValueError, match="found case7 2 times"):
        check_unique("cases", [*names, "case7"])
    assert len(set(join_patients({name: name for name in names}, pairs).values())) == 20_000
    assert time.process_time() - started < 10  # the square of 40,000 takes minutes


def test_patients_are_joined_through_each_other():
    patient_of = {"a": "p", "b": "q", "c": "q", "d": "r", "e": "o", "f": "s"}
    groups = [("a", "b"), ("c", "d"), ("d", "e")]
    joined = {"a": "o", "b": "o", "c": "o", "d": "o", "e": "o", "f": "s"}
    assert join_patients(patient_of, groups) == joined
    assert join_patients(patient_of, groups[::-1]) == joined
