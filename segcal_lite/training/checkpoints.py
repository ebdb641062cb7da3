"""Trainings that can be interrupted: what those on slices and on blocks share, and their files.

After each evaluation all state goes into one safetensors file, whole or not at all.
"""

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .._checks import wrong_input
from ..losses import training_loss
from ..runs.devices import choose_device, memory_layout, reproducible
from ..runs.folders import (
    check_same_settings,
    read_json,
    read_table,
    run_lock,
    write_json,
    write_table,
    written_aside,
)


def train_to_the_end(folder, settings, device, begin, report=None):
    """Train one model, or go on with it, or find it finished; return its history, a data frame.

    `begin`, called with folder and device, returns the `Training`, at its checkpoint if there is
    one; `report`, if given, is called with each row of the history.
    """
    folder, device = Path(folder), choose_device(device)
    with run_lock(folder):
        check_settings(folder, settings)
        write_json(folder / "config.json", asdict(settings))
        if not is_finished(folder):
            with reproducible(device):
                training = begin(folder, device)
                while not training.finished:
                    row = training.advance()
                    if report:
                        report(row)
            history = pd.DataFrame(training.numbers["history"])
            write_table(folder / "history.csv", history, sealed=True)
            with written_aside(folder / "weights.safetensors") as partial:
                save_file(training.best_weights, partial)
            for name in ("checkpoint.safetensors", "state.json"):
                (folder / name).unlink(missing_ok=True)
        return read_history(folder)


class Training:
    """One training under way: model, optimiser, best weights, and `numbers`, which are the rest.

    Each kind says how it trains as far as its next evaluation (`train_and_evaluate`), what it makes
    of that row of its history (`judge`: best weights, learning rate) and when it is `finished`.
    """

    def __init__(self, folder, settings, device, model, first_rate, **numbers):
        self.folder, self.settings, self.device = folder, settings, device
        self.model = model.to(device, memory_format=memory_layout(model.n_dims))
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=first_rate, fused=True)
        self.best_weights = {}
        self.numbers = {"history": [], "n_flat": 0, **numbers}
        if (folder / "checkpoint.safetensors").exists():
            self.best_weights, self.numbers = load_checkpoint(folder, self.model, self.optimiser)
            self.rate = self.numbers["learning_rate"]

    @property
    def rate(self):
        """The learning rate now."""
        return self.optimiser.param_groups[0]["lr"]

    @rate.setter
    def rate(self, rate):
        self.optimiser.param_groups[0]["lr"] = rate

    def advance(self):
        """Train as far as the next evaluation, judge it and save; return the history's row."""
        row = self.train_and_evaluate()
        self.numbers["history"].append(row)
        self.judge(row)
        self.numbers["learning_rate"] = self.rate
        save_checkpoint(self.folder, self.model, self.optimiser, self.best_weights, self.numbers)
        return row

    def step(self, images, labels, **class_weights):
        """One step of the optimiser on a mini-batch; return the loss."""
        self.model.train()
        loss = training_loss(
            self.model(self.placed(images)),
            labels.to(self.device),
            self.settings.loss,
            epsilon=self.settings.dice_epsilon,
            check_values=False,  # of labels before, of logits by the mean loss of many steps
            **class_weights,
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def placed(self, images):
        """Return a mini-batch where the model is, in the layout that it is in."""
        return images.to(self.device).contiguous(memory_format=memory_layout(self.model.n_dims))

    def check_finite(self, name, losses):
        """Raise where a loss is infinite or NaN."""
        if not np.isfinite(losses).all():
            expected = "a finite number; try a lower learning_rate"
            raise wrong_input(f"{name} in {self.folder}", losses, expected)


def save_checkpoint(folder, model, optimiser, best_weights, numbers):
    """Write ``checkpoint.safetensors``, and ``state.json`` that tells people the same."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with written_aside(folder / "checkpoint.safetensors") as partial:
        save_file(tensors, partial, metadata={"numbers": json.dumps(numbers)})  # float64 exactly
    write_json(folder / "state.json", numbers)


def load_checkpoint(folder, model, optimiser):
    """Put a checkpoint back into `model` and `optimiser`; return best weights and numbers."""
    groups, path = {"model": {}, "best": {}, "adam": {}}, folder / "checkpoint.safetensors"
    with _named_if_damaged(path, path), safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["numbers"])
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
            group, name = key.split(".", 1)
            groups[group][name] = file.get_tensor(key)
    model.load_state_dict(groups["model"])
    adam = optimiser.state_dict()
    for key, tensor in groups["adam"].items():
        index, name = key.split(".")
        # As the optimiser made it: another layout may round the last bit otherwise.
        tensor = tensor.contiguous(memory_format=memory_layout(tensor.ndim - 2))
        adam["state"].setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict(adam)
    return groups["best"], numbers


def copy_weights(model):
    """Return all weights of a model as they are now, on the CPU."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }


def check_settings(folder, settings):
    """Refuse a folder that holds a model of other settings, naming the fields that differ."""
    if (folder / "config.json").exists():
        check_same_settings(folder / "config.json", asdict(settings))
    elif is_finished(folder):
        found = "weights without config.json"
        raise wrong_input(folder, found, "both; remove the folder to train the model again")


def is_finished(folder):
    """Return whether a folder holds a finished model: its weights are written last."""
    return (Path(folder) / "weights.safetensors").exists()


def check_finished(folder):
    """Return the folder of a finished model as a path, or say that it is none."""
    if not is_finished(folder):
        raise wrong_input(folder, "no weights.safetensors", "the folder of a finished model")
    return Path(folder)


def read_history(folder):
    """Return the history of a finished model: a row for each of its evaluations."""
    return read_table(Path(folder) / "history.csv", sealed=True, remove=folder)


def history_so_far(folder):
    """Return the rows of a finished model's history, or of one that is training; else none."""
    if is_finished(folder):
        return read_history(folder).to_dict("records")
    path = Path(folder) / "state.json"
    return read_json(path)["history"] if path.exists() else []


def read_weights(folder):
    """Return the weights of a finished model, a dict of tensors; damaged ones are named."""
    path = check_finished(folder) / "weights.safetensors"
    with _named_if_damaged(path, folder):
        return load_file(path)


@contextmanager
def _named_if_damaged(path, remove):
    """Name a file of tensors that is cut short, and what to remove to have it made again."""
    try:
        yield
    except SafetensorError as error:
        expected = f"a whole file; remove {remove} to train again"
        raise wrong_input(path, f"a damaged file ({error})", expected) from error
