"""Measure how often each interval of the package holds the truth, beside methods not taken.

Run by hand, from the root, some minutes on one core: python tests/benchmarks/bench_coverage.py. It
writes results/coverage.csv: for each statistic, kind of data, number of patients and method the
percentage of simulated studies whose interval of nominally 95 % holds the truth, the percentage
whose p-value of the (true) null lies below 0.01, and the median width. The method "package" is
what the package does; docstrings and notebook 03 quote its rows, and a test compares them.
"""

import argparse
import zlib
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special, stats
from threadpoolctl import threadpool_limits

from segcal_lite import detection, statistics
from segcal_lite.report import review
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import read_table, write_table

RESULTS = Path(__file__).resolve().parents[2] / "results" / "coverage.csv"
N_PATIENTS = (5, 10, 20, 50)
N_REPETITIONS, N_RESAMPLES, SEED = 2000, 2000, 12
SIZES = ((5, 5), (5, 20), (10, 10), (10, 50), (20, 20), (50, 50))
UNEQUAL_SIZES = ((5, 50), (50, 5))

# Data of one study: a generator and the truth


def normal(rng, n):
    """Normal values."""
    return rng.normal(size=n), 0.0


def lognormal(rng, n):
    """Skewed values: exp of a normal one, skewness 6."""
    return rng.lognormal(size=n), np.exp(0.5)


def dice_near_1(rng, n):
    """Dice of a good model: beta(9, 1), half of the values above 0.93."""
    return rng.beta(9, 1, size=n), 0.9


def tied_differences(rng, n):
    """Differences of which 60 % are exactly zero."""
    return np.where(rng.random(n) < 0.6, 0.0, rng.normal(size=n)), 0.0


def crossed(rng, n, cases, n_members=6):
    """Members by patients: spread 1 of patients, 0.3 of members, 0.5 of both together."""
    values, truth = cases(rng, n)
    members = 0.3 * rng.normal(size=(n_members, 1))
    return values + members + 0.5 * rng.normal(size=(n_members, n)), truth


def ratio_of_sums(rng, n):
    """Voxels of a patient (lognormal), and a part of them wrong: beta(2, 8)."""
    n_voxels = rng.lognormal(6, 0.7, size=n)
    return np.stack([n_voxels * rng.beta(2, 8, size=n), n_voxels], axis=1), 0.2


def segments(rng, n, correlation=-0.8):
    """Sums for Pearson's r over three segments a patient, which share the patient's part."""
    spread = [[1, correlation], [correlation, 1]]
    shared = rng.multivariate_normal([0, 0], spread, size=(n, 1))
    x, y = np.moveaxis(shared + rng.multivariate_normal([0, 0], spread, size=(n, 3)), -1, 0)
    terms = np.ones_like(x), x, y, x * x, y * y, x * y
    return np.stack([term.sum(axis=1) for term in terms], axis=1), np.arctanh(correlation)


# Methods: one study in, {method: (lo, hi, p of the truth)} out


def of_mean(values, truth, seed):
    """Intervals of a mean; p where patients alone are drawn."""
    mean, *package = statistics.mean_interval(values, N_RESAMPLES, seed=seed)
    table = np.atleast_2d(values)
    _, error, freedom, true_means = statistics._studentised(table, N_RESAMPLES, seed)
    t = (mean - truth) / error if error else 0.0  # no spread: all differences are zero
    arm = error * stats.t.ppf(0.975, freedom)
    pivots = np.sort(np.abs(mean - true_means))
    below = min((true_means <= truth).mean(), (true_means >= truth).mean())
    p_symmetric = (pivots >= abs(mean - truth)).mean()
    symmetric = pivots[round(0.95 * N_RESAMPLES)]
    alone = np.quantile(true_means, (0.025, 0.975))
    p = np.nan
    if values.ndim == 1:
        p = statistics.paired_p_value(values, np.full(values.shape, truth), N_RESAMPLES, seed)
    return {
        "package": (*package, p),
        "studentised alone": (*alone, 2 * below),
        "studentised, symmetric": (mean - symmetric, mean + symmetric, p_symmetric),
        "Student": (mean - arm, mean + arm, 2 * stats.t.sf(abs(t), freedom)),
        "percentile, n = 100 (A)": (*statistics.percentile_interval(values, 100, 0.95, seed)[1:],),
        f"percentile, n = {N_RESAMPLES}": _percentile(values, truth, seed),
    }


def _percentile(values, truth, seed):
    """Percentiles of the resampled means, and the p-value that the package had with them."""
    lo, hi = statistics.percentile_interval(values, N_RESAMPLES, 0.95, seed)[1:]
    if values.ndim > 1:
        return lo, hi
    counts = statistics.bootstrap_counts(len(values), N_RESAMPLES, seed)
    far = np.abs(counts @ values / len(values) - values.mean()) >= abs(values.mean() - truth)
    return lo, hi, (1 + far.sum()) / (1 + N_RESAMPLES)


def of_sums(statistic):
    """Intervals of a statistic of sums over patients."""

    def methods(vectors, truth, seed):
        package = statistics.bootstrap_statistic(vectors, statistic, N_RESAMPLES, seed=seed)
        counts = statistics.bootstrap_counts(len(vectors), N_RESAMPLES, seed)
        drawn = statistic((counts @ vectors).T)
        percentile = np.nanquantile(drawn, (0.025, 0.975))
        return {"package": package[1:], f"percentile, n = {N_RESAMPLES}": percentile}

    return methods


def ratio(total):
    """Part of the voxels that is wrong."""
    return total[0] / total[1]


def fisher_z(total):
    """Arctanh of Pearson's r, from n and the sums of x, y, x^2, y^2, x y."""
    n, x, y, xx, yy, xy = total
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
        return np.arctanh(r)


def delong_variance(wins):
    """DeLong's variance of an AUC: every image is of another patient."""
    return detection._clustered_covariance(wins, wins, *detection._numbered(None, wins.shape))


def of_auc(pair, truth, seed):
    """Intervals of an AUC."""
    area, *package = detection.auc_interval(*pair)
    wins = detection._pair_wins(*pair)
    variance, n = delong_variance(wins), min(wins.shape)
    found = {"package": package, "percentile, n = 2000": _percentile_of_pairs(wins, seed)}
    if variance > 0:
        quantile = stats.t.ppf(0.975, sum(wins.shape) - 2)
        found["DeLong"] = area + quantile * np.sqrt(variance) * np.array([-1, 1])
        arm = quantile * np.sqrt(variance) / (area * (1 - area)) * np.array([-1, 1])
        found["DeLong, logit"] = special.expit(special.logit(area) + arm)
    else:  # n of n pairs in order, or none
        least = 0.025 ** (1 / n)
        found["DeLong"] = (area, area)
        found["DeLong, logit"] = (least, 1.0) if area == 1 else (0.0, 1 - least)
    return found


def _percentile_of_pairs(wins, seed):
    """Percentiles of the mean of (n_in, n_out), rows and columns drawn anew."""
    rng = np.random.default_rng(seed)
    rows, columns = (statistics.bootstrap_counts(n, N_RESAMPLES, rng) for n in wins.shape)
    return np.quantile(((rows @ wins) * columns).sum(axis=1) / wins.size, (0.025, 0.975))


def of_auc_by_patient(given, truth, seed):
    """Intervals of an AUC over several images of each patient."""
    pair, patients = given
    return {
        "package": detection.auc_interval(*pair, patients=patients)[1:],
        "images as patients": detection.auc_interval(*pair)[1:],
    }


def of_auc_difference(pairs, truth, seed):
    """Intervals of the difference of two AUC on the same images."""
    difference, *package = detection.auc_difference(*pairs)
    wins = detection._pair_wins(*pairs[0]) - detection._pair_wins(*pairs[1])
    error = np.sqrt(delong_variance(wins))
    arm = error * stats.t.ppf(0.975, sum(wins.shape) - 2)
    return {
        "package": package,
        "percentile, n = 2000": _percentile_of_pairs(wins, seed),
        "DeLong": (difference - arm, difference + arm),
    }


def of_auc_difference_by_patient(given, truth, seed):
    """Intervals of that difference over several images of each patient."""
    pairs, patients = given
    return {
        "package": detection.auc_difference(*pairs, patients=patients)[1:],
        "images as patients": detection.auc_difference(*pairs)[1:],
    }


def of_spearman(pair, truth, seed):
    """The interval of Spearman's rho."""
    return {"package": detection.spearman_interval(*pair)[1:]}


def of_order(pair, truth, seed):
    """The interval of AURC minus random order's."""
    found = review.order_of_review(*pair, n_resamples=N_RESAMPLES, seed=seed)
    return {"package": (found.lo, found.hi)}


def of_new_patient(given, truth, seed):
    """The prediction interval of the Dice of a new patient."""
    labelled, entropy = given
    return {"package": review.expected_dice(review.fit_dice(*labelled), entropy)[1:]}


def scores_of(area, spread):
    """Return a generator of scores whose OOD side has another spread, and a given AUC."""

    def draw(rng, sizes):
        shift = stats.norm.ppf(area) * np.hypot(1, spread)
        return (rng.normal(size=sizes[0]), rng.normal(shift, spread, size=sizes[1])), area

    return draw


def scores_of_segments(area, correlation, n_segments=3):
    """Return a generator of scores of three segments a patient, all known or all OOD."""
    shift = np.sqrt(2) * stats.norm.ppf(area)

    def draw(rng, sizes):
        shared = np.sqrt(correlation) * rng.normal(size=(sum(sizes), 1))
        own = np.sqrt(1 - correlation) * rng.normal(size=(sum(sizes), n_segments))
        inside, outside = np.split(shared + own, [sizes[0]])
        patients = np.repeat(np.arange(sum(sizes)), n_segments)
        whose = np.split(patients, [inside.size])
        return ((inside.ravel(), outside.ravel() + shift), whose), area

    return draw


def two_detectors(areas, correlation=0.8):
    """Return a generator of two detectors' scores on the same images, correlated."""

    def draw(rng, sizes):
        shifts, spread = stats.norm.ppf(areas) * np.sqrt(2), [[1, correlation], [correlation, 1]]
        inside = rng.multivariate_normal([0, 0], spread, size=sizes[0]).T
        outside = rng.multivariate_normal(shifts, spread, size=sizes[1]).T
        return tuple(zip(inside, outside, strict=True)), areas[0] - areas[1]

    return draw


def two_detectors_of_scans(areas, correlation, n_scans=3):
    """Return a generator of the same for three scans a patient, all known or all OOD."""
    spread, shifts = [[1, 0.8], [0.8, 1]], stats.norm.ppf(areas) * np.sqrt(2)

    def draw(rng, sizes):
        n_patients = sum(sizes)
        shared = rng.multivariate_normal([0, 0], spread, size=(n_patients, 1))
        own = rng.multivariate_normal([0, 0], spread, size=(n_patients, n_scans))
        scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        scores[sizes[0] :] += shifts
        inside, outside = np.split(scores, [sizes[0]])
        pairs = [(inside[..., k].ravel(), outside[..., k].ravel()) for k in (0, 1)]
        whose = np.split(np.repeat(np.arange(n_patients), n_scans), [pairs[0][0].size])
        return (pairs, whose), areas[0] - areas[1]

    return draw


def doubtful_cases(correlation):
    """Return a generator of risks, median 0.12, and of scores that correlate with their logits."""

    def draw(rng, n):
        return _risks_and_scores(rng, n, correlation), _gain(n, correlation)

    return draw


def _risks_and_scores(rng, size, correlation):
    """Risks and scores of doubt, each of a shape `size`."""
    pairs = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=size)
    return special.expit(pairs[..., 0] - 2), pairs[..., 1]


@lru_cache
def _gain(n, correlation, n_studies=20_000):
    """AURC minus mean risk of n cases, the mean of many studies."""
    risks, scores = _risks_and_scores(np.random.default_rng(SEED), (n_studies, n), correlation)
    in_order = np.take_along_axis(risks, scores.argsort(axis=1), axis=1)
    return np.mean(np.cumsum(in_order, axis=1) / np.arange(1, n + 1)) - risks.mean()


def new_patient(n_scans):
    """Return a generator of labelled scans and a new patient, whose Dice is the truth."""

    def draw(rng, n):
        entropies = rng.uniform(0.1, 0.4, (n + 1, n_scans))
        noise = rng.normal(size=(n + 1, 1)) + rng.normal(size=(n + 1, n_scans))
        dice = special.expit(4 - 8 * entropies + 0.3 * noise)
        patients = np.repeat(np.arange(n), n_scans)
        labelled = entropies[:n].ravel(), dice[:n].ravel(), patients
        return (labelled, entropies[n, 0]), dice[n, 0]

    return draw


def ranks_of(correlation):
    """Return a generator of normal pairs with this correlation; the truth is Spearman's."""

    def draw(rng, n):
        spread = [[1, correlation], [correlation, 1]]
        truth = 6 / np.pi * np.arcsin(correlation / 2)
        return rng.multivariate_normal([0, 0], spread, size=n).T, truth

    return draw


def settings_of_auc(statistic, all_sizes):
    """Yield those of an AUC: areas, and spreads that are equal or thrice as large on one side."""
    for sizes, area, spread in product(all_sizes, (0.7, 0.9, 0.98), (1, 3, 1 / 3)):
        yield statistic, f"{area}, spread {spread:.2g}", sizes, scores_of(area, spread), of_auc


def settings():
    """Yield (statistic, data, size, generator, methods)."""
    means = {"normal": normal, "lognormal": lognormal, "Dice near 1": dice_near_1}
    means["tied differences"] = tied_differences
    for n in N_PATIENTS:
        for name, draw in means.items():
            yield "mean", name, n, draw, of_mean
        for name in ("normal", "lognormal"):
            draw = lambda rng, n, cases=means[name]: crossed(rng, n, cases)  # noqa: E731
            yield "members x patients", name, n, draw, of_mean
        yield "ratio of sums", "voxels", n, ratio_of_sums, of_sums(ratio)
        yield "Pearson by patient", "r = -0.8", n, segments, of_sums(fisher_z)
        for correlation in (0.0, 0.9):
            yield "Spearman", f"r = {correlation}", n, ranks_of(correlation), of_spearman
        for correlation in (0.0, 0.8):
            draw = doubtful_cases(correlation)
            yield "AURC - random", f"correlation {correlation}", n, draw, of_order
        for n_scans in (1, 3):
            yield "expected Dice", f"{n_scans} a patient", n, new_patient(n_scans), of_new_patient
    for sizes in SIZES:
        yield from settings_of_auc("AUC", [sizes])
        for areas in ((0.7, 0.7), (0.9, 0.9), (0.9, 0.7), (0.98, 0.8)):
            draw = two_detectors(areas)
            yield "AUC difference", f"{areas[0]} and {areas[1]}", sizes, draw, of_auc_difference
    for sizes, area, correlation in product(SIZES, (0.7, 0.9, 0.98), (0.0, 0.5, 0.9)):
        draw, data = scores_of_segments(area, correlation), f"{area}, correlation {correlation}"
        yield "AUC by patient", data, sizes, draw, of_auc_by_patient
    for sizes, areas, correlation in product(SIZES, ((0.7, 0.7), (0.9, 0.7)), (0.5, 0.9)):
        data = f"{areas[0]} and {areas[1]}, correlation {correlation}"
        draw = two_detectors_of_scans(areas, correlation)
        yield "AUC difference by patient", data, sizes, draw, of_auc_difference_by_patient
    yield from settings_of_auc("AUC of unequal sizes", UNEQUAL_SIZES)


def measure(statistic, data, size, draw, methods, n_repetitions):
    """Return one row a method: coverage, share of small p-values, median width."""
    key = zlib.crc32(f"{statistic} {data} {size}".encode())
    found = {}
    for repetition in range(n_repetitions):
        values, truth = draw(np.random.default_rng([SEED, key, repetition]), size)
        for method, (lo, hi, *p) in methods(values, truth, repetition).items():
            row = lo <= truth <= hi, p[0] < 0.01 if p and np.isfinite(p[0]) else np.nan, hi - lo
            found.setdefault(method, []).append(row)
    n = size if np.isscalar(size) else "{} and {}".format(*size)
    for method, rows in found.items():
        holds, small, widths = np.array(rows, dtype=float).T
        row = {"statistic": statistic, "data": data, "sizes": n, "method": method}
        row |= {"n_repetitions": len(rows), "coverage_percent": 100 * holds.mean()}
        row |= {"p_below_0.01_percent": 100 * small.mean()}
        yield row | {"median_width": np.median(widths)}


def main(n_repetitions=N_REPETITIONS, path=RESULTS, only=None):
    """Measure every setting, or those of one statistic beside what is there; write the table."""
    made = {"n_resamples": N_RESAMPLES, "seed": SEED}
    here = provenance()
    made |= {key: here[key] for key in ("date", "commit", "python", "processor")}
    rows = []
    with threadpool_limits(1):
        for setting in settings():
            if only not in (None, setting[0]):
                continue
            # Of a rate near 1 % in 1,000 studies one could say little.
            rows += measure(*setting, n_repetitions // (1 if setting[0] == "mean" else 2))
            print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows).round({"coverage_percent": 2, "p_below_0.01_percent": 2})
    table = table.round({"median_width": 4}).assign(**made)
    if only is not None:
        before = read_table(path)
        table = pd.concat([before[before.statistic != only], table], ignore_index=True)
    write_table(path, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=N_REPETITIONS)
    parser.add_argument("--path", type=Path, default=RESULTS)
    parser.add_argument("--only", metavar="STATISTIC", help="leave all other rows as they are")
    arguments = parser.parse_args()
    main(arguments.repetitions, arguments.path, arguments.only)
