"""The scores of published runs of paper A's methods, side by side."""

from ...experiments.claims.paper_a import LOSSES, METHODS
from ...report.verdicts import dice_of_present
from ...runs.folders import project_root
from ...runs.tables import find_table, read_table
from .published import NOT_RUN, markdown_table, or_dash, source_of

RUNS = ("hippocampus", "hippocampus_volumes", "tcga_lgg")


def runs_table():
    """Mean scores over cases of the domains trained on, and over members, of each run."""
    rows, sources = [], []
    for name in RUNS:
        folder = project_root() / "results" / name
        path = find_table(folder, "scores") or find_table(folder, "volumetric")
        if path is None:
            continue
        scores = read_table(path)
        scores = scores[scores.known.astype(bool)] if "known" in scores else scores
        rows += [[name, *cells] for cells in _of_run(scores)]
        sources.append(f"- {name}: {scores.case.nunique()} cases. {source_of(folder)}")
    if not rows:
        return NOT_RUN
    header = ["run", "loss, method", "networks", "NLL", "Brier", "ECE %", "Dice"]
    return "\n".join([markdown_table(header, rows), *sources, ""])


def _of_run(scores):
    """Yield the cells of a loss and method: NLL, Brier score and ECE in the box, Dice."""
    in_box = scores[(scores.region == "box") & scores.segment.isna()]
    dice = dice_of_present(scores)
    for loss in LOSSES:
        for method in METHODS:
            own, segments = (
                table[(table.loss == loss) & (table.method == method)] for table in (in_box, dice)
            )
            means = own.groupby("metric").value.mean()
            n_networks = own.n_members.max() if method == "ensemble" else own.member.nunique()
            shown = [f"{means.nll:.3f}", f"{means.brier:.3f}", f"{100 * means.ece:.2f}"]
            yield [f"{loss}, {method}", str(n_networks), *shown, or_dash(segments.value.mean())]
