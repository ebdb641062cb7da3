"""Paper A's heart study at the paper's settings: as many members as a GPU trains in some minutes.

Run by hand: python tests/benchmarks/gpu_study.py DATA OUT RESULTS --minutes 9. DATA is ACDC in the
common layout. It goes in rounds, by default to 25 members of each loss, then to 50, 75, 100. A
round trains some models with dropout (a tenth of the members, at least two) and members of both
losses in turn, until there are as many as it asks for or the rest of the time is what scoring
takes. Then it scores all that there are and writes whole tables to RESULTS: scores (a row a case,
member and metric), summaries and histories.

Whatever OUT holds already is used: a second call goes on, with more members. Where OUT is lost,
``--seed`` makes others, whose tables join those of RESULTS. Members of all seeds count together
then; an ensemble, and those of the sweep, are of one seed's.
"""

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

from segcal_lite import report
from segcal_lite._checks import wrong_input
from segcal_lite.experiments import open_experiment
from segcal_lite.experiments.one_dataset import SEEDS_PER_RUN
from segcal_lite.runs.folders import read_json, write_json, written_aside
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import find_table, read_table, write_table
from segcal_lite.training.checkpoints import read_history
from segcal_lite.training.groups import train_group

LOSSES = ("ce", "dice")
SCALINGS = ("temperature", "vector_scaling")
MADE_ALIKE = ("fingerprint", "profile", "crop_size", "leave_out", "precision", "n_epochs")
FEWEST = 2  # members of a pool, and models with dropout of a loss
N_LANES = 4  # even, since a lane keeps to one loss
SECONDS_TO_START_SCORING = 45  # processes, models with dropout, tables
SECONDS_TO_SCORE_A_PAIR = 3  # a member of each loss on all test cases, on 16 cores, 128 x 128


def opened(arguments, n_members, report=lambda line: None):
    """The run with a pool of some size, and a tenth as many models with dropout."""
    return open_experiment(
        arguments.out,
        arguments.data,
        task="heart",
        profile="paper",
        device=arguments.device,
        report=report,
        n_members=n_members,
        n_dropout_models=max(FEWEST, n_members // 10),
        seed=arguments.seed,
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
    try:
        train_group(waiting, experiment.prepared_folder, experiment.device, **options)
    except ValueError as error:  # of members that went wrong by themselves; the others are there
        print(error, flush=True)
    n_new = sum(member.finished for member in waiting)
    seconds = time.monotonic() - started
    print(f"{n_new} models in {seconds:.0f} s, {seconds / max(1, n_new):.1f} s each", flush=True)


def write_summaries(table, folder):
    """Means over patients with their intervals: of calibration, segmentation, and the sweep."""
    known = table[table.method.isin(["baseline", "mc_dropout", "ensemble", *SCALINGS])]
    calibration = known[known.metric.isin(["nll", "brier", "ece", "mce"]) & known.segment.isna()]
    unscaled = known[~known.method.isin(SCALINGS)]
    segmentation = unscaled[unscaled.metric.isin(["dice", "hd95_mm", "segment_entropy"])]
    sweep = table[table.method == "sweep"]
    for name, rows, by in (
        ("calibration_summary", calibration, ["loss", "method", "region", "metric"]),
        ("segmentation_summary", segmentation, ["loss", "method", "segment", "metric"]),
        ("sweep_summary", sweep, ["loss", "n_members", "region", "metric"]),
    ):
        summary = report.summarise(rows, by=by, member="member")
        write_table(folder / f"{name}.csv", summary.round(6))


def n_in_a_row(experiment):
    """Members of each loss that are finished, up to the first that is not."""
    pools = [[m.finished for m in experiment.members(loss)] + [False] for loss in LOSSES]
    return min(finished.index(False) for finished in pools)


def made_by(experiment, arguments):
    """How the results were made: the run, and this call."""
    record = read_json(experiment.out / "run.json") | provenance(experiment.device)
    if arguments.commit:
        record["commit"] = arguments.commit
    profile = experiment.profile
    record |= {name: getattr(profile, name) for name in ("precision", "n_epochs")}
    return record | {"ensemble_sizes": profile.ensemble_sizes, "command": " ".join(sys.argv)}


def check_results(experiment, folder, arguments):
    """Refuse a folder with tables of other data or settings, which would be merged."""
    path = folder / "provenance.json"
    before, now = read_json(path) if path.exists() else {}, made_by(experiment, arguments)
    for name in MADE_ALIKE:
        if before.get(name, now[name]) != now[name]:
            expected = f"{now[name]}, or another folder for results"
            raise wrong_input(f"{path}, {name}", before[name], expected)


def with_other_seeds(table, folder, name, column, seed):
    """Return a table with the rows before it that are of the members of other seeds."""
    path = find_table(folder, name)
    if path is None:
        return table
    before = read_table(path)
    return pd.concat([before[before[column] // SEEDS_PER_RUN != seed], table], ignore_index=True)


def histories(experiment):
    """A row a model: how long it was trained, and its best validation Dice."""
    rows = []
    for member in (*in_turn(experiment), *in_turn(experiment, dropout=True)):
        history, settings = read_history(member.folder), member.settings
        row = {"loss": settings.loss, "seed": settings.seed, "dropout": settings.dropout}
        row |= {"epochs": len(history), "best_epoch": int(history.validation_dice.idxmax())}
        rows.append(row | {"best_validation_dice": history.validation_dice.max()})
    return pd.DataFrame(rows)


def write_results(experiment, folder, arguments):
    """Score a pool, and write its tables, with those of other seeds that are there."""
    table = experiment.scores(LOSSES).drop(columns=["task", "data"])
    table["member"] += SEEDS_PER_RUN * experiment.seed
    table = with_other_seeds(table, folder, "scores", "member", experiment.seed)
    with written_aside(folder / "scores.csv.gz") as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    write_summaries(table, folder)
    trained = histories(experiment)
    trained = with_other_seeds(trained, folder, "training", "seed", experiment.seed)
    write_table(folder / "training.csv", trained)
    seeds = sorted({int(seed) // SEEDS_PER_RUN for seed in trained.seed})
    write_json(folder / "provenance.json", made_by(experiment, arguments) | {"seeds": seeds})
    print(f"wrote {folder}", flush=True)


def n_written(folder, seed):
    """Members of each loss that the tables hold of one seed of the study."""
    path = find_table(folder, "training")
    if path is None:
        return 0
    rows = read_table(path)
    rows = rows[(rows.seed // SEEDS_PER_RUN == seed) & (rows.dropout == 0)]
    return min((rows.loss == loss).sum() for loss in LOSSES)


def study(arguments):
    """Train and score in rounds within the minutes given."""
    started, folder = time.monotonic(), Path(arguments.results)
    whole, ends = opened(arguments, max(arguments.pools), print), started + 60 * arguments.minutes
    check_results(whole, folder, arguments)
    if arguments.prepare:
        return
    n_scored = min(n_written(folder, arguments.seed), n_in_a_row(whole))
    side, other = whole.profile.crop_size
    seconds_a_pair = SECONDS_TO_SCORE_A_PAIR * side * other / 128**2
    for n_members in arguments.pools:
        until = ends - SECONDS_TO_START_SCORING - seconds_a_pair * n_members
        if n_scored and time.monotonic() > until:
            break
        pool = opened(arguments, n_members)
        train(pool, in_turn(pool, dropout=True), arguments)
        train(pool, in_turn(pool), arguments, until)
        n_trained, now = n_in_a_row(pool), time.monotonic()
        print(f"{n_trained} of each loss after {now - started:.0f} s", flush=True)
        n_in_time = int((ends - now - SECONDS_TO_START_SCORING) / seconds_a_pair)
        n_now = max(FEWEST, min(n_trained, n_in_time))
        if n_now > n_scored:  # fewer would take what is written away
            write_results(opened(arguments, n_now), folder, arguments)
            n_scored = n_now
            seconds_a_pair = max(seconds_a_pair, (time.monotonic() - now) / n_now)
    print(f"done after {time.monotonic() - started:.0f} s", flush=True)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "out", "results"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--pools", type=int, nargs="+", default=[25, 50, 75, 100])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-epochs", type=int)
    parser.add_argument("--crop-size", type=int, nargs=2)
    parser.add_argument("--n-lanes", type=int, default=N_LANES)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prepare", action="store_true", help="the cases, and nothing else")
    parser.add_argument("--commit", help="of a copy that is no checkout")
    study(parser.parse_args())


if __name__ == "__main__":
    main()
