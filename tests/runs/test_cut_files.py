"""Every kind of file of a run, cut short: it is named, with what to remove, or made again."""

import re
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from segcal_lite.data.prepared import read_prepared
from segcal_lite.experiments.case_scores import read_scaling, score_cases
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.experiments.volume_scores import read_scores
from segcal_lite.runs.folders import read_json, write_json
from segcal_lite.training.checkpoints import load_checkpoint, load_weights, read_history
from segcal_lite.training.models import build_model, load_model
from segcal_lite.training.on_slices import SliceTraining, train_model

TINY = {"n_epochs": 1, "n_members": 1, "n_passes": 2, "n_resamples": 2, "widths": (4, 8)}


def silent(line):
    pass


def reopen(discs, folder):
    return open_experiment(folder, discs, crop_size=(32, 32), device="cpu", report=silent, **TINY)


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory):
    """A finished run on the discs, and its scores."""
    own = reopen(discs, tmp_path_factory.mktemp("run"))
    return own, own.scores(("dice",), silent)


def of_all(content):
    """Lengths of a file cut to nothing, to its first line, to half, by its last line, by a byte."""
    first_line = content.find(b"\n") + 1 or 8
    last_line = content.rstrip(b"\n").rfind(b"\n") + 1
    lengths = {0, first_line, len(content) // 2, last_line, len(content.rstrip(b"\n")) - 1}
    return sorted(length for length in lengths if length < len(content))


def check_every_cut(path, use, remove=None):
    """Cut `path` in every way: `use` refuses it by name, and says what to remove."""
    whole = path.read_bytes()
    try:
        for length in of_all(whole):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: found ") as error:
                use()
            assert f"remove {remove or 'it'}" in str(error.value), length
    finally:
        path.write_bytes(whole)
    use()


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_scores_that_were_cut_are_made_again(run, suffix):
    own, table = run
    folder = own.scoring("dice").folder
    path, sums = folder / f"disc5{suffix}", own.sums("dice", "ensemble")
    whole = path.read_bytes()
    for length in of_all(whole):
        path.write_bytes(whole[:length])
        lines = []
        assert own.scores(("dice",), lines.append).equals(table)
        assert f"1 scores are cut short, so made again; the first: {folder / 'disc5.csv'}" in lines
        assert np.array_equal(own.sums("dice", "ensemble"), sums)
    assert own.scores(("dice",), silent).equals(table)


def test_scores_that_are_whole_are_kept(run):
    own, _ = run
    path = own.scoring("dice").folder / "disc5.csv"
    before = path.stat().st_mtime_ns
    lines = []
    own.scores(("dice",), lines.append)
    assert path.stat().st_mtime_ns == before
    assert not [line for line in lines if "cut short" in line or "scoring" in line]


def test_files_of_a_model(run):
    own, _ = run
    (member,) = own.members("dice")
    folder = member.folder

    def train_again():
        own.train(("dice",), silent)

    check_every_cut(folder / "history.csv", train_again, folder)
    check_every_cut(folder / "history.csv", lambda: read_history(folder), folder)
    check_every_cut(folder / "weights.safetensors", lambda: load_model(folder, "cpu"), folder)
    check_every_cut(
        folder / "weights.safetensors",
        lambda: load_weights(folder, build_model(member.settings)),
        folder,
    )
    check_every_cut(folder / "config.json", train_again)
    check_every_cut(folder / "config.json", lambda: load_model(folder, "cpu"))

    def score_again():
        (own.scoring("dice").folder / "disc5.csv").unlink(missing_ok=True)
        score_cases(own.scoring("dice"), own.prepared_folder, ["disc5"], "cpu")

    check_every_cut(folder / "scaling.json", score_again)


def test_weights_whose_settings_were_removed_are_not_taken(run, tmp_path):
    own, _ = run
    (member,) = own.members("dice")
    train_model(tmp_path, own.prepared_folder, member.settings, "cpu")
    (tmp_path / "config.json").unlink()
    for name in ("weights.safetensors", "checkpoint.safetensors"):
        with pytest.raises(ValueError, match="found weights without config.json, expected both; r"):
            train_model(tmp_path, own.prepared_folder, member.settings, "cpu")
        assert load_file(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "checkpoint.safetensors")


def test_files_of_a_run_folder(run, discs):
    own, _ = run
    for name in ("run.json", "provenance.json", "prepared/settings.json"):
        check_every_cut(own.out / name, lambda: reopen(discs, own.out))


def test_files_of_prepared_cases(run):
    own, _ = run
    folder = own.prepared_folder
    check_every_cut(folder / "cases.csv", lambda: read_prepared(folder))
    case = folder / "disc0"
    for name in ("image", "labels"):

        def read(name=name):
            return np.array(getattr(read_prepared(folder)[0], name))

        check_every_cut(case / f"{name}.npy", read, case)
    check_every_cut(case / "record.json", lambda: read_prepared(folder)[0].record, case)


def test_prepared_cases_whose_settings_were_removed_are_not_taken(discs, tmp_path):
    reopen(discs, tmp_path)
    (tmp_path / "prepared" / "settings.json").unlink()
    with pytest.raises(ValueError, match="found prepared cases without settings.json, expected"):
        reopen(discs, tmp_path)


def test_a_checkpoint(run, tmp_path):
    own, _ = run
    (member,) = own.members("dice")
    training = SliceTraining(tmp_path, own.cases, member.settings, "cpu")
    training.advance()
    path = tmp_path / "checkpoint.safetensors"
    check_every_cut(
        path, lambda: load_checkpoint(tmp_path, training.model, training.optimiser), path
    )


def test_scores_of_volumes_and_fingerprints(tmp_path):
    write_json(tmp_path / "a.json", {"metrics": {"dice": 0.5}, "spectra": {"last": [1.0, 2.0]}})
    check_every_cut(tmp_path / "a.json", lambda: read_scores(tmp_path, ["a"]))
    write_json(tmp_path / "fingerprint.json", "0123456789abcdef")
    check_every_cut(tmp_path / "fingerprint.json", lambda: read_json(tmp_path / "fingerprint.json"))


def refused(path, use, remove=None):
    """Check that `use` names a file, and says what to remove."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: found ") as error:
        use()
    assert f"remove {remove or 'it'}" in str(error.value)


def renamed(tensors):
    tensors["other"] = tensors.pop(next(iter(tensors)))


def longer(tensors):
    name = next(iter(tensors))
    tensors[name] = tensors[name].repeat(2, *(1 for _ in tensors[name].shape[1:]))


def doubled(tensors):
    name = next(iter(tensors))
    tensors[name] = tensors[name].double()


@pytest.mark.parametrize("change", [renamed, longer, doubled, dict.clear])
def test_whole_files_of_other_tensors(run, tmp_path, change):
    own, _ = run
    (member,) = own.members("dice")
    folder = shutil.copytree(member.folder, tmp_path / "copy")
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")
    refused(folder / "weights.safetensors", lambda: load_model(folder, "cpu"), folder)

    training = SliceTraining(tmp_path, own.cases, member.settings, "cpu")
    training.advance()
    path = tmp_path / "checkpoint.safetensors"
    whole = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for group in ("model", "best", "adam"):
        tensors = {name: t for name, t in whole.items() if name.startswith(f"{group}.")}
        rest = {name: t for name, t in whole.items() if name not in tensors}
        change(tensors)
        save_file(rest | tensors, path, metadata)
        refused(path, lambda: SliceTraining(tmp_path, own.cases, member.settings, "cpu"), path)


@pytest.mark.parametrize(
    "numbers", ["", "3", "[]", "{}", '{"history": 5}', "x", '{"history": [{"validation_dice": 1}]}']
)
def test_whole_checkpoints_of_other_numbers(run, tmp_path, numbers):
    own, _ = run
    (member,) = own.members("dice")
    SliceTraining(tmp_path, own.cases, member.settings, "cpu").advance()
    path = tmp_path / "checkpoint.safetensors"
    whole = load_file(path)
    for metadata in ({"numbers": numbers}, {"other": numbers}, None):
        save_file(whole, path, metadata)
        refused(path, lambda: SliceTraining(tmp_path, own.cases, member.settings, "cpu"), path)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1.0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"temperature": None},
        {"scale": [1.0]},
        {"scale": [1.0, -1.0, 1.0]},
        {"scale": 1.0},
        {"shift": [0.0, 0.0, float("inf")]},
        {"shift": [0.0, 0.0, "0"]},
    ],
)
def test_scalings_that_no_fit_gives(run, tmp_path, change):
    own, _ = run
    (member,) = own.members("dice")
    scaling = read_scaling(member.folder, 3)
    assert scaling["temperature"] > 0
    write_json(tmp_path / "scaling.json", scaling | change)
    refused(tmp_path / "scaling.json", lambda: read_scaling(tmp_path, 3))


@pytest.mark.parametrize(
    "content", [[], 5, {}, {"plan": 3}, {"seed": "x"}, {"widths": [-1, 4]}, {"loss": "focal"}]
)
def test_settings_that_make_no_network(run, tmp_path, content):
    own, _ = run
    (member,) = own.members("dice")
    folder = shutil.copytree(member.folder, tmp_path / "copy")
    stored = read_json(folder / "config.json")
    changed = {"seed", "widths", "loss"} & set(content if isinstance(content, dict) else ())
    write_json(folder / "config.json", stored | content if changed else content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(folder / 'config.json'))}: found "):
        load_model(folder, "cpu")


def test_json_of_another_shape_in_a_run_folder(run, discs, tmp_path):
    own, _ = run
    folder = shutil.copytree(own.out, tmp_path / "copy")
    for name in ("run.json", "provenance.json", "prepared/settings.json"):
        whole = (folder / name).read_text()
        for content in ("[]", "5", '"text"', "null"):
            (folder / name).write_text(content)
            refused(folder / name, lambda: reopen(discs, folder))
        (folder / name).write_text(whole)
    reopen(discs, folder)
    for content in ("[]", "{}", '{"metrics": 3}'):
        (tmp_path / "a.json").write_text(content)
        refused(tmp_path / "a.json", lambda: read_scores(tmp_path, ["a"]))


def test_a_history_whose_best_epoch_cannot_be_told_is_named(tmp_path):
    for header, cell in (("epoch", "validation_dice"), ("iteration", "validation_loss")):
        lines = f"{header},learning_rate,train_loss,{cell},validation_dice_present"
        path = tmp_path / "history.csv"
        path.write_text(f"{lines}\n1,0.1,-0.5,0.5,\n\n")
        assert len(read_history(tmp_path)) == 1  # no segment present in validation: no number
        path.write_text(f"{lines}\n1,0.1,-0.5,nan,0.5\n\n")
        with pytest.raises(ValueError, match=f"{cell}, or not in numbers|{cell} that is no number"):
            read_history(tmp_path)
