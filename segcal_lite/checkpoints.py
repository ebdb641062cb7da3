"""All state of an interrupted training in one safetensors file, written whole or not at all."""

import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .runs import write_json, written_aside


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
    groups = {"model": {}, "best": {}, "adam": {}}
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
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


def discard_checkpoint(folder):
    """Remove the state of a training that has finished."""
    for name in ("checkpoint.safetensors", "state.json"):
        (folder / name).unlink(missing_ok=True)


def _laid_out(tensor):
    """Channels last, as the optimiser made it: another layout may round the last bit otherwise."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=layouts.get(tensor.ndim, torch.contiguous_format))
