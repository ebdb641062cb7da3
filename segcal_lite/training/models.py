"""All that decides the weights of one model beside its data, and the network itself."""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch

from .._checks import check_choice, wrong_input
from ..losses import n_outputs
from ..runs.devices import choose_device, memory_layout
from ..runs.folders import as_tuples, read_json
from ..unet import ResidualUNet, UNet
from .checkpoints import check_finished, load_weights

PRECISIONS = ("float32", "bfloat16")


def load_model(folder, device="auto"):
    """Load a finished model.

    Parameters
    ----------
    folder : path
        Written by `segcal_lite.training.on_slices.train_model` or
        `segcal_lite.training.on_blocks.train_on_blocks`.
    device : str

    Returns
    -------
    model : UNet or ResidualUNet
        In evaluation mode.
    settings : TrainingSettings or BlockSettings

    Raises
    ------
    ValueError
        If the folder holds no finished model, or one of its files is damaged.
    """
    folder = check_finished(folder)
    stored = read_json(folder / "config.json", shape=dict)
    kind = BlockSettings if "plan" in stored else TrainingSettings
    try:
        settings = kind(**{name: as_tuples(value) for name, value in stored.items()})
        model = build_model(settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        found = f"settings that make no network ({error})"
        expected = f"what a training wrote; remove {folder} to train again"
        raise wrong_input(folder / "config.json", found, expected) from error
    load_weights(folder, model)
    model = model.to(choose_device(device), memory_format=memory_layout(model.n_dims))
    return model.eval(), settings


def build_model(settings):
    """Return the untrained network that `settings` ask for, initialised from their seed.

    It says in ``n_label_classes`` and ``n_regions`` what its outputs are.
    """
    n_regions = len(settings.regions)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # the initialisation is on the CPU
        model = settings.network(n_outputs(settings.loss, settings.n_classes, n_regions))
    model.n_label_classes, model.n_regions = settings.n_classes, n_regions
    return model


@dataclass(frozen=True)
class ModelSettings:
    """What decides the weights of any model; fields of the profile keep their names."""

    profile: str  # its name
    data: str | dict  # fingerprint of the dataset, or of each set by name
    loss: str
    seed: int
    dropout: float  # 0 but for models whose stochastic passes are looked at
    batch_size: int
    learning_rate: float
    dice_epsilon: float

    @classmethod
    def _gather(cls, profile, dropout, own, given=None):
        """Take by name, from the profile or else from what is `given`, all fields but `own`."""
        own |= {"profile": profile.name, "dropout": profile.dropout if dropout else 0.0}
        taken = {field.name for field in fields(cls)} - own.keys()
        sources = {name: profile if hasattr(profile, name) else given for name in taken}
        return cls(**own, **{name: getattr(source, name) for name, source in sources.items()})


@dataclass(frozen=True)
class TrainingSettings(ModelSettings):
    """All that decides the weights of one model of paper A; fields of the task keep their names.

    Attributes
    ----------
    task : str
        Its name.
    n_channels, n_classes : int
        2 classes where regions overlap: each is a binary problem.
    augment : bool
        Random flips, quarter turns and noise; A uses none.
    regions : tuple of tuple of int
        As in `segcal_lite.data.tasks.Task`: one sigmoid output each, for any loss.
    precision : {"float32", "bfloat16"}
        What the network computes in while it is trained; the loss, its sums, the optimiser and
        every use of the network are in float32.
    """

    later_fields: ClassVar = {"precision": "float32"}

    task: str
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
    plateau_factor: float
    plateau_patience: int
    plateau_gain: float
    early_stopping_patience: int
    regions: tuple = ()
    precision: str = "float32"

    def __post_init__(self):
        check_choice("precision", self.precision, PRECISIONS)

    @classmethod
    def gather(cls, task, profile, data, loss, seed, dropout=False, augment=False):
        """Take from a `Task` and a `Profile` what bears on one model."""
        own = {"task": task.name, "n_channels": len(task.channels), "augment": augment}
        own |= {"data": data, "loss": loss, "seed": seed}
        return cls._gather(profile, dropout, own, given=task)

    @property
    def least_in_batch(self):
        """Samples that batch normalisation needs: two where the inmost map is a single voxel."""
        return 2 if all(side == 2 ** (len(self.widths) - 1) for side in self.crop_size) else 1

    def network(self, n_outputs):
        """Return a `UNet` of these settings, its weights drawn from PyTorch's generator."""
        n_dims = len(self.crop_size)
        return UNet(self.n_channels, n_outputs, self.widths, self.dropout, n_dims=n_dims)


@dataclass(frozen=True)
class BlockSettings(ModelSettings):
    """All that decides the weights of one model of paper B.

    Attributes
    ----------
    plan : tuple of tuple of str
        Its last stage is what is trained here, from the weights of the stages before.
    """

    n_channels: ClassVar = 1
    n_classes: ClassVar = 2  # an organ and what is around it
    regions: ClassVar = ()
    precision: ClassVar = "float32"
    later_fields: ClassVar = {}

    plan: tuple
    block_side: int
    n_features: int
    n_stages: int
    rate_factor: float
    fine_tuning_factor: float
    evaluate_every: int
    n_flat_to_stop: int
    n_evaluations: int
    n_validation_blocks: int
    noise: float
    foreground_share: float

    @classmethod
    def gather(cls, plan, data, profile, seed, dropout=False, loss="dice"):
        """Take from a `VolumeProfile`, and from the sets' fingerprints, what bears on one model."""
        data = {name: data[name] for stage in plan for name in stage}
        own = {"plan": plan, "data": data, "loss": loss, "seed": seed}
        return cls._gather(profile, dropout, own)

    @property
    def sets(self):
        """The sets of the stage that is trained here."""
        return tuple(self.plan[-1])

    @property
    def first_rate(self):
        """Adam's rate at the start: less when the weights come from an earlier stage."""
        return self.learning_rate * (self.fine_tuning_factor if len(self.plan) > 1 else 1.0)

    def network(self, n_outputs):
        """Return a `ResidualUNet` of these settings, its weights drawn from PyTorch's generator."""
        return ResidualUNet(
            self.n_channels, n_outputs, self.n_features, self.n_stages, self.dropout
        )
