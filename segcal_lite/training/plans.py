"""What one 3D model is trained on, in which order, and how often each set is drawn.

A *plan* is a tuple of stages, a stage a tuple of sets: one stage of several sets is joint training,
one of one set a dedicated model, several stages a transfer chain. All are trained alike.
"""

import numpy as np

from .._checks import wrong_input
from ..data.splits import AND, THEN, check_set_name
from ..runs.folders import text_digest

LONGEST_NAME, MOST_BYTES = 160, 240  # of a folder; file systems take 255 bytes


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


def orders(*sets):
    """Return the orders in which paper B's Table III passes a network through sets.

    As they are given, with the first two the other way round, and with the last first; none of
    fewer than two sets.

    Examples
    --------
    >>> orders("cp_younger", "cp_older", "cp_newborn")[2]
    ('cp_newborn', 'cp_younger', 'cp_older')
    >>> orders("atrium", "spleen")
    [('atrium', 'spleen'), ('spleen', 'atrium')]
    """
    found = sets, (*sets[1::-1], *sets[2:]), (*sets[-1:], *sets[:-1])
    return [order for order in dict.fromkeys(found) if len(order) > 1]


def check_plan(plan):
    """Return `plan`, or say why it is none: an empty stage, a set twice in a stage, no such name.

    Examples
    --------
    >>> check_plan((("liver+tumour",),))
    Traceback (most recent call last):
    ValueError: set: found 'liver+tumour', expected a name without + and -then-.
    """
    for stage in plan:
        for name in stage:
            check_set_name("set", name)
        if not stage or len(set(stage)) < len(stage):
            raise wrong_input("plan", stage, "stages of at least one set, each set once")
    return plan


def plan_name(plan):
    """Return the name of a plan, as tables have it: whole, whatever its length.

    Examples
    --------
    >>> plan_name(joint("a", "b")), plan_name(chain("a", "b"))
    ('a+b', 'a-then-b')
    """
    return THEN.join(AND.join(stage) for stage in plan)


def short_plan_name(plan):
    """Return the name of a plan as folders have it; a long one ends in a digest of the whole."""
    name = plan_name(plan)
    letters = name.encode()
    if len(name) <= LONGEST_NAME and len(letters) <= MOST_BYTES:
        return name
    begin = letters[: LONGEST_NAME - 9].decode(errors="ignore")  # half a letter is none
    return f"{begin}-{text_digest(name, 8)}"


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
