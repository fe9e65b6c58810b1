"""The trained models of a dataset and configuration, found in nnUNet_results by nnU-Net's own names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.evaluation.folders import list_cases
from nnunet_ici.postprocessing.network import FINAL

__all__ = ["Trained", "choose_folds", "find_trained", "without_probabilities"]

DEFAULT_PLANS = "nnUNetPlans"
LATEST = "checkpoint_latest.pth"  # of a training that was interrupted


@dataclass(frozen=True)
class Trained:
    """A trainer with results, or one that was asked for.

    Attributes:
        dataset: number or name of the dataset, as it was given.
        trainer, plans, configuration: names with which nnU-Net was trained.
        folder: folder of the trainer in nnUNet_results.
        file_ending: file ending of the label maps.
    """

    dataset: str
    trainer: str
    plans: str
    configuration: str
    folder: Path
    file_ending: str

    def fold(self, number: str) -> Path:
        """The folder of a fold."""
        return self.folder / f"fold_{number}"

    def predictions(self, number: str) -> dict[str, Path]:
        """The validation predictions of a fold, by case; empty if there are none."""
        return self._validation(number, self.file_ending)

    def probabilities(self, number: str) -> dict[str, Path]:
        """The probabilities beside them, by case."""
        return self._validation(number, ".npz")

    def _validation(self, number: str, ending: str) -> dict[str, Path]:
        folder = self.fold(number) / "validation"
        return list_cases(folder, ending) if folder.is_dir() else {}

    @property
    def folds(self) -> list[str]:
        """The numbers of the folds that have validation predictions."""
        names = sorted(path.name.removeprefix("fold_") for path in self.folder.glob("fold_*"))
        return [name for name in names if name.isdecimal() and self.predictions(name)]

    @property
    def names(self) -> str:
        """nnU-Net's options for this trainer and these plans."""
        return f"-tr {self.trainer}" + (f" -p {self.plans}" if self.plans != DEFAULT_PLANS else "")

    def make(self, number: str) -> str:
        """The command that makes the predictions and the probabilities of a fold, whatever is missing for them."""
        have = [name for name in (FINAL, LATEST) if (self.fold(number) / name).is_file()]
        rest = {FINAL: " --val", LATEST: " --c"}[have[0]] if have else ""
        return f"nnUNetv2_train {self.dataset} {self.configuration} {number} {self.names} --npz{rest}"


def find_trained(
    results: Path, dataset: str, configuration: str, trainers: Sequence[str], plans: str | None, file_ending: str
) -> list[Trained]:
    """The trained models to compare.

    Args:
        results: folder of the dataset in nnUNet_results.
        dataset: number or name of the dataset, for commands.
        configuration: configuration, such as "3d_fullres".
        trainers: names of the trainers, which need not have results; all that have results if empty.
        plans: name of the plans; by default those of the results.
        file_ending: file ending of the label maps.

    Returns:
        The given trainers, in this order; or all that have results, nnU-Net's own loss first.

    Raises:
        ValueError: if there are no results of this configuration and these plans, or results of several plans.
    """
    found = [path.name.split("__") for path in sorted(results.glob("*__*__*")) if path.is_dir()]
    fitting = [(names[0], names[1]) for names in found if len(names) == 3 and names[2] == configuration]
    if plans is None:
        known = sorted({of_plans for trainer, of_plans in fitting if not trainers or trainer in trainers})
        if len(known) > 1 and DEFAULT_PLANS not in known:
            raise ValueError(f"several plans. Expected: -p with one of them. Got: {', '.join(known)}")
        plans = known[0] if len(known) == 1 else DEFAULT_PLANS
    trainers = list(dict.fromkeys(trainers))
    if not trainers:
        trainers = sorted({name for name, of_plans in fitting if of_plans == plans}, key=_own_first)
    if not trainers:
        got = ", ".join("__".join(names) for names in found) or "none"
        raise ValueError(
            f"{results}: no trained model. Expected: TRAINER__{plans}__{configuration}. Got: {got}. Try: "
            f"nnUNetv2_train {dataset} {configuration} 0 -tr nnUNetTrainerPQ --npz"
        )
    return [
        Trained(dataset, trainer, plans, configuration, results / f"{trainer}__{plans}__{configuration}", file_ending)
        for trainer in trainers
    ]


def _own_first(trainer: str) -> tuple[bool, bool, str]:
    loss = trainer.split("_")[0]
    return loss != "nnUNetTrainer", loss != "nnUNetTrainerCounted", trainer


def choose_folds(
    models: Sequence[Trained], folds: Sequence[str], chosen: bool
) -> tuple[list[Trained], list[str], list[str]]:
    """The models and folds to compare.

    Args:
        models: the models.
        folds: the folds; if empty, those that all models with results have.
        chosen: whether the models were named, so that all of them must be compared. Otherwise those that lack a fold
            of ``folds``, or have no results, are left out.

    Returns:
        The models and the folds to compare, and a remark with a command for each model or fold that was left out.

    Raises:
        ValueError: if a fold is missing and cannot be left out; the message has the command.
    """
    folds = list(dict.fromkeys(folds))
    lacking = {
        model: [fold for fold in folds or model.folds[:1] or ["0"] if fold not in model.folds] for model in models
    }
    missing = [(model, fold) for model, of_model in lacking.items() for fold in of_model]
    compared = [model for model in models if not lacking[model]]
    if missing and (chosen or not compared):
        raise ValueError(_missing("validation predictions are missing. Expected: all folds of all trainers", missing))
    remarks = [f"{model.trainer} is left out, it has no fold {fold}: {model.make(fold)}" for model, fold in missing]
    if folds:
        return compared, folds, remarks
    every = sorted({fold for model in compared for fold in model.folds}, key=int)
    some = [(model, fold) for model in compared for fold in every if fold not in model.folds]
    folds = [fold for fold in every if all(fold in model.folds for model in compared)]
    if not folds:
        raise ValueError(_missing("no fold has predictions of all trainers. Expected: one that all have", some))
    remarks += [f"fold {fold} is left out, {model.trainer} has none: {model.make(fold)}" for model, fold in some]
    return compared, folds, remarks


def _missing(what: str, missing: Sequence[tuple[Trained, str]]) -> str:
    (model, fold), *others = missing
    more = f" (and {len(others)} more)" if others else ""
    return f"{what}. Got: no fold {fold} of {model.trainer}{more}. Try: {model.make(fold)}"


def without_probabilities(model: Trained, folds: Sequence[str]) -> str:
    """The command that makes the probabilities of a model; empty if there are probabilities of all predictions.

    Raises:
        ValueError: if there are probabilities of some predictions only.
    """
    lacking = [fold for fold in folds if set(model.predictions(fold)) - set(model.probabilities(fold))]
    if not lacking:
        return ""
    make = model.make(lacking[0]) + "".join(f", also fold {fold}" for fold in lacking[1:])
    if any(model.probabilities(fold) for fold in folds):
        raise ValueError(
            f"{model.trainer}: probabilities of fold {', '.join(lacking)} are missing. Expected: CASE.npz of all "
            f"predictions, or of none. Got: some. Try: {make}"
        )
    return make
