"""Checkpoints that carry a threshold in the bias of their last layer, so that nnU-Net itself predicts at the threshold.

nnU-Net averages the logits of tiles, mirrored copies and folds, and resamples them linearly. It then takes the label
of the largest logit, or the regions with a logit above 0. Averaging and resampling commute with adding a constant to a
channel. If -logit(t) is added to the bias of the finest segmentation layer, a voxel becomes foreground exactly where
the original model's probability is above t. A probability of exactly t gives background in both cases, because nnU-Net
takes the lower label at equal logits.

Rounding causes small differences. nnU-Net sums tiles and folds in half precision, even on the CPU, and shifted logits
round differently. A voxel can fall on the other side of the threshold if its logit is within about 0.005 of logit(t).
At the edges of 3D images, where nnU-Net's Gaussian weights are too small for half precision, the margin is a few
tenths. With random networks this affected 0 to 0.06 % of the voxels, and none at t = 0.5.

``nnUNetv2_ensemble`` averages the probabilities of the tuned models, which is not the same as thresholding the average
of the original models. In a cascade, a tuned first stage also changes the input of the second stage.
"""

from __future__ import annotations

import argparse
import io
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
# Key of the record in a tuned checkpoint, beside nnU-Net's own keys.
RECORD = "nnunet_ici_tuned"

Checkpoint = dict[str, Any]


def find_checkpoints(probability_folders: Sequence[Path], scheme: LabelScheme) -> tuple[list[Path], list[str]]:
    """Find the final checkpoint of each fold whose validation folder was given.

    Returns:
        The paths of :data:`FINAL`, and the problems, one sentence each: a folder that is not the validation of a fold;
        folds of several trainers; a checkpoint that is missing, already tuned, or has no suitable bias; classes whose
        thresholds cannot be expressed as shifts of the bias.
    """
    problems = []
    if len(scheme.classes) > 1 and not has_regions(scheme):
        problems.append(
            "--checkpoint does not fit the classes. Expected: one class, or regions. Several classes share a softmax, "
            "where a shift of one class also moves its border with the others, so no bias gives each class its own "
            f"threshold. Got: {scheme}"
        )
    folds = [folder.resolve() for folder in dict.fromkeys(probability_folders)]
    problems += [
        f"--checkpoint needs the validation folders of folds. Expected: -prob .../fold_X/validation, with {FINAL} in "
        f"fold_X. Got: {folder}"
        for folder in folds
        if folder.name != "validation" or not folder.parent.name.startswith("fold_")
    ]
    trainers = {folder.parent.parent for folder in folds}
    if len(trainers) > 1:
        got = ", ".join(map(str, sorted(trainers)))
        problems.append(f"--checkpoint needs the folds of one trainer. Expected: -prob of a single trainer. Got: {got}")
    paths = [folder.parent / FINAL for folder in folds]
    channels = len(scheme.classes) + (not has_regions(scheme))
    for path in [] if problems else paths:
        try:
            _finest_biases(path, _load(path), channels)
        except ValueError as error:
            problems.append(str(error))
    return paths, problems


def bias_shifts(rule: Rule) -> list[float]:
    """The value to add to the bias of each channel: -logit(t) for the foreground, 0 for the background.

    Raises:
        ValueError: if a threshold t is 0 or 1, whose logit is infinite.

    Example:
        >>> bias_shifts(Rule(LabelScheme({"lesion": (1,)}), {"lesion": Setting(threshold=0.5)}))
        [0.0, -0.0]
    """
    wrong = [
        f"{setting.threshold:g} for {name}" for name, setting in rule.settings.items() if not 0 < setting.threshold < 1
    ]
    if wrong:
        raise ValueError(f"logit(t) must be finite. Expected: 0 < t < 1. Got: {', '.join(wrong)}")
    shifts = [-_logit(rule.settings[name].threshold) for name in rule.scheme.classes]
    return shifts if has_regions(rule.scheme) else [0.0, *shifts]


def rule_after_shift(rule: Rule) -> Rule:
    """The rule for predictions of the tuned checkpoints: threshold 0.5, the same minimum volumes, and shifted peaks.

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
        shifts: shift of each channel, from :func:`bias_shifts`.
        record: how the checkpoints were tuned, in JSON types; stored in each of them.

    Returns:
        The paths written.

    Raises:
        ValueError: if a checkpoint cannot be read, is already tuned, or has no bias with this number of channels.
    """
    import torch

    partials = {path.with_name(TUNED): path.with_name(f".{TUNED}.part") for path in paths}
    try:
        for path, partial in zip(paths, partials.values(), strict=True):
            checkpoint = _load(path)
            for key, bias in _finest_biases(path, checkpoint, len(shifts)).items():
                shifted = bias.double() + torch.tensor(shifts, dtype=torch.float64)
                checkpoint["network_weights"][key] = shifted.to(bias.dtype)
            content = io.BytesIO()  # torch's own errors on a full disk are not OSErrors
            torch.save(checkpoint | {RECORD: dict(record)}, content)
            partial.write_bytes(content.getbuffer())
        for target, partial in partials.items():
            partial.replace(target)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    return list(partials)


def _load(path: Path) -> Checkpoint:
    """Load a checkpoint of nnU-Net onto the CPU; ValueError if that fails."""
    import pickle

    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), Mapping):
            raise ValueError("no network_weights")
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a checkpoint of nnU-Net. Got: {error}") from error
    return checkpoint


def _finest_biases(path: Path, checkpoint: Checkpoint, channels: int) -> dict[str, torch.Tensor]:
    """The bias of the finest segmentation layer, by its key; the key may have a prefix from DDP or torch.compile.

    Raises:
        ValueError: if the checkpoint is already tuned, has no such bias, or a bias with another number of channels.
    """
    if RECORD in checkpoint:
        raise ValueError(
            f"{path} is already tuned. Expected: a checkpoint from training. Got: {describe(checkpoint[RECORD])}"
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
    """The network's class name from the plans in the trainer's folder; without plans, the trainer's name."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        configuration = checkpoint["init_args"]["configuration"]
        plans = PlansManager(str(path.parent.parent / "plans.json"))
        return str(plans.get_configuration(configuration).network_arch_class_name)
    except (OSError, KeyError, TypeError, ValueError):
        return f"the network of {checkpoint.get('trainer_name', 'this checkpoint')}"


def describe(record: Mapping[str, Any]) -> str:
    """Describe the record of a tuned checkpoint in one line."""
    thresholds = ", ".join(f"{name} {value:g}" for name, value in record["thresholds"].items())
    return (
        f"threshold {thresholds}; chosen by {record['metric']} on {record['cases']} cases of "
        f"{', '.join(record['folds'])}; nnunet_ici {record['nnunet_ici']}, {record['date']}"
    )


class ShowTuned(argparse.Action):
    """``--show``: print the records of tuned checkpoints and exit, regardless of other arguments."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Exit with code 0, or with 1 if the path holds no tuned checkpoint."""
        paths = sorted(values.glob(f"fold_*/{TUNED}")) if values.is_dir() else [values]
        lines = []
        try:
            for path in paths:
                record = _load(path).get(RECORD)
                if record is None:
                    raise ValueError(f"{path} is not tuned. Expected: {TUNED} from nnunet_ici tune. Got: no record")
                lines.append(f"{path}: {describe(record)}\n")
            if not paths:
                raise ValueError(f"{values} holds no tuned checkpoint. Expected: fold_X/{TUNED}. Got: none")
        except ValueError as error:
            parser.exit(1, f"{error}\n")
        print("".join(lines), end="")
        parser.exit(0)
