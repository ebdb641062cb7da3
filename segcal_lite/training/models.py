"""All that decides the weights of one model, beside the data, and the untrained network itself."""

from dataclasses import dataclass

import torch

from ..losses import n_outputs
from ..unet import UNet


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
