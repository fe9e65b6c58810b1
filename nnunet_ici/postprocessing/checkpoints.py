"""A threshold inside the model: checkpoints that carry it in their last bias, so that nnU-Net cuts there.

nnU-Net averages the logits of tiles, mirrored copies and folds, resamples them linearly, and takes the label of the
largest logit, or the regions above 0. All of that commutes with adding a constant to a channel. With minus logit(t) on
the bias of the finest segmentation layer the foreground is where the probability of the unchanged model is above t. A
probability of exactly t is background in both, because nnU-Net takes the lower label at equal logits.

Rounding makes a difference: nnU-Net sums tiles and folds in half precision, on the CPU too, and shifted logits round
differently. A voxel can fall on the other side of the threshold if its logit is within about 0.005 of logit(t), and
within some tenths at the edges of 3D images, where nnU-Net's Gaussian weights are too small for half precision. With
random networks this was the case for 0 to 0.06 % of the voxels, and for none at t = 0.5.

``nnUNetv2_ensemble`` averages the probabilities of the tuned models. That is not the threshold on the average of the
stock models. In a cascade the tuned first stage also hands other label maps to the second.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions
from nnunet_ici.postprocessing.rule import Rule, Setting

if TYPE_CHECKING:
    import torch

__all__ = ["FINAL", "TUNED", "ShowTuned", "bias_shifts", "find_checkpoints", "rule_after_shift", "write_tuned"]

FINAL, TUNED = "checkpoint_final.pth", "checkpoint_tuned.pth"
# Where a tuned checkpoint says so, beside nnU-Net's own keys.
RECORD = "nnunet_ici_tuned"

Checkpoint = dict[str, Any]


def find_checkpoints(probability_folders: Sequence[Path], scheme: LabelScheme) -> tuple[list[Path], list[str]]:
    """The checkpoint of each fold whose validation was given.

    Returns:
        The paths of :data:`FINAL`, and the problems, one sentence each: a folder that is no fold's validation, folds of
        several trainers, a checkpoint that is missing, is tuned already, or has no bias that could be shifted, and
        classes that one shift cannot serve.
    """
    problems = []
    if len(scheme.classes) > 1 and not has_regions(scheme):
        problems.append(
            "--checkpoint does not fit the classes. Expected: one class, or regions. Several classes share one "
            "softmax: a shift of one also moves its border with the others, and no bias cuts each at its own "
            f"threshold. Got: {scheme}"
        )
    folds = [folder.resolve() for folder in dict.fromkeys(probability_folders)]
    problems += [
        f"--checkpoint finds no fold above {folder}. Expected: -prob .../fold_X/validation, with {FINAL} in fold_X. "
        "Got: another folder"
        for folder in folds
        if folder.name != "validation" or not folder.parent.name.startswith("fold_")
    ]
    trainers = {folder.parent.parent for folder in folds}
    if len(trainers) > 1:
        got = ", ".join(map(str, sorted(trainers)))
        problems.append(f"--checkpoint: -prob are of several trainers. Expected: folds of one. Got: {got}")
    paths = [folder.parent / FINAL for folder in folds]
    channels = len(scheme.classes) + (not has_regions(scheme))
    for path in [] if problems else paths:
        try:
            _finest_biases(path, _load(path), channels)
        except ValueError as error:
            problems.append(str(error))
    return paths, problems


def bias_shifts(rule: Rule) -> list[float]:
    """What is added to the bias of each channel: minus logit(t) for a foreground channel, 0 for the background.

    Raises:
        ValueError: if a threshold is 0, which has no logit.

    Example:
        >>> bias_shifts(Rule(LabelScheme({"lesion": (1,)}), {"lesion": Setting(threshold=0.5)}))
        [0.0, -0.0]
    """
    low = [name for name, setting in rule.settings.items() if not 0 < setting.threshold < 1]
    if low:
        raise ValueError(f"--checkpoint needs thresholds with a logit. Expected: above 0. Got: 0 for {', '.join(low)}")
    shifts = [-_logit(rule.settings[name].threshold) for name in rule.scheme.classes]
    return shifts if has_regions(rule.scheme) else [0.0, *shifts]


def rule_after_shift(rule: Rule) -> Rule:
    """The rule for predictions of the tuned checkpoints: a threshold of 0.5, the same volumes, and shifted peaks.

    Example:
        >>> rule = Rule(LabelScheme({"lesion": (1,)}), {"lesion": Setting(0.75, 10.0, peak_probability=0.9)})
        >>> rule_after_shift(rule).settings["lesion"]
        Setting(threshold=0.5, minimum_volume_mm3=10.0, peak_probability=0.75)
    """
    return replace(rule, settings={name: _after_shift(setting) for name, setting in rule.settings.items()})


def _after_shift(setting: Setting) -> Setting:
    peak = setting.peak_probability
    if peak is not None and 0 < peak < 1:
        peak = round(1 / (1 + math.exp(_logit(setting.threshold) - _logit(peak))), 9)
    return replace(setting, threshold=0.5, peak_probability=peak)


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def write_tuned(paths: Sequence[Path], shifts: Sequence[float], record: Mapping[str, Any]) -> list[Path]:
    """Write :data:`TUNED` beside each checkpoint, all or none; existing files with this name are overwritten.

    Args:
        paths: path of each fold's :data:`FINAL`.
        shifts: result of :func:`bias_shifts`.
        record: what the checkpoints say about themselves, in types that JSON has.

    Returns:
        The paths written.

    Raises:
        ValueError: if a checkpoint cannot be read, is tuned already, or has no bias with as many channels.
    """
    import torch

    partials = {path.with_name(TUNED): path.with_name(f".{TUNED}.part") for path in paths}
    try:
        for path, partial in zip(paths, partials.values(), strict=True):
            checkpoint = _load(path)
            for key, bias in _finest_biases(path, checkpoint, len(shifts)).items():
                shifted = bias.double() + torch.tensor(shifts, dtype=torch.float64)
                checkpoint["network_weights"][key] = shifted.to(bias.dtype)
            torch.save(checkpoint | {RECORD: dict(record)}, partial)
        for target, partial in partials.items():
            partial.replace(target)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    return list(partials)


def _load(path: Path) -> Checkpoint:
    """A checkpoint as nnU-Net writes it, on the CPU."""
    import pickle

    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), Mapping):
            raise ValueError("no network_weights in it")
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a checkpoint of nnU-Net. Got: {error}") from error
    return checkpoint


def _finest_biases(path: Path, checkpoint: Checkpoint, channels: int) -> dict[str, torch.Tensor]:
    """The bias of the finest segmentation layer by its key; wrappers of DDP and torch.compile may stand before it.

    Raises:
        ValueError: if the checkpoint is tuned already, has no such bias, or one of another number of channels.
    """
    if RECORD in checkpoint:
        raise ValueError(
            f"{path} is tuned already. Expected: a checkpoint of training. Got: {describe(checkpoint[RECORD])}"
        )
    weights = checkpoint["network_weights"]
    found = {key: re.search(r"(?:^|\.)decoder\.seg_layers\.(\d+)\.bias$", key) for key in weights}
    scales = {key: int(match[1]) for key, match in found.items() if match}
    biases = {key: weights[key] for key, scale in scales.items() if scale == max(scales.values())}
    if not biases:
        raise ValueError(
            f"{path}: {_architecture(path, checkpoint)} has no bias to carry a threshold. Expected: "
            "decoder.seg_layers.N.bias, as in nnU-Net's PlainConvUNet and ResidualEncoderUNet. Got: none"
        )
    for key, bias in biases.items():
        if bias.shape != (channels,):
            raise ValueError(
                f"{path}: {key} does not fit the classes. Expected: {channels} channels. Got: {tuple(bias.shape)}"
            )
    return biases


def _architecture(path: Path, checkpoint: Checkpoint) -> str:
    """The class of the network from the plans in the trainer's folder, or else the trainer's name."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        configuration = checkpoint["init_args"]["configuration"]
        plans = PlansManager(str(path.parent.parent / "plans.json"))
        return str(plans.get_configuration(configuration).network_arch_class_name)
    except (OSError, KeyError, TypeError, ValueError):
        return f"the network of {checkpoint.get('trainer_name', 'this checkpoint')}"


def describe(record: Mapping[str, Any]) -> str:
    """What a tuned checkpoint says about itself, in one line."""
    thresholds = ", ".join(f"{name} {value:g}" for name, value in record["thresholds"].items())
    return (
        f"threshold {thresholds}; chosen by {record['metric']} on {record['cases']} cases of "
        f"{', '.join(record['folds'])}; nnunet_ici {record['nnunet_ici']}, {record['date']}"
    )


class ShowTuned(argparse.Action):
    """``--show``: print what tuned checkpoints say about themselves, and end, whatever other arguments there are."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Exit with code 0, or 1 where the path holds no tuned checkpoint."""
        paths = sorted(values.glob(f"fold_*/{TUNED}")) if values.is_dir() else [values]
        lines = []
        try:
            for path in paths:
                record = _load(path).get(RECORD)
                if record is None:
                    raise ValueError(f"{path} is not tuned. Expected: {TUNED} of nnunet_ici tune. Got: no such record")
                lines.append(f"{path}: {describe(record)}\n")
            if not paths:
                raise ValueError(f"{values} holds no tuned checkpoint. Expected: fold_X/{TUNED}. Got: none")
        except ValueError as error:
            parser.exit(1, f"{error}\n")
        print("".join(lines), end="")
        parser.exit(0)
