"""What one 3D model is trained on, in which order, and with which settings.

A *plan* is a tuple of stages, a stage a tuple of sets: one stage of several sets is joint training,
one of one set a dedicated model, several stages a transfer chain. All are trained alike.
"""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch

from .._checks import wrong_input
from ..losses import n_outputs
from ..residual_unet import ResidualUNet

LONGEST_NAME = 160  # file systems take 255 bytes


def joint(*sets):
    """Return the plan of one model on a mix of sets (paper B, section III.C).

    Examples
    --------
    >>> joint("liver_ct", "atrium")
    (('liver_ct', 'atrium'),)
    """
    return check_plan((tuple(sets),))


def dedicated(name):
    """Return the plan of a model of one set."""
    return check_plan(((name,),))


def chain(*sets):
    """Return the plan of a transfer chain: convergence on one set, fine-tuning on the next.

    Raises
    ------
    ValueError
        For fewer than two sets.

    Examples
    --------
    >>> chain("cp_newborn", "cp_older")
    (('cp_newborn',), ('cp_older',))
    """
    if len(sets) < 2:
        raise wrong_input("chain", f"{len(sets)} set(s) {sets}", "at least two, in order")
    return check_plan(tuple((name,) for name in sets))


def check_plan(plan):
    """Return `plan`, or say why it is none: an empty stage, a set twice in a stage."""
    for stage in plan:
        if not stage or len(set(stage)) < len(stage):
            raise wrong_input("plan", stage, "stages of at least one set, each set once")
    return plan


def plan_name(plan):
    """Return the name of a plan, as its folder has it; a long one ends in a digest of the whole.

    Examples
    --------
    >>> plan_name(joint("a", "b")), plan_name(chain("a", "b"))
    ('a+b', 'a-then-b')
    """
    name = "-then-".join("+".join(stage) for stage in plan)
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}-{digest}"


def set_probabilities(n_images):
    """Return the probability of drawing the next block from each set.

    B's example, 10 and 100 images to 0.24 and 0.76, makes it proportional to the root of the
    set's size (its text says the inverse of the root, which holds for one image of the set).

    Parameters
    ----------
    n_images : sequence of int
        Training images of each set, at least 1.

    Returns
    -------
    array, float64
        Sums to 1.

    Raises
    ------
    ValueError
        Without a set, or for one without an image.

    Examples
    --------
    >>> set_probabilities([10, 100]).round(2).tolist()
    [0.24, 0.76]
    """
    n_images = np.asarray(n_images, dtype=np.float64)
    if n_images.ndim != 1 or not n_images.size or n_images.min() < 1:
        raise wrong_input("n_images", n_images.tolist(), "at least one image in each set")
    return np.sqrt(n_images) / np.sqrt(n_images).sum()


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
