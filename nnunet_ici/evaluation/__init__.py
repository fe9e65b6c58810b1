"""Lesion-wise evaluation of predictions: instance matching, metrics, tables and the command ``evaluate``.

``metrics`` defines the metrics as functions; ``families`` lists those that the command computes. Names are loaded on
demand, so that the command's help does not have to import SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.evaluation.average_precision import (
        count_at_thresholds,
        free_response_recall,
        lesion_average_precision,
        threshold_curve,
    )
    from nnunet_ici.evaluation.comparison import compare
    from nnunet_ici.evaluation.detection import by_size
    from nnunet_ici.evaluation.families import FAMILIES, evaluate_case
    from nnunet_ici.evaluation.label_maps import read_label_map
    from nnunet_ici.evaluation.labels import LabelScheme, read_label_scheme
    from nnunet_ici.evaluation.matching import Matching, match_instances
    from nnunet_ici.evaluation.metrics import cc_dice, dice, lesion_dice, lesion_f1, panoptic_quality, pr_auc
    from nnunet_ici.evaluation.summary import read_rows, summarise

__all__ = [
    "FAMILIES",
    "LabelScheme",
    "Matching",
    "by_size",
    "cc_dice",
    "compare",
    "count_at_thresholds",
    "dice",
    "evaluate_case",
    "free_response_recall",
    "lesion_average_precision",
    "lesion_dice",
    "lesion_f1",
    "match_instances",
    "panoptic_quality",
    "pr_auc",
    "read_label_map",
    "read_label_scheme",
    "read_rows",
    "summarise",
    "threshold_curve",
]

_METRICS = ("cc_dice", "dice", "lesion_dice", "lesion_f1", "panoptic_quality", "pr_auc")
_CURVES = ("count_at_thresholds", "free_response_recall", "lesion_average_precision", "threshold_curve")
_PARTS = (
    dict.fromkeys(_METRICS, "metrics")
    | dict.fromkeys(_CURVES, "average_precision")
    | {
        "FAMILIES": "families",
        "LabelScheme": "labels",
        "Matching": "matching",
        "by_size": "detection",
        "compare": "comparison",
        "evaluate_case": "families",
        "match_instances": "matching",
        "read_label_map": "label_maps",
        "read_label_scheme": "labels",
        "read_rows": "summary",
        "summarise": "summary",
    }
)


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
