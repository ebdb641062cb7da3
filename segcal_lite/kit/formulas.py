"""Formulas of notebooks as MathML, which browsers draw without a script and without a network."""

import re

from latex2mathml.converter import convert

TIGHT = '<mo lspace="0" rspace="0"'
THIN = '<mspace width="0.167em" />'
RELATION = "&#x0003[CDE];|&#x02248;|&#x0221D;|&#x02264;|&#x02265;"  # < = > and their kin
NAME = "[a-z]{2,}"  # of a function: ln, max
SPACES = (  # what TeX sets closer, or less close, than MathML's own rules: pattern, replacement
    (r"<mo( stretchy=.false.)?>(&#x0007C;|&#x02016;)</mo>", rf'{TIGHT} stretchy="false">\2</mo>'),
    (r"<mo>(&#x0002F;|&#x02026;)</mo>", rf"{TIGHT}>\1</mo>"),
    (rf"(<mo>(?:{RELATION})</mo>)<mo>&#x02212;</mo>", r'\1<mo form="prefix">&#x02212;</mo>'),
    (rf"<mo>({NAME})</mo>(?=<mspace|<mo|<mrow><mo)", rf"{TIGHT}>\1</mo>"),
    (rf"<mo>({NAME})</mo>", r'<mo lspace="0" rspace="0.167em">\1</mo>'),
    (rf"(<mi>{NAME}</mi>)(?=<m(?:i|n|sub|sup|frac|over)\b)", rf"\1{THIN}"),
    (rf"(</m(?:i|n|sub|sup|frac|over)>|&#x00029;</mo>)(?=<mi>{NAME}</mi>)", rf"\1{THIN}"),
    (r'<mo accent="true">&#x02015;</mo>', r'<mo stretchy="true">&#x000AF;</mo>'),  # a bar
)


def to_mathml(latex, display="inline"):
    r"""Return a formula, LaTeX without dollar signs, as MathML, spaced as TeX would.

    Examples
    --------
    >>> to_mathml("p_k").removeprefix('<math xmlns="http://www.w3.org/1998/Math/MathML" ')
    'display="inline"><mrow><msub><mi>p</mi><mi>k</mi></msub></mrow></math>'
    """
    mathml = convert(latex, display=display)
    for pattern, replacement in SPACES:
        mathml = re.sub(pattern, replacement, mathml)
    return mathml
