"""The page of an evaluation: what it says of plausible, few, many and hard-labelled cases."""

import base64
import html
import re

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from evaluations import write_evaluation

from segcal_lite.kit.own_page import write_page
from segcal_lite.report import draw_figures, read_evaluation, three_answers
from segcal_lite.runs.tables import read_table, write_table


def text_of(page):
    """What a reader sees, without tags, in one line."""
    body = page.read_text().split("<body>")[1]
    body = re.sub(r"data:image/png;base64,[\w+/=]+", "", body)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twelve cases, three members, new cases: all there is."""
    out = write_evaluation(tmp_path_factory.mktemp("plain") / "mine")
    draw_figures(out)
    write_page(out)
    return out


def test_the_page_holds_its_figures_and_asks_no_network(plain):
    page = (plain / "index.html").read_text()
    sources = re.findall(r'<img src="([^"]+)" alt="[^"]{10,}"', page)
    assert len(sources) == page.count("<img") == 8 + 2
    pictures = {path.read_bytes() for path in (plain / "figures").glob("*.png")}
    prefix = "data:image/png;base64,"
    assert {base64.b64decode(source.removeprefix(prefix)) for source in sources} == pictures
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)
    assert "<script" not in page
    links = re.findall(r'href="([^#"]+)"', page)
    assert links and all((plain / link).exists() for link in links)
    assert "&lt;b&gt;" in page and "<b>" not in page  # what others wrote is escaped


def test_the_answers_have_numbers_and_intervals_of_the_tables(plain):
    trust, correction, doubtful = three_answers(read_evaluation(plain))
    summary = read_table(plain / "tables" / "summary.csv")
    wanted = (summary.metric == "ece") & (summary.region == "box") & (summary.interval == "mean")
    row = summary[wanted & (summary.method == "ensemble")].iloc[0]
    ends = f"{100 * row['mean']:.2f} percentage points"
    ends += f" (95 % interval {100 * row.lo:.2f} to {100 * row.hi:.2f})"
    assert trust.short.startswith(f"In the box around the segments they are off by {ends}")
    assert "over-confident" in trust.short
    assert any("against one of its members" in text for text in trust.sentences)
    assert correction.short.startswith("Temperature scaling, one number")
    assert any("temperature is 1.42" in text and "1.38 to 1.42" in text for text in correction[2])
    review = read_table(plain / "tables" / "review.csv")
    assert doubtful.short.startswith(f"First {review.case[0]}, {review.case[1]} and")
    assert "segment entropy finds poor segmentations better than chance" in doubtful.short
    assert sum("AURC" in sentence for sentence in doubtful.sentences) == 1
    text = text_of(plain / "index.html")
    for answer in (trust, correction, doubtful):
        assert text.count(answer.question) == 2  # in the list on top, and with its reasons
        assert all(re.sub(r"\s+", " ", sentence) in text for sentence in answer.sentences)


def changed(evaluation, name, **columns):
    """The evaluation with other values in a table."""
    fields = vars(evaluation) | {name: getattr(evaluation, name).assign(**columns)}
    return type(evaluation)(**fields)


def test_confidence_that_is_too_low_or_mixed_is_called_so(plain):
    evaluation = read_evaluation(plain)
    bins = evaluation.reliability
    low = changed(evaluation, "reliability", accuracy=bins.confidence + 0.02)
    assert "under-confident" in three_answers(low)[0].short
    signs = np.where(np.arange(len(bins)) % 10 == 4, -1, 1) * 0.01  # the fullest bin, and others
    mixed = changed(evaluation, "reliability", accuracy=bins.confidence + signs)
    mixed = changed(mixed, "reliability", count=np.where(bins["count"] > 0, 100, 0))
    three = mixed.reliability[mixed.reliability["count"] > 0].groupby("method").head(2)
    signs = np.where(np.arange(len(three)) % 2, -0.01, 0.01)
    mixed = changed(mixed, "reliability")
    fields = vars(mixed) | {"reliability": three.assign(accuracy=three.confidence + signs)}
    assert "others too low" in three_answers(type(mixed)(**fields))[0].short


def verdicts(evaluation, **found):
    """The evaluation with other verdicts on NLL, by method."""
    table = evaluation.differences
    others = table.method.map(found).where(table.against != "temperature")
    return changed(evaluation, "differences", verdict=others.fillna(table.verdict))


@pytest.mark.parametrize(
    ("temperature", "vector_scaling", "told"),
    [
        ("better", "undecided", "Temperature scaling, one number"),
        ("undecided", "better", "Vector scaling: NLL from"),
        ("undecided", "worse", "Nothing that was tried"),
        ("no conclusion", "no conclusion", "That cannot be concluded"),
    ],
)
def test_the_correction_to_take_is_the_one_that_lowers_the_nll(
    plain, temperature, vector_scaling, told
):
    found = {"temperature": temperature, "vector_scaling": vector_scaling}
    evaluation = verdicts(read_evaluation(plain), **found)
    assert three_answers(evaluation)[1].short.startswith(told)


def test_segmentations_that_are_the_same_are_called_so(tmp_path):
    out = write_evaluation(tmp_path / "same", n_new=0)
    row = {"method": "temperature", "against": "ensemble", "region": "whole", "segment": "LV"}
    row |= {"metric": "dice", "difference": 0.0, "lo": 0.0, "hi": 0.0, "verdict": "undecided"}
    rows = [row, row | {"method": "vector_scaling", "difference": -0.021, "lo": -0.03}]
    write_table(out / "tables" / "differences.csv", pd.DataFrame(rows).assign(why=""))
    text = text_of(write_page(out))
    assert "temperature scaling against ensemble of 3 the same" in text
    assert "vector scaling against ensemble of 3 −0.021 undecided −0.030 to 0" in text


def test_vector_scaling_must_beat_temperature_to_be_preferred(plain):
    evaluation = verdicts(read_evaluation(plain), temperature="better", vector_scaling="better")
    is_rival = evaluation.differences.against == "temperature"
    for verdict, told in (("better", "Vector"), ("undecided", "Temperature")):
        column = evaluation.differences.verdict.mask(is_rival, verdict)
        found = three_answers(changed(evaluation, "differences", verdict=column))[1]
        assert found.short.startswith(told)


def test_few_cases_say_that_nothing_is_concluded(tmp_path):
    out = write_evaluation(tmp_path / "few", n_cases=3, n_new=0)
    text = text_of(write_page(out))
    assert "No conclusion: 3 patients, at least 10 needed." in text
    assert "That cannot be concluded: 3 patients, at least 10 needed" in text
    assert "worth anything cannot be concluded: 3 patients, at least 10 needed." in text
    assert "Means over the patients, who are too few for intervals" in text
    assert "No cases without labels were given" in text
    assert not re.search(r"\bnan\b", text)


def test_several_scans_of_a_patient_count_once(plain):
    evaluation = read_evaluation(plain)
    evaluation = changed(evaluation, "scores", patient="the only one")
    assert three_answers(evaluation)[0].short.startswith("No conclusion: 1 patient,")


def test_a_model_that_segments_poorly_allows_no_conclusion(plain):
    evaluation = read_evaluation(plain)
    summary = evaluation.summary
    poor = summary["mean"].mask((summary.metric == "dice") & (summary.segment == "LV"), 0.42)
    answer = three_answers(changed(evaluation, "summary", mean=poor))[0]
    assert answer.short == "No conclusion: mean Dice 0.42 (LV), at least 0.5 needed."


def test_an_order_that_is_worse_than_chance_is_called_so(plain):
    evaluation = changed(read_evaluation(plain), "aurc", verdict="worse", why=None)
    short = three_answers(evaluation)[2].short
    assert "segment entropy finds poor segmentations worse than chance." in short


def test_hard_labels_say_what_cannot_be_had(tmp_path):
    out = write_evaluation(tmp_path / "hard", has_probabilities=False, n_new=0, n_left_out=0)
    assert draw_figures(out) == []
    text = text_of(write_page(out))
    assert "there are only hard labels, no probabilities" in text
    assert "save the probabilities" in text
    assert "hard labels hold no probabilities to correct" in text
    assert "Nothing: every case was scored." in text
    assert "Dice RV" not in text and "HD95 (mm)" in text
    assert "AURC" not in text and "ECE" not in text
    assert "Members 3" in text


def test_one_folder_has_no_ensemble(tmp_path):
    out = write_evaluation(tmp_path / "one", n_members=1, n_new=0)
    text = text_of(write_page(out))
    assert "ensemble" not in text.lower()
    assert "the model says" in text and "as predicted" in text


@pytest.mark.slow
def test_a_thousand_cases_make_a_page_that_opens(tmp_path):
    out = write_evaluation(tmp_path / "many", 1000, 1, 1000, n_pictures=0, n_left_out=200)
    draw_figures(out)
    page = write_page(out)
    text = text_of(page)
    assert "first 50 of 1,000 cases" in text and "The first 50 of 200" in text
    assert page.read_text().count("<tr>") < 300
    assert page.stat().st_size < 2e6


def test_tables_that_are_absent_or_have_more_columns_are_no_obstacle(tmp_path):
    out = write_evaluation(tmp_path / "part")
    scores = read_table(out / "tables" / "scores.csv").assign(device="cpu")
    write_table(out / "tables" / "scores.csv", scores)
    (out / "tables" / "notes.csv").write_text("\n")
    text_of(write_page(out))
    for path in (out / "tables").glob("*.csv"):
        if path.stem not in ("scores", "summary"):
            path.unlink()
    for name in ("correction", "provenance", "evaluation"):
        (out / f"{name}.json").unlink()
    draw_figures(out)
    assert [path.stem for path in (out / "figures").glob("[a-q]*.png")] == []
    assert "Can I trust its probabilities?" in text_of(write_page(out))


def test_cases_left_out_for_one_reason_share_a_line(tmp_path):
    out = write_evaluation(tmp_path / "gaps", n_new=0)
    why = "no prediction of it in this folder"
    rows = [(f"case_{i:02d}", "fold_0", why) for i in range(12)]
    table = pd.DataFrame([*rows, ("case_99", "fold_1", why)], columns=["case", "folder", "why"])
    write_table(out / "tables" / "left_out.csv", table)
    text = text_of(write_page(out))
    assert f"{why} fold_0 12 case_00, case_01," in text and "and 2 more" in text
    assert f"{why} fold_1 1 case_99" in text
    assert "Left out 13" in text


def test_what_every_class_says_is_told_in_percent_and_only_where_it_is_judged(tmp_path):
    out = write_evaluation(tmp_path / "classes", n_new=0)
    summary = read_table(out / "tables" / "summary.csv")
    row = {"method": "ensemble", "segment": "LV", "metric": "ece_class", "interval": "mean"}
    row |= {"mean": 0.0321, "lo": 0.02, "hi": 0.04, "n_cases": 12, "n_missing": 0}
    rows = [row | {"region": "box"}, row | {"region": "whole", "mean": 0.0987}]
    write_table(out / "tables" / "summary.csv", pd.concat([summary, pd.DataFrame(rows)]))
    text = text_of(write_page(out))
    assert "ECE of the class (%), in the box around the segments" in text
    assert "3.21 2.00 to 4.00" in text.replace("2 to 4", "2.00 to 4.00")
    assert "9.87" not in text


def test_figures_of_earlier_data_are_removed(tmp_path):
    out = write_evaluation(tmp_path / "again", n_new=0)
    absent = ("reliability", "reliability_cases", "differences", "risk_coverage", "entropy_dice")
    for name in (*absent, "oodm"):
        (out / "tables" / f"{name}.csv").unlink()
    earlier = out / "figures" / "entropy_against_dice.png"
    earlier.parent.mkdir()
    earlier.write_bytes(b"png")
    assert [path.name for path in draw_figures(out)] == ["summary.png"]
    assert not earlier.exists()
