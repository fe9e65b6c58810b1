"""Definitions of the columns of the report's tables, for readers who do not know the evaluation."""

from __future__ import annotations

__all__ = ["ALL_CASES", "DEFINITIONS", "definitions_of"]

_FOUND = (
    "A lesion is found if a prediction shares at least one voxel with it; otherwise it is missed. A predicted "
    "component is false if it shares no voxel with the label."
)
_DICE = "2 |label and prediction| / (|label| + |prediction|), in voxels; 1 if both are empty, 0 if only one is empty."
_LESION_DICE = "sum of the Dice of each lesion with all predictions that touch it, / (lesions + false predictions)."
_F1 = "2 found / (2 found + missed + false); 1 if there are no lesions and no predictions."
_VOLUMES = "absolute difference between the lesion volumes of label and prediction, regardless of position."
_COUNTS = "absolute difference between the numbers of lesions in label and prediction, regardless of position."

# Definitions by name of the table and title of the column. The title "" applies to the whole table.
DEFINITIONS: dict[str, dict[str, str]] = {
    "atlas22": {
        "": _FOUND,
        "Dice": _DICE,
        "absolute volume difference (voxels)": _VOLUMES,
        "absolute lesion count difference (6 neighbors)": _COUNTS,
        "lesion F1 (6 neighbors)": _F1,
    },
    "isles": {
        "": _FOUND,
        "Dice": _DICE,
        "absolute volume difference (ml)": _VOLUMES,
        "absolute lesion count difference": _COUNTS,
        "lesion F1": _F1,
        "PR-AUC": "area under the voxel-wise precision-recall curve (average precision); no value for an empty label.",
    },
    "paper": {
        "": f"{_FOUND} The numbers of lesions and cases are totals over all cases.",
        "Dice": f"mean over the cases. For each case: {_DICE}",
        "cases with missed": "cases with at least one missed lesion. With false: cases with at least one false "
        "prediction. With neither: cases without missed lesions and without false predictions.",
    },
    "detection": {
        "": _FOUND,
        "recall": "found / lesions; no value for a case without lesions.",
        "precision": "1 - false / predicted; no value for a case without predictions.",
        "lesion F1": _F1,
        "lesion F1 (IoU 0.1)": "as lesion F1, but lesion and prediction need an IoU of 0.1 or more.",
        "lesion-wise Dice": _LESION_DICE,
        "mostly outside": "number of predictions that touch a lesion, but lie outside the label by more than half.",
        "panoptic quality": "sum of the IoU of all pairs / (pairs + half of all other lesions and predictions). A pair "
        "is a lesion and a prediction with an IoU of 0.5 or more.",
    },
    "cc": {
        "CC-Dice": "Dice in the region that is nearer to a lesion than to any other, averaged over the lesions.",
    },
    "brats": {
        "": "A predicted component belongs to every lesion whose dilated mask it touches. It is false if it touches "
        "none.",
        "lesion-wise Dice": "Dice of each lesion with all components that belong to it, averaged over the lesions and "
        "the false components; 0 for a missed lesion and for a false component.",
        "lesion-wise HD95 (mm)": "95th percentile of the distances between the surfaces, averaged in the same way; "
        "374 mm for a missed lesion and for a false component.",
        "lesion F1": _F1,
    },
}

ALL_CASES = {
    "lesions, volume": "number and total volume of the lesions in the label.",
    "Dice": _DICE,
    "lesion-wise Dice": _LESION_DICE,
    "missed, false": "number of lesions that no prediction touches; number of predictions that touch no lesion.",
}


def definitions_of(table: str, titles: list[str]) -> dict[str, str]:
    """Definitions of the columns of a table.

    Args:
        table: name of the table, such as "isles".
        titles: titles of its columns. Definitions of other columns are left out.

    Returns:
        The definition by title; the title "" applies to the whole table. Empty for an unknown table.
    """
    found = {}
    for title, text in DEFINITIONS.get(table, {}).items():
        in_voxels = title.replace("(mm)", "(voxels)").replace("(ml)", "(voxels)")
        if not title or title in titles:
            found[title] = text
        elif in_voxels in titles:
            found[in_voxels] = text.replace(" mm ", " voxels ")
    return found
