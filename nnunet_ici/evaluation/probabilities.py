"""The probabilities that nnU-Net writes with ``--save_probabilities``, ``--npz`` or ``--save_npz``.

CASE.npz holds one array ``probabilities``, (C, D, H, W) or (C, 1, H, W) for a 2D image, float32 or float16, on the
grid of the label map. Models trained with labels have a softmax over C labels, background first. Models trained with
regions have a sigmoid for each of C regions, in the order of dataset.json, without background. The ignore label has no
channel.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.labels import LabelScheme

__all__ = [
    "has_regions",
    "label_values",
    "plain_masks",
    "probability_of",
    "read_probabilities",
]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

KEY = "probabilities"
# Averaging an ensemble, or half precision, can round values to slightly outside [0, 1].
ROUNDING = 1e-3
SUM_ROUNDING = 0.02


def has_regions(scheme: LabelScheme) -> bool:
    """Whether nnU-Net trains with regions, which it does if any class has several values."""
    return any(len(values) > 1 for values in scheme.classes.values())


def label_values(scheme: LabelScheme, channels: int) -> list[int]:
    """The label value of each channel in training with labels; without declared classes, 0 to ``channels`` - 1.

    Example:
        >>> label_values(LabelScheme({"edema": (2,), "core": (1,)}), 3)
        [0, 1, 2]
    """
    if not all(scheme.classes.values()):
        return list(range(channels))
    return sorted({0, *(value for values in scheme.classes.values() for value in values)})


def read_probabilities(path: Path, scheme: LabelScheme, *shapes: tuple[int, ...]) -> FloatArray:
    """Read the probabilities of one case.

    Args:
        path: path of CASE.npz.
        scheme: the classes, which determine the number of channels.
        shapes: accepted shapes of the label map, (H, W) or (D, H, W). An additional spatial axis of length 1 in the
            file is dropped.

    Returns:
        float32 (C, *shape), in [0, 1].

    Raises:
        ValueError: if the file is missing, damaged or in another format; if the number of channels or the shape does
            not fit; if a value is NaN or outside [0, 1]; or if the softmax channels do not add up to 1.
    """
    array = _load(path)
    expected = " or ".join(f"(C, *{shape})" for shape in shapes)
    if not np.issubdtype(array.dtype, np.floating) or array.ndim < 3:
        raise ValueError(
            f"{path} holds no probabilities. Expected: floating point, {expected}. Got: {array.dtype}, {array.shape}"
        )
    _check_channels(path, scheme, len(array))
    shape = next((shape for shape in shapes if array.shape[1:] in (shape, (1, *shape))), None)
    if shape is None:
        raise ValueError(f"{path} differs in shape from its label map. Expected: {expected}. Got: {array.shape}")
    if not array.size:
        return array.astype(np.float32).reshape(len(array), *shape)
    low, high = float(array.min()), float(array.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # True for NaN
        count = np.count_nonzero(np.isnan(array))
        got = f"{count} NaN" if count else f"{low:g} to {high:g}"
        raise ValueError(f"{path} holds no probabilities. Expected: values in [0, 1]. Got: {got}")
    if not has_regions(scheme):
        sums = array.sum(axis=0, dtype=np.float32)
        if np.abs(sums - 1).max() > SUM_ROUNDING:
            raise ValueError(
                f"{path} holds no label probabilities. Expected: channels that add up to 1 (for region probabilities, "
                f"dataset.json must declare the regions). Got: sums from {sums.min():g} to {sums.max():g}"
            )
    probabilities = array.astype(np.float32, copy=False).reshape(len(array), *shape)
    return np.clip(probabilities, 0, 1, out=probabilities)


def _load(path: Path) -> npt.NDArray[np.generic]:
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with content:
            if KEY not in content.files:
                raise KeyError(f"the keys {', '.join(content.files) or '(none)'}")
            array: npt.NDArray[np.generic] = content[KEY]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.args[0] if isinstance(error, KeyError) else f"{error}".strip() or type(error).__name__
        raise ValueError(
            f"{path} cannot be read. Expected: an npz file of nnU-Net with the key {KEY}. Got: {reason}"
        ) from error
    return array


def _check_channels(path: Path, scheme: LabelScheme, channels: int) -> None:
    if not all(scheme.classes.values()):
        expected, fits = "2 or more, the background first", channels >= 2
    elif has_regions(scheme):
        expected, fits = f"{len(scheme.classes)}, one per region", channels == len(scheme.classes)
    else:
        values = label_values(scheme, channels)
        expected, fits = f"{len(values)}, one per label including the background", channels == len(values)
    if not fits:
        raise ValueError(
            f"{path} has channels that do not match the classes. Expected: {expected}, for {scheme}. Got: {channels}"
        )


def probability_of(probabilities: FloatArray, scheme: LabelScheme, name: str) -> FloatArray:
    """The probability of one class: the channel of its region or label value, or the sum of all foreground channels.

    Args:
        probabilities: float32 (C, *spatial), as returned by :func:`read_probabilities`.
        scheme: the classes.
        name: name of the class; a class without values stands for the whole foreground.

    Returns:
        float32, the spatial shape; a view if it is a single channel.

    Example:
        >>> softmax = np.array([[0.5, 0.1], [0.25, 0.2], [0.25, 0.7]], np.float32)  # 3 labels, 2 voxels
        >>> probability_of(softmax, LabelScheme({"core": (1,), "edema": (2,)}), "edema").tolist()
        [0.25, 0.699999988079071]
    """
    if has_regions(scheme):
        return probabilities[list(scheme.classes).index(name)]
    values = scheme.classes[name]
    if len(values) == 1:
        return probabilities[label_values(scheme, len(probabilities)).index(values[0])]
    if len(probabilities) == 2:
        return probabilities[1]
    return np.minimum(probabilities[1:].sum(axis=0, dtype=np.float32), 1)


def plain_masks(probabilities: FloatArray, scheme: LabelScheme) -> dict[str, BoolArray]:
    """The masks of all classes by nnU-Net's own rule: the label of the highest probability, or regions above 0.5.

    Args:
        probabilities: float32 (C, *spatial), as returned by :func:`read_probabilities`.
        scheme: the classes.

    Returns:
        A bool array of the spatial shape for each class. At equal probabilities the lower label wins.

    Example:
        >>> softmax = np.array([[0.4, 0.1], [0.3, 0.2], [0.3, 0.7]], np.float32)
        >>> plain_masks(softmax, LabelScheme({"foreground": ()}))["foreground"].tolist()
        [False, True]
    """
    if has_regions(scheme):
        return {name: probability_of(probabilities, scheme, name) > 0.5 for name in scheme.classes}
    best = probabilities.argmax(axis=0)
    values = label_values(scheme, len(probabilities))
    return {
        name: best == values.index(of_class[0]) if of_class else best > 0 for name, of_class in scheme.classes.items()
    }
