"""Signatures that somebody's network has left: read, refused, and what they say of cases."""

import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluations import write_evaluation
from own_predictions import write_study

from segcal_lite.detectors import SpectralDetector
from segcal_lite.experiments.own_model import evaluate, read_signatures, write_signatures
from segcal_lite.experiments.own_model.signatures import distances, gather_signatures
from segcal_lite.kit.arguments import path_from_here
from segcal_lite.kit.own_page import write_page
from segcal_lite.report import draw_figures, read_evaluation, three_answers
from segcal_lite.report.own_review import far_from_training
from segcal_lite.runs.tables import read_table

LAYER = "decoder.stages.5", (96, 80)
QUIET = {"report": lambda line: None, "n_workers": 1}
HERE = [f"case_{k:03}" for k in range(12)]


def unit(values):
    return np.asarray(values) / np.linalg.norm(values)


def draw(names, rng, shift=0.0, spread=0.02):
    """Signatures of unit length around one direction."""
    return {name: unit([3 + shift, 2, 1] + rng.normal(0, spread, 3)) for name in names}


@pytest.fixture
def tables(tmp_path):
    """Tables of 20 training cases and of 12 cases, of which the last is another kind of image."""
    rng = np.random.default_rng(0)
    paths = tmp_path / "training.csv", tmp_path / "cases.csv"
    write_signatures(paths[0], draw([f"train_{k}" for k in range(20)], rng, spread=0.05), *LAYER)
    write_signatures(paths[1], draw(HERE[:-1], rng) | draw(HERE[-1:], rng, shift=3), *LAYER)
    return paths


def test_what_is_written_is_read_and_names_stay_text(tmp_path):
    signatures = {"001": unit([1, 2]), "NA": unit([3, 1])}
    write_signatures(tmp_path / "a.csv", signatures, "0", window=None)
    found = read_signatures(tmp_path / "a.csv")
    assert list(found.index) == ["001", "NA"]
    np.testing.assert_array_equal(found, list(signatures.values()))
    table = read_table(tmp_path / "a.csv")
    (tmp_path / "a.csv").rename(tmp_path / "b.CSV")
    assert read_signatures(tmp_path / "b.CSV").equals(found)
    assert table.layer.tolist() == ["0", "0"] and table.window.tolist() == ["whole", "whole"]


def test_a_relative_path_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_signatures("training.csv", {"a": [0.6, 0.8], "b": [0.8, 0.6]}, "last")
    assert Path(path_from_here("training.csv")).is_file()
    assert read_signatures("training.csv").index.tolist() == ["a", "b"]


def test_distances_and_threshold_are_those_of_the_detector(tables):
    signatures, notes = gather_signatures(tables, HERE[:10], HERE[10:])
    assert notes == []
    found = distances(signatures, HERE[:10], HERE[10:]).set_index("case")
    detector = SpectralDetector().fit(signatures[0])
    assert (found.threshold == detector.threshold).all()
    np.testing.assert_array_equal(found.oodm[:20], detector.training_scores)
    np.testing.assert_array_equal(found.oodm[20:], detector.score(signatures[1]))
    assert found.is_ood[HERE].tolist() == [False] * 11 + [True]
    assert found.group.value_counts().to_dict() == {"training": 20, "labelled": 10, "new": 2}


def test_scans_of_a_training_patient_are_held_against_those_of_others(tables, tmp_path):
    once = gather_signatures(tables, HERE[:10], HERE[10:])[0]
    table, twice = read_table(tables[0]), tmp_path / "twice.csv"
    scans = [table.assign(case=table.case + scan, patient=table.case) for scan in ("", " again")]
    pd.concat(scans).to_csv(twice, index=False)
    found = gather_signatures((twice, tables[1]), HERE[:10], HERE[10:])[0]
    expected, found = (distances(of, HERE[:10], HERE[10:]) for of in (once, found))
    assert found.threshold[0] == pytest.approx(expected.threshold[0])
    patients = {f"train_{k}": "one" if k < 2 else str(k) for k in range(20)}
    numbers = dict(zip(once[0].index, once[0].to_numpy(), strict=True))
    write_signatures(twice, numbers, *LAYER, patients=patients)
    assert gather_signatures((twice, tables[1]), [], HERE)[0][2].tolist() == list(patients.values())
    with pytest.raises(
        ValueError, match="patients: found none of train_0, train_1, .*, expected one of each"
    ):
        write_signatures(twice, numbers, *LAYER, patients={})
    with pytest.raises(ValueError, match="patients: found none of train_7, expected one of each"):
        write_signatures(twice, numbers, *LAYER, patients=patients | {"train_7": np.nan})


def changed(path, change):
    """Write a table anew after a change."""
    change(read_table(path)).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("which", "change", "told"),
    [
        (0, lambda t: t.head(1), "found 1 training patient, expected at least 2"),
        (
            1,
            lambda t: t.drop(columns="3").assign(**{"1": 0.6, "2": 0.8}),
            "of 2 numbers, expected 3",
        ),
        (0, lambda t: t.assign(patient="a"), "found 1 training patient, expected at least 2"),
        (0, lambda t: t.assign(patient=["a"] + [None] * 19), "found an empty cell in patient"),
        (1, lambda t: t[t.case != HERE[11]], "found no signature of case_011"),
        (1, lambda t: pd.concat([t, t.head(1)]), "found case_000 twice"),
        (
            1,
            lambda t: t.rename(columns={"case": "name"}),
            "found columns name, layer, window, 1, 2",
        ),
        (1, lambda t: t[["case", "layer"]], "found columns case, layer, expected"),
        (1, lambda t: t.assign(case=None), "found columns case, layer"),
        (1, lambda t: t.head(0), "found columns case, layer"),
        (1, lambda t: t.replace({"case": {HERE[0]: np.nan}}), "found columns case, layer"),
        (1, lambda t: t.assign(**{"2": "high"}), "empty or other cells than finite numbers"),
        (1, lambda t: t.assign(**{"2": np.nan}), "empty or other cells than finite numbers"),
        (1, lambda t: t.assign(**{"2": np.inf}), "empty or other cells than finite numbers"),
        (
            1,
            lambda t: t.assign(layer="1"),
            "of layer 1, expected decoder.stages.5, as .*training.csv",
        ),
        (0, lambda t: t.assign(window="96x96"), "of window 96x80, expected 96x96, as "),
        (0, lambda t: t.assign(layer=["a"] + ["b"] * 19), "found layer 'a' and 'b', expected one"),
        (1, lambda t: t.assign(**{"2": 5.0}), "of case_0.., expected 1: spectral signatures"),
    ],
)
def test_a_wrong_table_is_one_sentence(tables, which, change, told):
    changed(tables[which], change)
    with pytest.raises(ValueError, match=told):
        gather_signatures(tables, HERE[:10], HERE[10:])


def test_other_arguments_than_two_tables_are_one_sentence(tables, tmp_path):
    with pytest.raises(ValueError, match="expected two tables"):
        gather_signatures(str(tables[0]), HERE, [])
    with pytest.raises(ValueError, match="found no such table .*nowhere.csv"):
        gather_signatures((tables[0], tmp_path / "nowhere.csv"), HERE, [])
    packed = tables[1].with_suffix(".csv.gz")
    packed.write_bytes(b"")
    with pytest.raises(ValueError, match="found no such table .*cases.csv.gz"):
        gather_signatures((tables[0], packed), HERE, [])
    with pytest.raises(ValueError, match="found only others: case_000"):
        gather_signatures(tables, ["somebody else"], [])
    with pytest.raises(ValueError, match="signatures: found no case"):
        write_signatures(tmp_path / "none.csv", {}, *LAYER)
    with pytest.raises(ValueError, match=r"b: found shape \(3,\)"):
        write_signatures(tmp_path / "lengths.csv", {"a": [1.0, 0.0], "b": [1.0, 0.0, 0.0]}, "0")
    with pytest.raises(ValueError, match="layer: found 0 of type int, expected a text"):
        write_signatures(tmp_path / "layer.csv", {"a": [1.0, 0.0]}, 0)
    with pytest.raises(ValueError, match="window: found 0, expected an integer of at least 1"):
        write_signatures(tmp_path / "window.csv", {"a": [1.0, 0.0]}, "0", (96, 0))
    assert not list(tmp_path.glob("[!tc]*.csv"))


def test_older_tables_that_do_not_name_their_layer_are_taken_with_one_doubt(tables):
    before, _ = gather_signatures(tables, HERE[:10], HERE[10:])
    for which, named in ((0, [tables[0]]), (1, tables)):
        changed(tables[which], lambda t: t.drop(columns=["layer", "window"]))
        after, (note,) = gather_signatures(tables, HERE[:10], HERE[10:])
        assert note.startswith(f"{' and '.join(map(str, named))}: layer or window not named")
        for one, other in zip(before[:2], after[:2], strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_rows_of_other_cases_are_told_and_left_out(tables):
    (_, here, _), notes = gather_signatures(tables, HERE[:3], [])
    assert list(here.index) == HERE[:3]
    assert len(notes) == 1 and "case_011" in notes[0]


def test_the_review_list_marks_what_the_network_has_not_seen(tables, tmp_path):
    given = write_study(tmp_path / "study", n_cases=10, n_members=1, n_new=2)
    out = evaluate(**given, out=tmp_path / "out", signatures=tables, **QUIET)
    review = read_table(out / "tables" / "review.csv").set_index("case")
    assert review.is_ood[HERE[10:]].tolist() == [False, True]
    of_cases = read_table(out / "tables" / "oodm.csv").set_index("case")
    assert (review.oodm == of_cases.oodm[review.index]).all()
    scores = read_table(out / "tables" / "scores.csv")
    rows = scores[scores.metric == "oodm"].set_index("case")
    assert set(rows.index) == set(HERE[:10]) and (rows.value == of_cases.oodm[rows.index]).all()
    assert list(read_table(out / "tables" / "aurc.csv").score)[0] == "segment_entropy"
    assert "oodm" in set(read_table(out / "tables" / "aurc.csv").score)
    answer = three_answers(read_evaluation(out))[2]
    assert any("1 of 2 new cases (case_011) and 0 of 10" in text for text in answer.sentences)
    assert any("no labelled case is like these" in text for text in answer.sentences)
    assert any("Ordered by OODM the AURC is" in text for text in answer.sentences)
    assert out / "figures" / "oodm.png" in draw_figures(out)
    page = html.unescape(write_page(out).read_text())
    assert page.count("beyond the threshold</small>") == 1
    evaluate(**given, out=out, **QUIET)  # without
    assert not (out / "tables" / "oodm.csv").exists()
    assert "oodm" not in read_table(out / "tables" / "review.csv")


@pytest.mark.parametrize(
    ("is_ood", "told"),
    [
        (
            [0, 0, 0, 0],
            "0 of 2 new cases and 0 of 1 labelled case lie farther from the 1 training ",
        ),
        ([0, 1, 0, 0], "1 of 1 labelled case (b) lie farther"),
        ([0, 0, 1, 0], "1 of 2 new cases (c) and 0 of 1 labelled case lie farther"),
        ([0, 1, 1, 1], "rests on the labelled ones among them."),
    ],
)
def test_what_lies_beyond_the_threshold_is_told_with_what_it_means(tmp_path, is_ood, told):
    evaluation = read_evaluation(write_evaluation(tmp_path, n_new=0))
    groups = ["training", "labelled", "new", "new"]
    table = pd.DataFrame({"case": list("abcd"), "group": groups, "oodm": 0.1, "threshold": 0.1})
    fields = vars(evaluation) | {"oodm": table.assign(is_ood=np.array(is_ood, dtype=bool))}
    (sentence,) = far_from_training(type(evaluation)(**fields))
    assert told in sentence
    assert ("has seen no such images" in sentence) == any(is_ood[2:])
    fields["oodm"] = fields["oodm"].assign(oodm=[0.1, 0.0, 0.1, 0.1])
    assert "The signature of 1 case (b) is" in far_from_training(type(evaluation)(**fields))[1]


def test_labelled_cases_without_signatures_try_no_order(tables, tmp_path):
    given = write_study(tmp_path / "study", n_cases=3, n_members=1)
    changed(tables[1], lambda t: t[t.case != HERE[1]])
    out = evaluate(**given, out=tmp_path / "out", signatures=tables, **QUIET)
    assert "oodm" not in set(read_table(out / "tables" / "aurc.csv").score)
    assert (read_table(out / "tables" / "oodm.csv").group == "labelled").sum() == 2
