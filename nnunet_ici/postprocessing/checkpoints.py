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
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions
from nnunet_ici.output import write_file
from nnunet_ici.postprocessing.network import FINAL, THRESHOLD_FILE, TUNED, outdated, read_choice
from nnunet_ici.postprocessing.rule import Rule, Setting
from nnunet_ici.postprocessing.sweep import logit

if TYPE_CHECKING:
    import torch

__all__ = [
    "ShowTuned", "bias_shifts", "describe", "find_checkpoints", "rule_after_shift", "shifts_fit", "write_choice",
    "write_tuned",
]  # fmt: skip

# Key of the record in a tuned checkpoint, beside nnU-Net's own keys.
RECORD = "nnunet_ici_tuned"

SHOWN = 8  # names in a message

Checkpoint = dict[str, Any]


def shifts_fit(scheme: LabelScheme) -> str:
    """One sentence if thresholds of these classes cannot be expressed as shifts of the bias, else an empty string."""
    if len(scheme.classes) == 1 or has_regions(scheme):
        return ""
    return (
        "no checkpoint can carry these thresholds. Expected: one class, or regions. Several classes share a softmax, "
        "where a shift of one class also moves its border with the others, so no bias gives each class its own "
        f"threshold. Got: {scheme}"
    )


def find_checkpoints(
    probability_folders: Sequence[Path], scheme: LabelScheme, name: str | None = None, force: bool = False
) -> tuple[list[Path], list[str]]:
    """Find the checkpoint that made the probabilities of each fold whose validation folder was given.

    Args:
        probability_folders: folders fold_X/validation.
        scheme: the classes.
        name: file name of the checkpoint; by default the one that :data:`THRESHOLD_FILE` names, which the trainers of
            this package write at each validation, or :data:`FINAL`.
        force: whether probabilities may be older than their checkpoint.

    Returns:
        The paths, and the problems, one sentence each: a folder that is not the validation of a fold; folds of several
        trainers; a checkpoint that is missing, newer than the probabilities, already tuned, or has no suitable bias;
        classes whose thresholds cannot be expressed as shifts of the bias.
    """
    misfit = shifts_fit(scheme)
    problems = [f"--checkpoint: {misfit}"] if misfit else []
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
    if problems:
        return [], problems
    channels = len(scheme.classes) + (not has_regions(scheme))
    paths = []
    for folder in folds:
        path = folder.parent / (name or _named(folder.parent) or FINAL)
        paths.append(path)
        try:
            _finest_biases(path, _load(path), channels)
        except ValueError as error:
            problems.append(str(error))
            continue
        saved = path.stat().st_mtime
        older = sorted(one.name for one in folder.glob("*.npz") if one.stat().st_mtime < saved)
        if older and not force:
            problems.append(
                f"{folder}: probabilities of another network. Expected: files newer than {path}. Got: "
                f"{', '.join(older[:SHOWN])}, which are older (nnUNetv2_train ... --val --npz writes new ones; "
                "--force takes them)"
            )
    return paths, problems


def _named(fold: Path) -> str | None:
    known = read_choice(fold).get("network", {}).get(fold.name, {})
    return known.get("checkpoint") if isinstance(known, dict) else None


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
    shifts = [-logit(rule.settings[name].threshold) for name in rule.scheme.classes]
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
        peak = round(1 / (1 + math.exp(logit(setting.threshold) - logit(peak))), 9)
    return replace(setting, threshold=0.5, peak_probability=peak)


def write_tuned(paths: Sequence[Path], shifts: Sequence[float], record: Mapping[str, Any]) -> list[Path]:
    """Write :data:`TUNED` beside each checkpoint, all or none; existing files with this name are overwritten.

    Args:
        paths: path of each fold's checkpoint.
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


def write_choice(paths: Sequence[Path], rule: Rule, content: Mapping[str, Any]) -> list[Path]:
    """Write :data:`TUNED` and :data:`THRESHOLD_FILE` into the folder of each checkpoint.

    Args:
        paths: path of each fold's checkpoint.
        rule: the rule, for the probabilities of these checkpoints.
        content: content of :data:`THRESHOLD_FILE`, from :func:`~nnunet_ici.postprocessing.tune_report.report`.

    Returns:
        The paths of the tuned checkpoints.

    Raises:
        ValueError: as :func:`write_tuned`.
    """
    record = {key: content[key] for key in ("nnunet_ici", "date", "thresholds", "rule", "metric", "network")}
    cases = max((of_class["cases"] for of_class in content["scores"].values()), default=0)
    record |= {"folds": [path.parent.name for path in paths], "cases": cases}
    written = write_tuned(paths, bias_shifts(rule), record)
    for path in paths:
        write_file(path.with_name(THRESHOLD_FILE), json.dumps(content, indent=2) + "\n")
    return written


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
                if problem := outdated(path.parent, record):
                    raise ValueError(problem)
                lines.append(f"{path}: {describe(record)}\n")
            if not paths:
                raise ValueError(f"{values} holds no tuned checkpoint. Expected: fold_X/{TUNED}. Got: none")
        except ValueError as error:
            parser.exit(1, f"{error}\n")
        print("".join(lines), end="")
        parser.exit(0)
