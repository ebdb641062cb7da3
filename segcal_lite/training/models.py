"""All that decides the weights of one model, beside the data, and the untrained network itself."""

from dataclasses import dataclass, fields

import torch

from ..losses import n_outputs
from ..runs.devices import choose_device, memory_layout
from ..runs.folders import read_json
from ..unet import ResidualUNet, UNet
from .checkpoints import (
    check_finished,
    read_weights,
)

LAYOUT = memory_layout(3)


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides the weights of one model; fields of task and profile keep their names.

    Attributes
    ----------
    task, profile : str
        Their names.
    data : str
        Fingerprint of the dataset.
    loss : {"ce", "dice", "ce_dice"}
    seed : int
    dropout : float
        0 for a member of an ensemble.
    n_channels, n_classes : int
        2 classes where regions overlap: each is a binary problem.
    augment : bool
        Random flips, quarter turns and noise; A uses none.
    regions : tuple of tuple of int
        As in `segcal_lite.data.tasks.Task`: one sigmoid output each, for any loss.
    """

    task: str
    profile: str
    data: str
    loss: str
    seed: int
    dropout: float
    n_channels: int
    n_classes: int
    augment: bool
    spacing_mm: tuple
    intensity_percentiles: tuple
    intensity_rule: str
    dice_weights: tuple
    crop_size: tuple
    widths: tuple
    n_epochs: int
    batch_size: int
    learning_rate: float
    plateau_factor: float
    plateau_patience: int
    plateau_gain: float
    early_stopping_patience: int
    dice_epsilon: float
    regions: tuple = ()

    @classmethod
    def gather(cls, task, profile, data, loss, seed, dropout=False, augment=False):
        """Take from task and profile what bears on one model."""
        from_profile = [
            "crop_size",
            "widths",
            "n_epochs",
            "batch_size",
            "learning_rate",
            "plateau_factor",
            "plateau_patience",
            "plateau_gain",
            "early_stopping_patience",
            "dice_epsilon",
        ]
        return cls(
            task=task.name,
            profile=profile.name,
            data=data,
            loss=loss,
            seed=seed,
            dropout=profile.dropout if dropout else 0.0,
            n_channels=len(task.channels),
            n_classes=task.n_classes,
            augment=augment,
            spacing_mm=task.spacing_mm,
            intensity_percentiles=task.intensity_percentiles,
            intensity_rule=task.intensity_rule,
            dice_weights=task.dice_weights,
            regions=task.regions,
            **{name: getattr(profile, name) for name in from_profile},
        )


def build_model(settings):
    """Return the U-Net that `settings` ask for, initialised from their seed.

    It says in ``n_label_classes`` and ``n_regions`` what its outputs are.
    """
    n_regions = len(settings.regions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = UNet(
            settings.n_channels,
            n_outputs(settings.loss, settings.n_classes, n_regions),
            widths=tuple(settings.widths),
            dropout=settings.dropout,
            n_dims=len(settings.crop_size),
        )
    model.n_label_classes, model.n_regions = settings.n_classes, n_regions
    return model


def load_model(folder, device="auto"):
    """Load a finished model.

    Parameters
    ----------
    folder : path
        Written by `segcal_lite.training.on_slices.train_model`.
    device : str

    Returns
    -------
    model : UNet
        In evaluation mode.
    settings : segcal_lite.training.on_slices.TrainingSettings

    Raises
    ------
    ValueError
        If the folder holds no finished model.
    """
    folder = check_finished(folder)
    settings = TrainingSettings(**read_json(folder / "config.json"))
    model = build_model(settings)
    model.load_state_dict(read_weights(folder))
    model = model.to(choose_device(device), memory_format=memory_layout(model.n_dims))
    return model.eval(), settings


@dataclass(frozen=True)
class BlockSettings:
    """All that decides the weights of one 3D model; fields of the profile keep their names.

    Attributes
    ----------
    plan : tuple of tuple of str
        Its last stage is what is trained here, from the weights of the stages before.
    data : dict
        Fingerprint of each set's data by set.
    profile : str
    loss : {"dice", "ce", "ce_dice"}
    seed : int
    dropout : float
        0 but for the detector by uncertainty.
    """

    plan: tuple
    data: dict
    profile: str
    loss: str
    seed: int
    dropout: float
    block_side: int
    n_features: int
    n_stages: int
    batch_size: int
    learning_rate: float
    rate_factor: float
    fine_tuning_factor: float
    evaluate_every: int
    n_flat_to_stop: int
    n_evaluations: int
    n_validation_blocks: int
    noise: float
    foreground_share: float
    dice_epsilon: float

    @classmethod
    def gather(cls, plan, data, profile, seed, dropout=False, loss="dice"):
        """Take from a `VolumeProfile` what bears on one model."""
        own = {"plan", "data", "profile", "loss", "seed", "dropout"}
        taken = [field.name for field in fields(cls) if field.name not in own]
        return cls(
            plan=plan,
            data={name: data[name] for stage in plan for name in stage},
            profile=profile.name,
            loss=loss,
            seed=seed,
            dropout=profile.dropout if dropout else 0.0,
            **{name: getattr(profile, name) for name in taken},
        )

    @property
    def sets(self):
        """The sets of the stage that is trained here."""
        return tuple(self.plan[-1])

    @property
    def first_rate(self):
        """Adam's rate at the start: less when the weights come from an earlier stage."""
        return self.learning_rate * (self.fine_tuning_factor if len(self.plan) > 1 else 1.0)


def build_block_model(settings):
    """Return the untrained `ResidualUNet` that `settings` ask for, initialised from their seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = ResidualUNet(
            n_channels=1,
            n_outputs=n_outputs(settings.loss, n_classes=2),
            n_features=settings.n_features,
            n_stages=settings.n_stages,
            dropout=settings.dropout,
        )
    model.n_label_classes = 2
    return model


def load_block_model(folder, device="auto"):
    """Load a finished 3D model in evaluation mode, and its `BlockSettings`.

    Raises
    ------
    ValueError
        If the folder holds no finished model.
    """
    folder = check_finished(folder)
    stored = read_json(folder / "config.json")
    stored["plan"] = tuple(map(tuple, stored["plan"]))
    settings = BlockSettings(**stored)
    model = build_block_model(settings)
    model.load_state_dict(read_weights(folder))
    return model.to(choose_device(device), memory_format=LAYOUT).eval(), settings
