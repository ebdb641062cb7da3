"""Scores as tables, verdicts and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "own_answers": ["three_answers"],
        "own_figures": ["draw_figures", "plot_differences", "plot_risk_coverage"],
        "own_tables": ["read_evaluation"],
        "overlays": [
            "fullest_slice",
            "plot_overlay",
            "plot_overlay_grid",
            "plot_review",
        ],
        "plotting": [
            "DOMAIN_COLOURS",
            "LOSS_COLOURS",
            "METHODS",
            "NAMES",
            "plot_against_ensemble_size",
            "plot_calibration_summary",
            "plot_ece_against_bins",
            "plot_entropy_against_dice",
            "plot_nll_against_eps",
            "plot_oodm_histograms",
            "plot_shift",
            "plot_signatures",
            "plot_training_curves",
        ],
        "probabilities": [
            "plot_probability_histogram",
            "plot_reliability_diagrams",
            "plot_reliability_of_cases",
        ],
        "style": ["use_log_scale", "use_style"],
        "summaries": ["mark_best", "patient_means", "summarise"],
        "verdicts": [
            "LEAST_TEST_CASES",
            "dice_of_present",
            "doubts",
            "false_alarms",
            "no_conclusion",
            "share_interval",
            "verdict",
            "write_verdicts",
        ],
    },
)
