import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from segcal_lite.runs.devices import memory_layout
from segcal_lite.training import on_blocks
from segcal_lite.training.checkpoints import load_checkpoint, read_history
from segcal_lite.training.models import build_model, load_model
from segcal_lite.training.on_blocks import BlockTraining, train_on_blocks
from segcal_lite.training.plans import chain, dedicated, joint, set_probabilities

CPU = torch.device("cpu")


@pytest.fixture
def settings(volumes):
    def make(plan, dropout=False, **changes):
        return replace(volumes.settings(plan, dropout), **changes)

    return make


def train(volumes, folder, chosen, **others):
    return train_on_blocks(folder, volumes.sets, chosen, device="cpu", **others)


def weights(folder):
    return load_file(folder / "weights.safetensors")


def same_bits(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_training_lowers_the_loss_and_says_how_each_set_fares(volumes, settings, tmp_path):
    chosen = settings(joint("liver_ct", "atrium"), evaluate_every=15, learning_rate=0.01)
    history = train(volumes, tmp_path, chosen)
    assert list(history.columns) == [
        *("iteration", "learning_rate", "train_loss", "validation_loss"),
        *("loss_liver_ct", "loss_atrium"),
    ]
    assert history.iteration.tolist() == [15, 30, 45, 60]  # 2 evaluations for each set
    assert history.train_loss.iloc[-1] < history.train_loss.iloc[0] < 0
    mean = history[["loss_liver_ct", "loss_atrium"]].mean(axis=1)
    np.testing.assert_allclose(history.validation_loss, mean)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        *("config.json", "history.csv", "weights.safetensors")
    ]


TRAIN_IN_A_PROCESS = """
import json, sys, time
from segcal_lite.training.models import BlockSettings
from segcal_lite.training.on_blocks import train_on_blocks
from segcal_lite.data.prepared import read_prepared
fields = json.loads(sys.argv[2])
fields["plan"] = tuple(map(tuple, fields["plan"]))
cases = {name: read_prepared(place) for name, place in json.loads(sys.argv[3]).items()}
train_on_blocks(sys.argv[1], cases, BlockSettings(**fields), device="cpu")
"""


@pytest.mark.slow
def test_a_killed_training_ends_with_the_bits_of_a_whole_one(volumes, settings, tmp_path):
    chosen = settings(joint("liver_ct", "atrium"), dropout=True, n_evaluations=8, evaluate_every=2)
    chosen = replace(chosen, n_flat_to_stop=100)
    train(volumes, tmp_path / "whole", chosen)
    killed = tmp_path / "killed"
    places = {name: str(volumes.out / "sets" / name / "prepared") for name in chosen.sets}
    arguments = [str(killed), json.dumps(asdict(chosen)), json.dumps(places)]
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN_IN_A_PROCESS, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (killed / "checkpoint.safetensors").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "weights.safetensors").exists()
    rows = []
    train(volumes, killed, chosen, report=rows.append)
    assert 2 < rows[0]["iteration"] <= 22  # it went on where it was
    assert same_bits(tmp_path / "whole", killed)
    histories = [read_history(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*histories)


def test_every_interruption_gives_the_same_bits(volumes, settings, tmp_path):
    chosen = settings(dedicated("atrium"), n_evaluations=5, n_flat_to_stop=100, learning_rate=0.03)
    train(volumes, tmp_path / "whole", chosen)

    def interrupt(row):
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            train(volumes, tmp_path / "parts", chosen, report=interrupt)
    train(volumes, tmp_path / "parts", chosen, report=interrupt)
    assert same_bits(tmp_path / "whole", tmp_path / "parts")


def test_nothing_tells_the_network_which_set_a_block_is_from(volumes, settings, tmp_path):
    """The same images under other names give the same weights, and the input has one channel."""
    one = settings(joint("liver_ct", "atrium"))
    train(volumes, tmp_path / "one", one)
    renamed = {"x": volumes.sets["liver_ct"], "y": volumes.sets["atrium"]}
    other = replace(one, plan=(("x", "y"),), data={})
    train_on_blocks(tmp_path / "other", renamed, other, device="cpu")
    assert same_bits(tmp_path / "one", tmp_path / "other")
    assert build_model(one).encoder[0].convolutions[0].in_channels == 1


def test_sets_are_drawn_as_often_as_they_should(volumes, settings, tmp_path, monkeypatch):
    run = BlockTraining(tmp_path, volumes.sets, settings(joint("liver_ct", "atrium")), None, CPU)
    np.testing.assert_allclose(run.probabilities, [0.5, 0.5])  # as many images each
    ct, mr = SimpleNamespace(image="ct", labels=None), SimpleNamespace(image="mr", labels=None)
    run.images = {"liver_ct": [ct] * 16, "atrium": [mr]}
    run.probabilities = set_probabilities([16, 1])
    drawn, rng = [], np.random.default_rng(0)
    monkeypatch.setattr(on_blocks, "draw_block", lambda *a, seed: drawn.append(a[1]))
    for _ in range(2000):
        run._draw(rng)
    assert drawn.count("mr") / 2000 == pytest.approx(0.2, abs=0.03)


def test_the_schedule_is_the_papers(volumes, settings, tmp_path):
    """A loss that has not become smaller lowers the rate; two in a row end the training."""
    run = BlockTraining(
        tmp_path, volumes.sets, settings(dedicated("atrium"), n_flat_to_stop=2), None, CPU
    )
    rate = run.optimiser.param_groups[0]["lr"]
    for loss, factor, n_flat in ((-0.2, 1, 0), (-0.2, 0.9, 1), (-0.3, 0.9, 0), (-0.1, 0.81, 1)):
        run.judge({"validation_loss": loss})
        assert run.optimiser.param_groups[0]["lr"] == pytest.approx(rate * factor)
        assert run.numbers["n_flat"] == n_flat
        assert not run.finished
    run.judge({"validation_loss": -0.25})
    assert run.finished
    assert run.numbers["best_loss"] == -0.3


def test_the_weights_of_the_smallest_validation_loss_are_kept(volumes, settings, tmp_path):
    chosen = settings(dedicated("atrium"), n_evaluations=6, n_flat_to_stop=100, learning_rate=0.05)
    history = train(volumes, tmp_path / "model", chosen)
    model, loaded = load_model(tmp_path / "model", "cpu")
    assert loaded == chosen
    run = BlockTraining(tmp_path / "other", volumes.sets, chosen, None, CPU)
    run.model.load_state_dict(model.state_dict())
    best = run._validation_loss("atrium")
    assert best == pytest.approx(history.validation_loss.min(), abs=1e-6)


def test_a_chain_starts_from_the_weights_before_at_half_the_rate(volumes, settings, tmp_path):
    first, second = settings(dedicated("atrium")), settings(chain("atrium", "liver_ct"))
    train(volumes, tmp_path / "first", first)
    run = BlockTraining(tmp_path / "second", volumes.sets, second, tmp_path / "first", CPU)
    for name, tensor in weights(tmp_path / "first").items():
        assert torch.equal(run.model.state_dict()[name], tensor)
    assert run.optimiser.param_groups[0]["lr"] == first.learning_rate / 2
    history = train(volumes, tmp_path / "second", second, start=tmp_path / "first")
    assert history.learning_rate[0] == first.learning_rate / 2
    changed = weights(tmp_path / "second")
    still = [n for n, w in weights(tmp_path / "first").items() if torch.equal(changed[n], w)]
    assert not [n for n in still if n.endswith("weight")]  # all layers are tuned


def test_the_checkpoint_brings_back_the_optimiser_to_the_bit(volumes, settings, tmp_path):
    chosen = settings(dedicated("atrium"))
    run = BlockTraining(tmp_path, volumes.sets, chosen, None, CPU)
    run.advance()
    other = BlockTraining(tmp_path / "elsewhere", volumes.sets, chosen, None, CPU)
    load_checkpoint(tmp_path, other.model, other.optimiser)
    states = [r.optimiser.state_dict()["state"] for r in (run, other)]
    for index, state in states[0].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, states[1][index][name])
            if tensor.ndim == 5:  # another layout may round the last bit otherwise
                assert states[1][index][name].is_contiguous(memory_format=memory_layout(3))


def test_no_part_of_a_checkpoint_stays_mapped(volumes, settings, tmp_path):
    """Windows would then not let the next one take its place."""
    run = BlockTraining(tmp_path, volumes.sets, settings(dedicated("atrium")), None, CPU)
    run.advance()
    best, _ = load_checkpoint(tmp_path, run.model, run.optimiser)
    assert best
    maps = psutil.Process().memory_maps()
    assert not [m.path for m in maps if m.path.endswith("checkpoint.safetensors")]


def test_files_are_open_only_while_a_block_is_cut(volumes, settings, tmp_path):
    """Thousands of training images would need more open files than systems allow."""
    run = BlockTraining(tmp_path, volumes.sets, settings(joint("liver_ct", "atrium")), None, CPU)
    run.advance()
    opened = [str(path) for path in psutil.Process().open_files() if "prepared" in str(path)]
    maps = [m.path for m in psutil.Process().memory_maps() if m.path.endswith(("image.npy",))]
    assert len(opened) + len(maps) <= 1


def test_a_loss_that_is_no_number_ends_the_training(volumes, settings, tmp_path):
    """Also in the last iteration, which only the validation loss sees."""
    chosen = settings(
        dedicated("atrium"), evaluate_every=1, n_evaluations=1, learning_rate=float("inf")
    )
    with pytest.raises(ValueError, match="validation loss in .*: found .*nan"):
        train(volumes, tmp_path, chosen)
    assert not (tmp_path / "weights.safetensors").exists()


def test_volumes_smaller_than_a_block_are_padded(volumes, settings, tmp_path):
    history = train(volumes, tmp_path, settings(dedicated("atrium"), block_side=24))
    assert np.isfinite(history.validation_loss).all()


def test_what_cannot_be_trained_is_refused(volumes, settings, tmp_path):
    one, two = settings(dedicated("atrium")), settings(chain("atrium", "liver_ct"))
    with pytest.raises(ValueError, match="start: found None, expected the folder of the stages"):
        train(volumes, tmp_path / "a", two)
    with pytest.raises(ValueError, match="start: found .*, expected the folder of the stages"):
        train(volumes, tmp_path / "a", one, start=tmp_path)
    with pytest.raises(ValueError, match=r"no weights.safetensors, expected the folder of a fin"):
        train(volumes, tmp_path / "b", two, start=tmp_path / "nothing")
    untested = {"atrium": [c for c in volumes.sets["atrium"] if c.split != "validation"]}
    with pytest.raises(ValueError, match="set atrium: found no case in split 'validation'"):
        train_on_blocks(tmp_path / "c", untested, one, device="cpu")
    (case, *_) = (case for case in volumes.sets["atrium"] if case.split == "validation")
    bare = SimpleNamespace(split="validation", image=case.image, labels=0 * case.labels)
    with pytest.raises(ValueError, match="set atrium: found no foreground in . validation blocks"):
        train_on_blocks(tmp_path / "c", {"atrium": [*untested["atrium"], bare]}, one, device="cpu")
    train(volumes, tmp_path / "d", one)
    with pytest.raises(ValueError, match=r"n_features = 2 \(now 4\)"):
        train(volumes, tmp_path / "d", replace(one, n_features=4))
    with pytest.raises(ValueError, match="training loss in .*: found nan, expected a finite"):
        train(volumes, tmp_path / "e", replace(one, learning_rate=1e30))
