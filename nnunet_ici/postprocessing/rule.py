"""The postprocessing rule: a threshold and a minimum lesion volume per class, and its JSON file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_ici.command import plural
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions, label_values, plain_masks, probability_of
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["FORMAT", "Rule", "Setting", "component_table", "read_regions_class_order", "read_rule"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

FORMAT = 1
# Relative tolerance that keeps a component of exactly the minimum volume, even if the file's spacing was rounded.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Setting:
    """The parameters that turn the probability of one class into a mask.

    Attributes:
        threshold: threshold in [0, 1); voxels with a probability above it form the mask.
        minimum_volume_mm3: volume in mm³ below which components are removed; 0 removes none. In 2D it is an area in
            mm², and for files without a spacing a number of pixels.
        peak_probability: probability that exempts a component from removal if it is reached anywhere in the component;
            None for no exemption.
    """

    threshold: float = 0.5
    minimum_volume_mm3: float = 0.0
    peak_probability: float | None = None

    def keeps(self, volumes_mm3: npt.NDArray[np.float64], peaks: FloatArray) -> BoolArray:
        """Which components to keep, bool (n,), given their volumes (n,) in mm³ and peak probabilities (n,)."""
        keep: BoolArray = volumes_mm3 >= self.minimum_volume_mm3 * (1 - ROUNDING)
        if self.peak_probability is not None:
            keep |= peaks >= np.float32(self.peak_probability)
        return keep

    def mask(self, probability: FloatArray, voxel_mm3: float) -> BoolArray:
        """The mask of the class. Components are connected to 8 neighbors in 2D and 26 in 3D.

        Args:
            probability: float32 (H, W) or (D, H, W), in [0, 1].
            voxel_mm3: volume of a voxel in mm³.

        Returns:
            bool, the same shape; empty if no probability is above the threshold.

        Example:
            Three components. The first and the last are small, but the peak of the first saves it:

            >>> probability = np.array([[0.9, 0.0, 0.6, 0.6, 0.0, 0.6]], np.float32)
            >>> Setting(0.5, minimum_volume_mm3=2, peak_probability=0.8).mask(probability, voxel_mm3=1).astype(int)
            array([[1, 0, 1, 1, 0, 0]])
        """
        return self._clean(probability > np.float32(self.threshold), probability, voxel_mm3)

    def remove_small(self, mask: BoolArray, voxel_mm3: float) -> BoolArray:
        """The mask, bool (H, W) or (D, H, W), without components below the minimum volume."""
        return self._clean(mask, mask.astype(np.float32), voxel_mm3)

    def _clean(self, mask: BoolArray, probability: FloatArray, voxel_mm3: float) -> BoolArray:
        if self.minimum_volume_mm3 == 0:
            return mask
        ids, count = label_array(mask)
        keep = self.keeps(*component_table(ids, count, probability, voxel_mm3))
        return np.concatenate(([False], keep))[ids]

    @property
    def needs_probabilities(self) -> bool:
        """Whether a label map is not enough, because the threshold is not 0.5 or there is a peak."""
        return self.threshold != 0.5 or (self.minimum_volume_mm3 > 0 and self.peak_probability is not None)

    def __str__(self) -> str:
        removal = "no removal"
        if self.minimum_volume_mm3 > 0:
            removal = f"below {self.minimum_volume_mm3:g} mm³ removed"
            if self.peak_probability is not None:
                removal += f" unless it reaches {self.peak_probability:g}"
        return f"above {self.threshold:g}, {removal}"


def component_table(
    ids: npt.NDArray[np.int32], count: int, probability: FloatArray, voxel_mm3: float
) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Volume and peak probability of each component.

    Args:
        ids: int32, any shape, 0 = background, 1..count = components.
        count: number of components.
        probability: float32, the same shape.
        voxel_mm3: volume of a voxel in mm³.

    Returns:
        The volumes in mm³, float64 (count,), and the peak probabilities, float32 (count,).
    """
    inside = ids > 0
    of_voxel = ids[inside]
    volumes_mm3 = np.bincount(of_voxel, minlength=count + 1)[1:] * np.float64(voxel_mm3)
    peaks = np.zeros(count + 1, dtype=np.float32)
    np.maximum.at(peaks, of_voxel, probability[inside])
    return volumes_mm3, peaks[1:]


@dataclass(frozen=True)
class Rule:
    """The settings of all classes.

    Attributes:
        scheme: the classes; without an ignore label, as predictions have none.
        settings: setting of each class.
        regions_class_order: label value of each region in nnU-Net's order of writing, in which later regions overwrite
            earlier ones; None for training with labels.
    """

    scheme: LabelScheme
    settings: dict[str, Setting]
    regions_class_order: tuple[int, ...] | None = None

    @property
    def needs_probabilities(self) -> bool:
        """Whether any class needs probabilities."""
        return any(setting.needs_probabilities for setting in self.settings.values())

    def apply(self, probabilities: FloatArray, voxel_mm3: float) -> npt.NDArray[np.uint16]:
        """Compute the label map of one case from its probabilities.

        With regions, later masks overwrite earlier ones. With labels, each voxel gets the class of the highest
        probability among the classes whose mask contains it, or background if there is none.

        Args:
            probabilities: float32 (C, *spatial), as returned by ``read_probabilities``.
            voxel_mm3: volume of a voxel in mm³.

        Returns:
            uint16, the spatial shape.

        Example:
            >>> softmax = np.array([[0.6, 0.1], [0.1, 0.4], [0.3, 0.5]], np.float32)  # 3 labels, 2 voxels
            >>> rule = Rule(LabelScheme({"a": (1,), "b": (2,)}), {"a": Setting(0.3), "b": Setting(0.2)})
            >>> rule.apply(softmax[:, None], voxel_mm3=1)
            array([[2, 2]], dtype=uint16)
        """
        masks = {
            name: self.settings[name].mask(probability_of(probabilities, self.scheme, name), voxel_mm3)
            for name in self.scheme.classes
        }
        return self.write(masks, probabilities)

    def write(self, masks: dict[str, BoolArray], probabilities: FloatArray) -> npt.NDArray[np.uint16]:
        """The label map of masks in the order of the classes, each bool (*spatial); otherwise as :meth:`apply`."""
        if self.regions_class_order is not None:
            return _write_regions(masks, self.regions_class_order)
        label_map = np.zeros(probabilities.shape[1:], dtype=np.uint16)
        highest = np.zeros(label_map.shape, dtype=np.float32)
        values = label_values(self.scheme, len(probabilities))
        for name, of_class in self.scheme.classes.items():
            for value in of_class or values[1:]:
                channel = probabilities[values.index(value)]
                here = masks[name] & (channel > highest)
                label_map[here], highest[here] = value, channel[here]
        return label_map

    def plain(self, probabilities: FloatArray) -> npt.NDArray[np.uint16]:
        """nnU-Net's own label map, whatever the settings: the label of the highest probability, or regions above 0.5.

        Args:
            probabilities: float32 (C, *spatial).

        Returns:
            uint16, the spatial shape.
        """
        if self.regions_class_order is not None:
            return self.write(plain_masks(probabilities, self.scheme), probabilities)
        values = np.array(label_values(self.scheme, len(probabilities)), dtype=np.uint16)
        return values[probabilities.argmax(axis=0)]

    def with_setting(self, name: str, setting: Setting) -> Rule:
        """The rule with another setting of one class."""
        return replace(self, settings=self.settings | {name: setting})

    def hidden_regions(self) -> dict[str, str]:
        """For each region that is overwritten by a larger one that contains it, the name of the larger one."""
        if self.regions_class_order is None:
            return {}
        regions = list(self.scheme.classes.items())
        return {
            name: later
            for number, (name, values) in enumerate(regions)
            for (later, of_later), value in zip(regions, self.regions_class_order, strict=True)
            if (later, of_later) in regions[number + 1 :] and set(values) <= set(of_later) and value not in values
        }

    def apply_to_label_map(self, label_map: npt.NDArray[np.generic], voxel_mm3: float) -> npt.NDArray[np.uint16]:
        """Remove the small lesions from a label map that has no probabilities.

        Args:
            label_map: (H, W) or (D, H, W), any integer dtype.
            voxel_mm3: volume of a voxel in mm³.

        Returns:
            uint16, the same shape.

        Raises:
            ValueError: if the rule needs probabilities.
        """
        if self.needs_probabilities:
            raise ValueError("the rule needs probabilities. Expected: --save_probabilities. Got: a label map")
        nothing = np.zeros_like(label_map)
        masks = {
            name: self.settings[name].remove_small(self.scheme.masks(name, nothing, label_map)[1], voxel_mm3)
            for name in self.scheme.classes
        }
        if self.regions_class_order is not None:
            return _write_regions(masks, self.regions_class_order)
        kept = np.any(list(masks.values()), axis=0)
        return np.where(kept, label_map, 0).astype(np.uint16)

    def to_json(self) -> dict[str, Any]:
        """The rule in JSON types, in the format of :func:`read_rule`."""
        return {
            "format": FORMAT,
            "classes": {name: list(values) for name, values in self.scheme.classes.items()},
            "regions_class_order": None if self.regions_class_order is None else list(self.regions_class_order),
            "file_ending": self.scheme.file_ending,
            "rule": {name: asdict(setting) for name, setting in self.settings.items()},
        }


def _write_regions(masks: dict[str, BoolArray], order: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    label_map = np.zeros(next(iter(masks.values())).shape, dtype=np.uint16)
    for mask, value in zip(masks.values(), order, strict=True):
        label_map[mask] = value
    return label_map


def read_rule(path: Path) -> Rule:
    """Read a rule written by ``nnunet_ici tune``.

    Raises:
        ValueError: if the file cannot be read or holds no valid rule; the message lists the problems.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a rule of nnunet_ici tune. Got: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = f"format {json.dumps(content.get('format'))}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} is not a rule. Expected: an object of format {FORMAT}. Got: {got}")
    classes: Any = content.get("classes")
    rules: Any = content.get("rule")
    problems = []
    if not _is_classes(classes):
        problems.append(f"classes. Expected: lists of integers by name. Got: {json.dumps(classes)}")
    elif not isinstance(rules, dict) or set(rules) != set(classes):
        got = ", ".join(rules) if isinstance(rules, dict) else json.dumps(rules)
        problems.append(f"rule. Expected: one setting each for {', '.join(classes)}. Got: {got}")
    else:
        problems += [f"{name}: {problem}" for name in classes for problem in _setting_problems(rules[name])]
    ending = content.get("file_ending")
    if ending is not None and not isinstance(ending, str):
        problems.append(f"file_ending. Expected: a string or null. Got: {json.dumps(ending)}")
    if problems:
        raise ValueError(f"{path} is not a rule: {'; '.join(problems)}")
    scheme = LabelScheme({name: tuple(values) for name, values in classes.items()}, None, ending)
    order = content.get("regions_class_order")
    if not _is_order(order, scheme):
        expected = plural(len(classes), "integer") if has_regions(scheme) else "null, as there are no regions"
        raise ValueError(f"{path} is not a rule: regions_class_order. Expected: {expected}. Got: {json.dumps(order)}")
    settings = {name: Setting(**rules[name]) for name in classes}
    return Rule(scheme, settings, None if order is None else tuple(order))


def _is_classes(classes: object) -> bool:
    return (
        isinstance(classes, dict)
        and bool(classes)
        and all(
            isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
            for values in classes.values()
        )
    )


def _is_order(order: object, scheme: LabelScheme) -> bool:
    if not has_regions(scheme):
        return order is None
    return isinstance(order, list) and len(order) == len(scheme.classes) and all(type(one) is int for one in order)


def _setting_problems(values: object) -> list[str]:
    names = [*Setting.__dataclass_fields__]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        return [f"not a setting. Expected: {', '.join(names)}. Got: {json.dumps(values)}"]
    problems = []
    for name, fits, expected in (
        ("threshold", lambda number: 0 <= number < 1, "a number of at least 0 and below 1"),
        ("minimum_volume_mm3", lambda number: 0 <= number < math.inf, "a number of at least 0"),
        ("peak_probability", lambda number: 0 <= number <= 1, "a number from 0 to 1 or null"),
    ):
        value = values[name]
        absent = value is None and name == "peak_probability"
        if not absent and not (type(value) in (int, float) and fits(value)):
            problems.append(f"{name}. Expected: {expected}. Got: {json.dumps(value)}")
    return problems


def read_regions_class_order(path: Path, scheme: LabelScheme) -> tuple[int, ...] | None:
    """Read ``regions_class_order`` from a dataset.json that ``read_label_scheme`` accepted; None without regions.

    Raises:
        ValueError: if there are regions and the entry does not hold one integer per region.
    """
    if not has_regions(scheme):
        return None
    order = json.loads(path.read_text(encoding="utf-8")).get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(scheme.classes) or any(type(one) is not int for one in order):
        expected = plural(len(scheme.classes), "integer")
        raise ValueError(
            f"{path} holds no usable regions_class_order. Expected: {expected}, one each for "
            f"{', '.join(scheme.classes)}. Got: {json.dumps(order)}"
        )
    return tuple(order)
