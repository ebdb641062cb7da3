"""Scores as tables, verdicts and figures."""
