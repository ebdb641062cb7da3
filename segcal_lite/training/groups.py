"""A group of members on one device: in lanes, epoch by epoch, so that a GPU never waits.

While the processor looks at the end of one member's epoch (its validation Dice, its best weights,
its learning rate), the others' epochs are under way. A member that ends early leaves its lane to
the next, which takes over its memory and what was recorded there.
"""

import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import replace

from ..data.prepared import read_prepared
from ..runs.devices import choose_device, reproducible
from .loop import turns_of_training
from .on_slices import SliceTraining

N_LANES = 3  # on CUDA: 0.82 of the time of one in bfloat16, 0.95 in float32 (benchmarks_gpu.csv)
END = object()


def train_group(members, prepared_folder, device, n_lanes=None, compiled=False, until=float("inf")):
    """Train a group of members: the unit of work of an executor.

    Every member ends as if it were trained alone. Those with dropout share one lane on CUDA: there
    the random numbers of all lanes come from one generator. A member that goes wrong by itself, by
    a loss that is not finite say, leaves the group; the others go on.

    Parameters
    ----------
    members : list of Member
    prepared_folder : path
    device : torch.device or str
    n_lanes : int, optional
        How many are under way at a time: by default `N_LANES` on CUDA, else 1.
    compiled : bool
        Compile what is recorded, on CUDA: see `segcal_lite.training.recorded.compiled_for`.
    until : float
        A time of `time.monotonic` after which no further member is begun.

    Returns
    -------
    list of Member

    Raises
    ------
    ValueError
        When all others have ended: a sentence for each member that left the group.
    """
    device, cases = choose_device(device), read_prepared(prepared_folder)
    on_cuda = device.type == "cuda"
    n_lanes = n_lanes or (N_LANES if on_cuda else 1)
    alone = [m for m in members if m.settings.dropout] if on_cuda else []
    together, failed = [m for m in members if m not in alone], []
    with reproducible(device):
        for queue, width in ((deque(together), n_lanes), (deque(alone), 1)):
            arguments = queue, cases, device, compiled, until, failed
            _train_side_by_side([_lane(*arguments) for _ in range(width)])
    if failed:
        raise ValueError("\n".join(dict.fromkeys(failed)))
    return members


def _train_side_by_side(lanes):
    """Give each lane a turn after the other until all have ended; what it raises ends them all."""
    with ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(closing(lane))
        while lanes:
            lanes = [lane for lane in lanes if next(lane, END) is not END]


def _lane(queue, cases, device, compiled, until, failed):
    """Train members of the queue one after another, those of one kind in the same memory.

    What is wrong with one of them is added to `failed`, a list of sentences.
    """
    before = None

    def begin(folder, device):
        nonlocal before
        before = SliceTraining(folder, cases, member.settings, device, before, compiled)
        return before

    while queue and time.monotonic() < until:
        member = _next_of(queue, before)
        if before and _kind(before) != _kind(member):
            before = None  # its memory is free before the next takes its own
        try:
            yield from turns_of_training(member.folder, member.settings, device, begin, until=until)
        except ValueError as error:
            failed.append(str(error))  # the error itself would keep the memory


def _next_of(queue, before):
    """Take the first member of the queue, of the kind of the training before it if there is one."""
    same = (m for m in queue if before and _kind(m) == _kind(before))
    member = next(same, queue[0])
    queue.remove(member)
    return member


def _kind(trained):
    """What members have in common that differ in their seed alone."""
    return replace(trained.settings, seed=0)
