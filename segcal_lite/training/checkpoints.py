"""Trainings that can be interrupted: all state in one safetensors file, whole or not at all."""

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .._checks import wrong_input
from ..runs.devices import reproducible
from ..runs.folders import (
    check_same_settings,
    read_table,
    run_lock,
    write_json,
    write_table,
    written_aside,
)


def save_checkpoint(folder, model, optimiser, best_weights, numbers):
    """Write ``checkpoint.safetensors``, and ``state.json`` that tells people the same.

    Parameters
    ----------
    folder : path
    model : torch.nn.Module
    optimiser : torch.optim.Adam
    best_weights : dict of tensor
        Weights of the best validation Dice so far.
    numbers : dict
        Everything that is no tensor; JSON keeps float64 exactly.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with written_aside(folder / "checkpoint.safetensors") as partial:
        save_file(tensors, partial, metadata={"numbers": json.dumps(numbers)})
    write_json(folder / "state.json", numbers)


def load_checkpoint(folder, model, optimiser):
    """Put a checkpoint back into `model` and `optimiser`.

    Returns
    -------
    best_weights : dict of tensor
    numbers : dict
    """
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
        adam["state"].setdefault(int(index), {})[name] = _laid_out(tensor)
    optimiser.load_state_dict(adam)
    return groups["best"], numbers


def copy_weights(model):
    """Return all weights of a model as they are now, on the CPU."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }


def train_to_the_end(folder, settings, device, begin, step, report=None):
    """Train one model, or go on with it, or find it finished; return its history.

    Parameters
    ----------
    folder : path
    settings : dataclass
        Kept as ``config.json``; a folder of other settings is refused.
    device : torch device
    begin : callable
        Returns a run with ``finished``, ``numbers`` and ``best_weights``, from a checkpoint if any.
    step : callable
        Takes the run as far as its next checkpoint and returns the history's row.
    report : callable, optional
        Called with that row.

    Returns
    -------
    pandas.DataFrame
    """
    weights = folder / "weights.safetensors"  # their presence says complete
    with run_lock(folder):
        if (folder / "config.json").exists():
            check_same_settings(folder / "config.json", asdict(settings))
        elif weights.exists():
            found = "weights without config.json"
            raise wrong_input(folder, found, "both; remove the folder to train the model again")
        write_json(folder / "config.json", asdict(settings))
        if not weights.exists():
            with reproducible(device):
                run = begin()
                while not run.finished:
                    row = step(run)
                    if report:
                        report(row)
            history = pd.DataFrame(run.numbers["history"])
            write_table(folder / "history.csv", history, sealed=True)
            with written_aside(weights) as partial:
                save_file(run.best_weights, partial)
            discard_checkpoint(folder)
        return read_history(folder)


def read_history(folder):
    """Return the history of a finished model: a row for each of its evaluations."""
    return read_table(Path(folder) / "history.csv", sealed=True, remove=folder)


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


def check_finished(folder):
    """Return the folder of a finished model as a path, or say that it is none."""
    folder = Path(folder)
    if not (folder / "weights.safetensors").exists():
        raise wrong_input(folder, "no weights.safetensors", "the folder of a finished model")
    return folder


def discard_checkpoint(folder):
    """Remove the state of a training that has finished."""
    for name in ("checkpoint.safetensors", "state.json"):
        (folder / name).unlink(missing_ok=True)


def _laid_out(tensor):
    """Channels last, as the optimiser made it: another layout may round the last bit otherwise."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=layouts.get(tensor.ndim, torch.contiguous_format))
