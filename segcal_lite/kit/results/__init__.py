"""What goes to ``results/``: tables and figures of runs, the claims, and the READMEs' tables."""
