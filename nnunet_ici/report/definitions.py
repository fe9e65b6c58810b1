"""Definitions of the columns of the report's tables, for readers who do not know the evaluation."""

from __future__ import annotations

import re

__all__ = ["ALL_CASES", "MEANINGS", "MEANINGS_BRATS", "definitions_of"]

_DICE = "2 |label and prediction| / (|label| + |prediction|), in voxels; 1 if both are empty, 0 if only one is empty."
_LESION_DICE = "sum of the Dice of each lesion with all predictions that touch it, / (lesions + false predictions)."

# By title of the column, without its unit and neighborhood.
MEANINGS = {
    "Dice": _DICE,
    "absolute volume difference": "between the lesion volumes in both masks, regardless of position.",
    "absolute lesion count difference": "between the numbers of lesions in both masks, regardless of position.",
    "lesion F1": "2 found / (2 found + missed + false); 1 if there are no lesions and no predictions.",
    "lesion F1 (IoU 0.1)": "as lesion F1, but lesion and prediction need an IoU of 0.1 or more.",
    "PR-AUC": "area under the voxel-wise precision-recall curve (average precision); no value for an empty label.",
    "cases with missed": "cases with at least one missed lesion. With false: cases with at least one false prediction. "
    "With neither: cases without missed lesions and without false predictions.",
    "recall": "found / lesions; no value for a case without lesions.",
    "precision": "1 - false / predicted; no value for a case without predictions.",
    "lesion-wise Dice": _LESION_DICE,
    "mostly outside": "number of predictions that touch a lesion, but lie outside the label by more than half.",
    "panoptic quality": "sum of the IoU of all pairs / (pairs + half of all other lesions and predictions). A pair is "
    "a lesion and a prediction with an IoU of 0.5 or more.",
    "CC-Dice": "Dice in the region that is nearer to a lesion than to any other, averaged over the lesions.",
}
MEANINGS_BRATS = {
    "lesion-wise Dice": "Dice of each lesion with all components that touch its dilated mask, averaged over lesions "
    "and the false components, which touch none; 0 for a missed lesion and for a false component.",
    "lesion-wise HD95": "95th percentile of the distances between the surfaces, averaged in the same way; 374 for a "
    "missed lesion and for a false component.",
}
ALL_CASES = {
    "lesions, volume": "number and total volume of the lesions in the label.",
    "Dice": _DICE,
    "lesion-wise Dice": _LESION_DICE,
    "missed, false": "numbers of missed lesions and of false predictions.",
}


def definitions_of(table: str, titles: list[str]) -> dict[str, str]:
    """Definitions of the columns of a table, by title; columns without a definition are left out.

    Args:
        table: name of the table, such as "isles".
        titles: titles of its columns.
    """
    meanings = MEANINGS | (MEANINGS_BRATS if table == "brats" else {})
    keys = {title: re.sub(r" \((ml|mm|voxels|6 neighbors)\)$", "", title) for title in titles}
    return {title: meanings[key] for title, key in keys.items() if key in meanings}
