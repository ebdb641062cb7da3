"""What a notebook opens: one dataset with its members, or many sets with their plans."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "many_sets": ["JointExperiment", "open_joint_experiment"],
        "one_dataset": ["Experiment", "open_experiment"],
        "profiles": ["get_profile", "get_volume_profile"],
        "set_scores": ["joint_scores", "oracle_scores"],
        "trials": [
            "PAPER_TRIALS",
            "Trial",
            "cases_by_role",
            "describe_scores",
            "describe_trials",
            "detection_scores",
            "given_trials",
            "hold_out_last",
            "sets_of",
        ],
        "volume_scores": ["LAST", "score_volume", "shuffle_weights"],
    },
)
