"""One set of a joint run: its phantoms or its source, and every case on the model's grid."""

import hashlib
import json

from ..organ_phantoms import write_organ_phantoms
from ..runs.folders import read_json, write_json
from .cases import Selection
from .datasets import read_dataset
from .grids import settle_grid
from .prepared import prepare_dataset
from .sets import SetSource
from .tasks import ORGAN_SETS


def prepare_set(folder, name, profile, seed, source=None):
    """Draw a set's phantoms, or take its source, and bring every case to the model's grid."""
    source = source or _phantom_source(folder / "data", name, profile, seed)
    lines, grid = [], None
    if source.cut_foreground and not (folder / "prepared" / "settings.json").exists():
        grid = settle_grid(source.dataset, source.task, source.crop_size, source.selection)
    prepare_dataset(
        source.dataset,
        source.task,
        source.crop_size,
        folder / "prepared",
        lines.append,
        source.selection,
        grid,
    )
    if (folder / "fingerprint.json").exists():
        return
    notes = [line for line in lines if not line.startswith("prepared ")]  # no news: how far it is
    write_json(folder / "notes.json", [*source.dataset.notes, *notes])
    facts = json.dumps(read_json(folder / "prepared" / "settings.json"), sort_keys=True)
    write_json(folder / "fingerprint.json", hashlib.sha256(facts.encode()).hexdigest()[:16])


def _phantom_source(folder, name, profile, seed):
    """Write the phantoms of a set, or find them, and describe them as a source."""
    organ = ORGAN_SETS[name]
    task = organ.task(name, (profile.phantom_spacing_mm,) * 3)
    n_images = min(organ.n_images, profile.most_images)
    side, spacing_mm = profile.phantom_side, profile.phantom_spacing_mm
    write_organ_phantoms(folder, task, n_images, side, spacing_mm, seed)
    dataset = read_dataset(folder, task=task, seed=seed)
    return SetSource(task, dataset, Selection(0, (1,)), crop_size=None)
