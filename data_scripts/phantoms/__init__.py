"""Phantoms: synthetic cases whose true label probabilities are known, one more source of data.

``folders`` turns the word "phantoms" into a dataset; ``draw`` draws one patient: shapes of an
anatomy, an annotator's labels and their true probabilities, and a picture in the look of a domain.
"""
