"""Panoptic quality by the package panoptica, whose values test_metrics.py compares with ours.

A program, not a test: panoptica pins old versions of numpy and connected-components-3d, so it needs a separate
environment. The values below are from panoptica 2.1.7, numpy 2.2.6 and connected-components-3d 3.29.0, by

    python -m venv /tmp/panoptica && /tmp/panoptica/bin/pip install "panoptica==2.1.7"
    /tmp/panoptica/bin/python -m tests.panoptica_values
"""

from __future__ import annotations

import numpy as np

DENSITIES = (0.02, 0.1, 0.25)
CASES = 24

VALUES = [
    0.3103448275862069,
    0.3976470588235294,
    0.8025994292848225,
    0.34146341463414637,
    0.6629629629629629,
    0.4139344262295082,
    0.5531914893617021,
    0.44188948306595366,
    0.6261397568328262,
    0.3434343434343434,
    0.6628472222222223,
    0.9595744680851064,
    0.4183006535947712,
    0.3181818181818182,
    0.6614603734475808,
    0.5,
    0.7484126984126983,
    0.6060606060606061,
    0.48148148148148145,
    0.38596491228070173,
    0.6484711491040605,
    0.2648148148148148,
    0.5746666666666665,
    0.3286384976525822,
]


def masks(case: int) -> tuple[np.ndarray, np.ndarray]:
    """Label and prediction of a case, bool; every second case is 3D."""
    rng = np.random.default_rng(case)
    shape = (24, 30) if case % 2 == 0 else (8, 11, 9)
    label = rng.random(shape) < DENSITIES[case % 3]
    return label, np.logical_xor(label, rng.random(shape) < 0.05)


def main() -> None:
    import cc3d
    import panoptica

    panoptica.disable_citation_reminder()
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.UNMATCHED_INSTANCE,
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.5),
        instance_metrics=[panoptica.Metric.IOU],
        global_metrics=[],
    )
    for case in range(CASES):
        ids = [cc3d.connected_components(mask, connectivity=8 if mask.ndim == 2 else 26) for mask in masks(case)]
        label, prediction = (array.astype(np.uint32) for array in ids)
        print(f"    {evaluator.evaluate(prediction, label, verbose=False)['ungrouped'].pq!r},")


if __name__ == "__main__":
    main()
