"""Phantoms: synthetic cases whose true label probabilities are known, one more source of data.

`folders` turns the word "phantoms" into a dataset, `write` puts cases into the common layout, and
`draw` draws one.
"""

from ..convert.cases import Facts

FACTS = (
    Facts(
        script="phantoms",
        title="Phantoms",
        organ="heart, brain, prostate (paper A); the twelve sets of paper B",
        modality="synthetic MR and CT",
        cases="54 to 150 a task, 14 to 400 a set, by profile",
        size="drawn in seconds (smoke) to minutes",
        licence="this project's (Apache-2.0)",
        obtain="`python -m data_scripts.phantoms heart DEST`",
        reference="this project",
        papers="",
        task="heart",
    ),
)
