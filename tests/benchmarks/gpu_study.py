"""Paper A's heart study at the paper's settings, as many members as a GPU trains in some minutes.

Run by hand: python tests/benchmarks/gpu_study.py DATA OUT RESULTS --minutes 9. DATA is ACDC in the
common layout. Whatever OUT holds already is used: a second call goes on, with more members. Models
with dropout come first, then members of both losses in turn until the training's share of the time
is used up; all that are trained are scored. RESULTS receives scores (a row a case, member and
metric), pooled sums and histories.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from segcal_lite import report
from segcal_lite.experiments import open_experiment
from segcal_lite.experiments.case_scores import ScoredCase
from segcal_lite.runs.folders import read_json, write_json
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import write_table
from segcal_lite.training.checkpoints import read_history
from segcal_lite.training.groups import train_group

LOSSES = ("ce", "dice")
SCALINGS = ("temperature", "vector_scaling")
SECONDS_TO_START_SCORING = 45  # processes, models with dropout, tables
SECONDS_TO_SCORE_A_PAIR = 3  # a member of each loss on all test cases, on 16 cores


def opened(arguments, n_members):
    """The run with a pool of some size."""
    return open_experiment(
        arguments.out,
        arguments.data,
        task="heart",
        profile="paper",
        device=arguments.device,
        n_members=n_members,
        n_dropout_models=arguments.n_dropout_models,
        n_epochs=arguments.n_epochs,
        crop_size=arguments.crop_size,
        precision=arguments.precision,
    )


def in_turn(experiment, dropout=False):
    """Members of both losses, one of each after the other."""
    pools = [experiment.members(loss, dropout) for loss in LOSSES]
    return [member for pair in zip(*pools, strict=True) for member in pair]


def train(experiment, members, arguments, until=float("inf")):
    """Train those that are not finished, and say how long it took."""
    waiting = [member for member in members if not member.finished]
    started = time.monotonic()
    compiled = arguments.compiled and not any(member.settings.dropout for member in members)
    options = {"n_lanes": arguments.n_lanes, "compiled": compiled, "until": until}
    train_group(waiting, experiment.prepared_folder, experiment.device, **options)
    n_new = sum(member.finished for member in waiting)
    seconds = time.monotonic() - started
    print(f"{n_new} models in {seconds:.0f} s, {seconds / max(1, n_new):.1f} s each", flush=True)


def write_summaries(table, folder):
    """Means over patients with their intervals: of calibration, segmentation, and the sweep."""
    known = table[table.method.isin(["baseline", "mc_dropout", "ensemble", *SCALINGS])]
    calibration = known[known.metric.isin(["nll", "brier", "ece", "mce"]) & known.segment.isna()]
    segmentation = known[known.metric.isin(["dice", "hd95_mm"]) & ~known.method.isin(SCALINGS)]
    sweep = table[table.method == "sweep"]
    for name, rows, by in (
        ("calibration_summary", calibration, ["loss", "method", "region", "metric"]),
        ("segmentation_summary", segmentation, ["loss", "method", "segment", "metric"]),
        ("sweep_summary", sweep, ["loss", "n_members", "region", "metric"]),
    ):
        summary = report.summarise(rows, by=by, member="member")
        write_table(folder / f"{name}.csv", summary.round(6))


def write_results(experiment, folder, arguments):
    """Score a pool, and write its table, its sums and its histories."""
    folder.mkdir(parents=True, exist_ok=True)
    table = experiment.scores(LOSSES)
    table.drop(columns=["task", "data"]).to_csv(
        folder / "scores.csv.gz", index=False, float_format="%.6g"
    )
    write_summaries(table, folder)
    arrays = {}
    for loss in LOSSES:
        scoring = experiment.scoring(loss)
        for case in experiment.split("test"):
            with np.load(ScoredCase(scoring, case.name).path(".npz")) as sums:
                for key in sums.files:
                    arrays.setdefault(f"{loss}|{key}", []).append(sums[key])
    np.savez_compressed(folder / "sums.npz", **{k: np.stack(v) for k, v in arrays.items()})
    rows = []
    for member in (*in_turn(experiment), *in_turn(experiment, dropout=True)):
        history, settings = read_history(member.folder), member.settings
        row = {"loss": settings.loss, "seed": settings.seed, "dropout": settings.dropout}
        row |= {"epochs": len(history), "best_epoch": int(history.validation_dice.idxmax())}
        rows.append(row | {"best_validation_dice": history.validation_dice.max()})
    pd.DataFrame(rows).to_csv(folder / "training.csv", index=False)
    record = read_json(experiment.out / "run.json") | provenance(experiment.device)
    if arguments.commit:
        record["commit"] = arguments.commit
    sizes = experiment.profile.ensemble_sizes
    record |= {"precision": experiment.profile.precision, "ensemble_sizes": sizes}
    write_json(folder / "provenance.json", record | {"command": " ".join(sys.argv)})
    print(f"wrote {folder}", flush=True)


def study(arguments):
    """Train and score within the minutes given."""
    started = time.monotonic()
    until = started + 60 * arguments.minutes * arguments.share_of_training
    pool = opened(arguments, arguments.largest_pool)
    train(pool, in_turn(pool, dropout=True), arguments)
    train(pool, in_turn(pool), arguments, until)
    n_trained = min(sum(m.finished for m in pool.members(loss)) for loss in LOSSES)
    passed = time.monotonic() - started
    print(f"{n_trained} of each loss after {passed:.0f} s", flush=True)
    left = 60 * arguments.minutes - passed - SECONDS_TO_START_SCORING
    n_scored = max(2, min(n_trained, int(left / SECONDS_TO_SCORE_A_PAIR)))
    write_results(opened(arguments, n_scored), Path(arguments.results), arguments)
    print(f"done after {time.monotonic() - started:.0f} s", flush=True)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "out", "results"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--share-of-training", type=float, default=0.6)
    parser.add_argument("--largest-pool", type=int, default=100)
    parser.add_argument("--n-dropout-models", type=int, default=2)
    parser.add_argument("--n-epochs", type=int)
    parser.add_argument("--crop-size", type=int, nargs=2)
    parser.add_argument("--n-lanes", type=int)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--commit", help="of a copy that is no checkout")
    study(parser.parse_args())


if __name__ == "__main__":
    main()
