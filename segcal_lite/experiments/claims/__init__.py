"""The claims of both papers, and whether they hold on the data of some runs."""
