"""The files of a training: its checkpoint, its weights, its settings and its history."""

import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from .._checks import wrong_input
from ..runs.folders import (
    check_same_settings,
    read_json,
    text_digest,
    write_json,
    written_aside,
)
from ..runs.tables import check_columns, read_table


def save_checkpoint(folder, model, optimiser, best_weights, numbers):
    """Write ``checkpoint.safetensors``, and ``state.json`` that tells people the same."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {"numbers": json.dumps(numbers)}  # float64 exactly
    write_tensors(folder / "checkpoint.safetensors", tensors, metadata)
    write_json(folder / "state.json", numbers)


def write_tensors(path, tensors, metadata=None):
    """Write a safetensors file, whole or not at all; `save_file` would hide it from all others."""
    with written_aside(path) as partial:
        partial.write_bytes(save(tensors, metadata))


def remove_checkpoint(folder):
    """Remove what a finished training needs no more, if it is there and may be removed."""
    for path in (folder / "checkpoint.safetensors", folder / "state.json"):
        if path.exists() and os.access(folder, os.W_OK):
            path.unlink(missing_ok=True)


def load_checkpoint(folder, model, optimiser):
    """Put a checkpoint back into `model` and `optimiser`; return best weights and numbers."""
    groups, path = {"model": {}, "best": {}, "adam": {}}, folder / "checkpoint.safetensors"
    weights, expected = optimiser.param_groups[0]["params"], model.state_dict()
    with _named_if_damaged(path, path):
        with safe_open(path, framework="pt") as file:
            numbers = json.loads(file.metadata()["numbers"])
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                group, name = key.split(".", 1)
                # A copy: Windows replaces no file of which something is mapped into memory.
                groups[group][name] = file.get_tensor(key).clone()
        check_fit(groups["model"], expected)
        check_fit(groups["best"], expected if numbers["history"] else {})
        adams = {f"{k}.step": torch.zeros(()) for k in range(len(weights))}
        for name in ("exp_avg", "exp_avg_sq"):
            adams |= {f"{k}.{name}": weight for k, weight in enumerate(weights)}
        check_fit(groups["adam"], adams)
    model.load_state_dict(groups["model"])
    for key, tensor in groups["adam"].items():
        index, name = key.split(".")
        weight = weights[int(index)]
        # As the optimiser makes it: another layout may round the last bit otherwise.
        empty = torch.zeros_like(weight if tensor.ndim else tensor, device=weight.device)
        optimiser.state[weight].setdefault(name, empty).copy_(tensor)
    return {name: tensor.to(weights[0].device) for name, tensor in groups["best"].items()}, numbers


def copy_weights(model):
    """Return all weights of a model as they are now, where they are."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def check_settings(folder, settings):
    """Refuse a folder that holds a model of other settings, naming the fields that differ."""
    if (folder / "config.json").exists():
        check_same_settings(folder / "config.json", asdict(settings), settings.later_fields)
    elif is_finished(folder) or (folder / "checkpoint.safetensors").exists():
        found = "weights without config.json"
        raise wrong_input(folder, found, "both; remove the folder to train the model again")


def check_numbers(path, stored, expected):
    """Refuse a checkpoint whose numbers have other names or types than those of a new training."""
    types = [{name: type(value) for name, value in both.items()} for both in (stored, expected)]
    if types[0] != types[1]:
        wanted = f"{', '.join(expected)}; remove {path} to train again"
        raise wrong_input(path, f"numbers {', '.join(stored)} or other types", wanted)


def check_fit(tensors, expected):
    """Raise unless tensors by name have the names, shapes and types of those expected."""
    if tensors.keys() != expected.keys():
        raise ValueError(f"{min(tensors.keys() ^ expected.keys())} is in one network only")
    for name, tensor in tensors.items():
        found, wanted = ((t.dtype, tuple(t.shape)) for t in (tensor, expected[name]))
        if found != wanted:
            raise ValueError(f"{name} is {found}, in the network {wanted}")


def is_finished(folder):
    """Return whether a folder holds a finished model: its weights are written last."""
    return (Path(folder) / "weights.safetensors").exists()


def trained_digest(folder):
    """Return a digest of how a model was trained: one may be removed, and made anew otherwise."""
    paths = (Path(folder) / name for name in ("config.json", "history.csv"))
    return text_digest("".join(path.read_text("utf-8") for path in paths if path.exists()), 16)


def check_finished(folder):
    """Return the folder of a finished model as a path, or say that it is none."""
    if not is_finished(folder):
        raise wrong_input(folder, "no weights.safetensors", "the folder of a finished model")
    return Path(folder)


def read_history(folder):
    """Return the history of a finished model: a row for each of its evaluations."""
    path = Path(folder) / "history.csv"
    history = read_table(path, sealed=True, remove=folder)
    chosen_by = "validation_loss" if "iteration" in history else "validation_dice"
    measured = [name for name in history if name.startswith(("validation_", "loss_"))]
    columns = ["learning_rate", "train_loss", chosen_by, *measured]
    check_columns(path, history, columns, remove=folder)
    if not np.isfinite(history[chosen_by]).all():
        found = f"a {chosen_by} that is no number"
        raise wrong_input(path, found, f"a whole table; remove {folder} to train again")
    return history


def history_so_far(folder):
    """Return the rows of a finished model's history, or of one that is training; else none."""
    if is_finished(folder):
        return read_history(folder).to_dict("records")
    with suppress(FileNotFoundError):  # none yet, or the training ended a moment ago
        return read_json(Path(folder) / "state.json", shape={"history": list})["history"]
    return []


def load_weights(folder, model):
    """Give a network the weights of a finished model; damaged ones, or of another, are named."""
    path = check_finished(folder) / "weights.safetensors"
    with _named_if_damaged(path, folder):
        weights = load_file(path)
        check_fit(weights, model.state_dict())
    model.load_state_dict(weights)


@contextmanager
def _named_if_damaged(path, remove):
    """Name a file of tensors that is damaged, and what to remove to have it made again."""
    try:
        yield
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        expected = f"a whole file; remove {remove} to train again"
        raise wrong_input(path, f"a damaged file ({error})", expected) from error
