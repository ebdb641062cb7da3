"""What the papers claim, as data: the statistic, and the values that it should have.

Most stood here before the tables that they judge: `Claim.seen` names those that had been looked at,
``results/README.md`` the rules that are younger or were mended.
"""

from typing import NamedTuple

import numpy as np

MARGIN = 0.10  # B's "within 10 %": of what the dedicated or fine-tuned networks reach
BELOW, ABOVE = (-np.inf, 0.0), (0.0, np.inf)
CUTS = {"brain": 0.62, "heart": 0.44, "prostate": 0.66}  # of the NLL; only A's text has them
CORRELATIONS = (-0.92, -0.77)  # A prints them without the sign that its text says they have
HEART = "results/acdc and results/acdc_gpu"
ORGANS = "results/three_organs_two_flat, and its joint network with 3000 iterations"
NEAR = "near_shifts and healthy_hearts"


class Claim(NamedTuple):
    """One claim of a paper.

    Attributes
    ----------
    name : str
        A1 to A13 of Mehrtash et al., B1 to B6 of Karimi and Gholipour.
    sentence : str
        What is claimed, in our words.
    printed : str
        Where.
    statistic : str
        What is measured, a part for each loss, metric, set or rival that is named.
    claimed : (float, float)
        Between which values each part should lie.
    seen : str
        Published tables of ours that had been looked at when the rule was written; every claim
        had been looked at on phantoms in the smoke profile.
    most : bool
        More than half of the parts are to hold, not all.
    """

    name: str
    sentence: str
    printed: str
    statistic: str
    claimed: tuple
    seen: str
    most: bool = False


CLAIMS = (
    Claim(
        "A1",
        "single networks trained with the Dice loss segment better than those trained with CE",
        "A, Tables II and S2",
        "Dice loss minus CE: mean Dice, and HD95 with the sign turned",
        ABOVE,
        HEART,
    ),
    Claim(
        "A2",
        "single networks trained with CE are better calibrated than those trained with Dice",
        "A, Table II, section VII",
        "CE minus Dice loss: NLL and ECE in the box",
        BELOW,
        HEART,
    ),
    Claim(
        "A3",
        "ensembles are better calibrated than single networks, with either loss",
        "A, Table II",
        "ensemble minus single network: NLL, Brier score, ECE in the box, each loss",
        BELOW,
        HEART,
    ),
    Claim(
        "A4",
        "ensembles segment better than single networks, with either loss",
        "A, Tables II and S2",
        "ensemble minus single network: mean Dice, and HD95 with the sign turned, each loss",
        ABOVE,
        HEART,
    ),
    Claim(
        "A5",
        "ensembles are better calibrated than MC dropout",
        "A, Table II",
        "ensemble minus MC dropout: NLL, Brier score, ECE in the box, each loss",
        BELOW,
        HEART,
    ),
    Claim(
        "A6",
        "five members cut the NLL of Dice models by 66 % (prostate), 44 % (heart), 62 % (brain)",
        "A, section VII, Fig. 2",
        "1 minus the ratio of the mean NLL of ensembles of five to that of single networks, Dice "
        "loss, box: between the least and the largest cut that is printed",
        (min(CUTS.values()), max(CUTS.values())),
        HEART,
    ),
    Claim(
        "A7",
        "an ensemble of ten Dice models has a lower NLL than one CE model",
        "A, section VII, Fig. 2",
        "Dice ensembles of M = 10 minus single CE networks: NLL in the box",
        BELOW,
        HEART,
    ),
    Claim(
        "A8",
        "segment entropy correlates with the logit of Dice, of Dice models |r| from 0.77 to 0.92",
        "A, section VII, Figs 3 and S8",
        "Pearson's r over the segments of the test cases: of Dice ensembles between the printed "
        "values, of CE ensembles, of which none is printed, below 0",
        CORRELATIONS,
        HEART,
    ),
    Claim(
        "A9",
        "a shifted domain has a higher segment entropy and a lower Dice",
        "A, section VII, Fig. 3",
        "shifted minus known domain, Dice ensemble: segment entropy, and Dice with the sign turned",
        ABOVE,
        "none on real data",
    ),
    Claim(
        "A10",
        "ensembles of 3D networks gain as those of 2D networks do",
        "A, appendix, Table S3",
        "in 3D, ensemble minus single network: NLL and ECE in the box, Dice with the sign turned",
        BELOW,
        "none on real data",
    ),
    Claim(
        "A11",
        "MC dropout improves the calibration of Dice models, of CE models only on prostate",
        "A, section VII, Table II",
        "MC dropout minus single network in the box: NLL, Brier score, ECE of Dice models; of CE "
        "models, but on prostate, single network minus MC dropout",
        BELOW,
        HEART,
    ),
    Claim(
        "A12",
        "the Dice ensemble segments best of all six methods",
        "A, Table II",
        "Dice ensemble minus each other method: mean Dice",
        ABOVE,
        HEART,
    ),
    Claim(
        "A13",
        "total failures, a Dice of at most 0.05, are foretold by segment entropy",
        "A, section VIII",
        "AUC of segment entropy for failed segments against all others, Dice ensemble, test cases "
        "of known and of shifted domains",
        (0.5, np.inf),
        HEART,
    ),
    Claim(
        "B1",
        "one network trained on all sets segments as well as dedicated networks",
        "B, section IV.A, Table II",
        "joint minus dedicated, as a share of dedicated: Dice of each set",
        (-MARGIN, np.inf),
        ORGANS,
    ),
    Claim(
        "B2",
        "joint training is better calibrated on most sets",
        "B, Table II",
        "joint minus dedicated: ECE and MCE in the box, each set",
        BELOW,
        ORGANS,
        most=True,
    ),
    Claim(
        "B3",
        "joint training matches or beats transfer learning, and is better calibrated",
        "B, Table III",
        "joint minus fine-tuned, both of the same sets, on the last set of each order: Dice as a "
        "share, above -10 %; ECE in the box as a share, with the sign turned, above 0",
        (-MARGIN, np.inf),
        ORGANS,
    ),
    Claim(
        "B4",
        "the spectral signature separates unseen sets where the network's uncertainty fails",
        "B, Tables IV to VI",
        "AUC of the spectral detector minus that of uncertainty, each unseen set",
        ABOVE,
        ORGANS,
    ),
    Claim(
        "B5",
        "of a set on which the network still works, most images pass below the threshold",
        "B, section IV.B, Fig. 8b",
        "share of the set's images that are flagged, minus one half",
        BELOW,
        ORGANS,
    ),
    Claim(
        "B6",
        "the farther set lies farther in OODM",
        "B, section IV.B, Fig. 6",
        "chance that an image of the farther set has the larger OODM, minus one half",
        ABOVE,
        f"{ORGANS}, before its pairs of real sets were named (of {NEAR}: none)",
    ),
)
