"""The threshold of a trainer, chosen on nnU-Net's final validation without storing the probabilities.

nnU-Net predicts the validation cases and exports each of them in a worker process. There, :func:`export` keeps what the
choice needs of the probabilities in a folder that is removed at the end.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ici.evaluation.labels import read_label_scheme
from nnunet_ici.postprocessing.cases import Case
from nnunet_ici.postprocessing.checkpoints import shifts_fit, write_choice
from nnunet_ici.postprocessing.choice import Choice, Grid, choose, draw_folds, match_folds
from nnunet_ici.postprocessing.network import TUNED, fingerprint, outdated
from nnunet_ici.postprocessing.rule import Rule, Setting, read_regions_class_order
from nnunet_ici.postprocessing.sweep import THRESHOLDS, Sweep
from nnunet_ici.postprocessing.tune_report import few, report, summary_line, written_rule

__all__ = ["choosing_threshold", "export"]

HELD = ".threshold"  # the folder of the held cases, in the folder of the fold
FOLDS = 5
# With fewer voxels in all cases, a single process is faster than starting several.
FEW_VOXELS = 5_000_000


@dataclass(frozen=True)
class Holding:
    """How the cases of a validation are held.

    Attributes:
        folder: folder of the held cases.
        labels: folder of the ground truth.
        rule: the classes, with the ignore label, and their order of writing.
        names: names of the validation cases.
    """

    folder: Path
    labels: Path
    rule: Rule
    names: tuple[str, ...]

    def hold(self, name: str, ending: str, probabilities: Any, reader: Any, spacing_mm: Any) -> None:
        """Write the case, or the error that prevents it, to the folder."""
        try:
            label = reader.read_seg(str(self.labels / f"{name}{ending}"))[0][0].astype(np.int32)
            array = np.asarray(probabilities, dtype=np.float32)
            held: Case | str = Case.of(name, label, array, spacing_mm, self.rule, min(THRESHOLDS))
        except Exception as error:
            held = f"{name}: {type(error).__name__}: {error}"
        partial_path = self.folder / f"{name}.part"
        partial_path.write_bytes(pickle.dumps(held))
        partial_path.rename(self.folder / f"{name}.pkl")

    def cases(self) -> list[Case]:
        """The held cases.

        Raises:
            ValueError: if a case is missing.
        """
        held = []
        for name in self.names:
            path = self.folder / f"{name}.pkl"
            case = pickle.loads(path.read_bytes()) if path.is_file() else f"{name}: no probabilities"
            if isinstance(case, str):
                raise ValueError(case)
            held.append(case)
        return held


def export(
    holding: Holding,
    logits: Any,
    properties: dict[str, Any],
    configuration: Any,
    plans: Any,
    dataset_json: dict[str, Any],
    output: str,
    *more: Any,
) -> None:
    """nnU-Net's ``export_prediction_from_logits``, which also holds the probabilities; they are computed once."""
    from nnunetv2.inference import export_prediction as host

    original: Callable[..., Any] = host.convert_predicted_logits_to_segmentation_with_correct_shape

    def convert(*args: Any, return_probabilities: bool = False, **keywords: Any) -> Any:
        try:
            segmentation, probabilities = original(*args, return_probabilities=True, **keywords)
            reader = plans.image_reader_writer_class()
            name = os.path.basename(output)
            holding.hold(name, dataset_json["file_ending"], probabilities, reader, properties["spacing"])
        except Exception:  # the validation goes on; the case will be missing from the choice
            return original(*args, return_probabilities=return_probabilities, **keywords)
        return (segmentation, probabilities) if return_probabilities else segmentation

    host.convert_predicted_logits_to_segmentation_with_correct_shape = convert
    try:
        host.export_prediction_from_logits(logits, properties, configuration, plans, dataset_json, output, *more)
    finally:
        host.convert_predicted_logits_to_segmentation_with_correct_shape = original


@contextmanager
def choosing_threshold(trainer: Any, checkpoint: str) -> Iterator[None]:
    """Run nnU-Net's final validation in the block, and choose a threshold afterwards.

    Writes :data:`TUNED` and :data:`THRESHOLD_FILE` into the folder of the fold, and logs the scores. A failure is one
    warning in the log.

    Args:
        trainer: trainer of nnU-Net.
        checkpoint: file name of the checkpoint whose weights the network has.
    """
    fold = Path(trainer.output_folder)
    holding = None
    try:
        holding = _prepare(trainer, fold, checkpoint)
    except Exception as error:
        _warn(trainer, fold, error)
    try:
        with _exporting(holding):
            yield
        if holding is not None and trainer.local_rank == 0:
            try:
                _choose(trainer, holding, fold / checkpoint)
            except Exception as error:
                _warn(trainer, fold, error)
    finally:
        if trainer.local_rank == 0:
            shutil.rmtree(fold / HELD, ignore_errors=True)


def _prepare(trainer: Any, fold: Path, checkpoint: str) -> Holding | None:
    """Where the cases will be held; None, with the reason in the log, if no threshold can be chosen."""
    from torch import distributed as dist

    dataset = Path(trainer.output_folder_base) / "dataset.json"
    scheme = read_label_scheme(dataset)
    names = () if trainer.fold == "all" else tuple(sorted(trainer.do_split()[1]))
    reason = shifts_fit(scheme)
    if trainer.fold == "all":
        reason = "fold_all was trained on all cases, so none was held out"
    elif trainer.disable_checkpointing or not (fold / checkpoint).is_file():
        reason = f"there is no {checkpoint} to carry it"
    elif len(names) < 2:
        reason = "one validation case is not enough"
    if reason:
        _log(trainer, f"No threshold is chosen: {reason}")
        return None
    try:
        if trainer.local_rank == 0:
            shutil.rmtree(fold / HELD, ignore_errors=True)  # of a validation that was killed
            (fold / HELD).mkdir()
    finally:
        if trainer.is_ddp:
            dist.barrier()
    plain = Rule(scheme, {name: Setting() for name in scheme.classes}, read_regions_class_order(dataset, scheme))
    return Holding(fold / HELD, Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations", plain, names)


@contextmanager
def _exporting(holding: Holding | None) -> Iterator[None]:
    """Let nnU-Net's final validation call :func:`export`; None changes nothing."""
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as host

    original = host.export_prediction_from_logits
    try:
        if holding is not None:
            host.export_prediction_from_logits = partial(export, holding)
        yield
    finally:
        host.export_prediction_from_logits = original


def _choose(trainer: Any, holding: Holding, checkpoint: Path) -> None:
    from nnunetv2.configuration import default_num_processes

    cases, names = holding.cases(), holding.names
    folds, _ = match_folds(draw_folds(names, min(FOLDS, len(names)), seed=0), names, "")
    small = sum(int(np.prod(case.shape)) for case in cases) < FEW_VOXELS
    sweep = Sweep(cases, holding.rule, processes=1 if small else default_num_processes, description="threshold")
    choice = choose(sweep, folds, Grid())
    rule = written_rule(choice.rule, trainer.dataset_json["file_ending"])
    network = {checkpoint.parent.name: {"checkpoint": checkpoint.name, "fingerprint": fingerprint(checkpoint)}}
    write_choice([checkpoint], rule, report(choice, rule, network))
    for line in _lines(trainer, choice, rule):
        _log(trainer, line)


def _lines(trainer: Any, choice: Choice, rule: Rule) -> Iterator[str]:
    """The last lines of the log."""
    for name, setting in rule.settings.items():
        of_class = f"{name}, " if len(rule.settings) > 1 else ""
        if note := few(choice, name):
            yield f"Threshold: {note}"
        yield f"{of_class}at 0.5: {summary_line(choice.sweep.scores(name, None))}"
        if choice.gains(name):
            yield f"{of_class}at {setting.threshold:.6g}, out of fold: {summary_line(choice.out_of_fold(name))}"
        else:
            yield f"{of_class}no gain out of fold ({choice.gain(name)}): 0.5 stays"
    yield _command(trainer)


def _command(trainer: Any) -> str:
    """The command that predicts with the tuned checkpoint."""
    plans = trainer.plans_manager
    words = ["nnUNetv2_predict", "-d", plans.dataset_name, "-c", trainer.configuration_name, "-f", str(trainer.fold)]
    words += ["-tr", type(trainer).__name__, "-p", plans.plans_name, "-i", "IMAGES", "-o", "PREDICTIONS"]
    if trainer.is_cascaded:
        words += ["-prev_stage_predictions", "PREDICTIONS_OF_THE_PREVIOUS_STAGE"]
    if trainer.device.type != "cuda":
        words += ["-device", trainer.device.type]
    return " ".join([*words, "-chk", TUNED])


def _log(trainer: Any, line: str) -> None:
    trainer.print_to_log_file(line, also_print_to_console=True)


def _warn(trainer: Any, fold: Path, error: Exception) -> None:
    if trainer.local_rank == 0:
        stale = outdated(fold)
        told = f"WARNING: no threshold was chosen ({type(error).__name__}: {error})"
        _log(trainer, f"{told}; {stale}" if stale else told)
