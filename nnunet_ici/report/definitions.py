"""What the columns of the report's tables mean, for readers who do not know the evaluation."""

from __future__ import annotations

__all__ = ["ALL_CASES", "DEFINITIONS", "definitions_of"]

_FOUND = (
    "A lesion is found where a prediction shares a voxel with it, else missed; a predicted component that shares none "
    "with the label is false."
)
_DICE = "2 |label and prediction| / (|label| + |prediction|), in voxels; 1 where both are empty, 0 where only one is."
_LESION_DICE = (
    "sum over the lesions of the Dice with all predictions that touch each, divided by lesions + false predictions."
)
_F1 = "2 found / (2 found + missed + false); 1 where there is no lesion and none is predicted."

# Titles of columns and what they mean, by the table's name; "" is about the table as a whole.
DEFINITIONS: dict[str, dict[str, str]] = {
    "atlas22": {
        "": _FOUND,
        "Dice": _DICE,
        "absolute volume difference (voxels)": "absolute difference between the numbers of voxels, wherever they lie.",
        "absolute lesion count difference": "absolute difference between the numbers of lesions, wherever they lie.",
        "lesion F1": _F1,
    },
    "isles": {
        "": _FOUND,
        "Dice": _DICE,
        "absolute volume difference (ml)": "absolute difference between the volumes, wherever they lie.",
        "absolute lesion count difference": "absolute difference between the numbers of lesions, wherever they lie.",
        "lesion F1": _F1,
        "PR-AUC": "area under the precision-recall curve over the voxels (average precision); no value for an empty "
        "label.",
    },
    "paper": {
        "": f"{_FOUND} Numbers of lesions and cases are totals.",
        "Dice": f"mean over the cases of: {_DICE}",
        "cases with missed": "cases with at least one missed lesion; with false: with at least one false prediction; "
        "with neither: without missed lesions and without false predictions.",
    },
    "detection": {
        "": _FOUND,
        "recall": "found / lesions; a case without lesions has no value.",
        "precision": "1 - false / predicted; a case without predictions has no value.",
        "lesion-wise Dice": _LESION_DICE,
        "panoptic quality": "sum of the IoU of the pairs with an IoU of 0.5 or more / (pairs + half of all other "
        "lesions and predictions).",
    },
    "brats": {
        "": "A predicted component belongs to every lesion whose dilation it touches; it is false if there is none.",
        "lesion-wise Dice": "mean of the Dice of each lesion with all components that belong to it; 0 for a missed "
        "lesion and for a false component.",
        "lesion-wise HD95 (mm)": "mean of the 95th percentile of the distances between the surfaces, averaged in the "
        "same way; 374 mm for a missed lesion and for a false component.",
    },
}

ALL_CASES = {
    "lesions, volume": "number and volume of the lesions in the label.",
    "Dice": _DICE,
    "F1": "lesion F1: 2 found / (2 found + missed + false), or, where that was not computed, the lesion-wise score "
    "that was.",
    "lesion-wise Dice": _LESION_DICE,
    "missed, false": "lesions that no prediction touches; predictions that touch no lesion.",
}


def definitions_of(table: str, titles: list[str]) -> dict[str, str]:
    """What the columns of a table mean.

    Args:
        table: name of the table, such as "isles".
        titles: titles of its columns; meanings of other columns are left out.

    Returns:
        The meaning by title, under "" what concerns all columns; empty for an unknown table.
    """
    return {title: text for title, text in DEFINITIONS.get(table, {}).items() if not title or title in titles}
