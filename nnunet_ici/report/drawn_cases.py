"""The cases of the report: their order, and the slices of each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from nnunet_ici.command import Problems, plural
from nnunet_ici.drawing import make_scene
from nnunet_ici.evaluation.evaluate_cases import Settings
from nnunet_ici.evaluation.folders import FILE_ENDINGS, Case
from nnunet_ici.evaluation.grids import read_background, read_prediction
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.parallel import in_parallel
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.slices import DrawnSlice, draw_scene

__all__ = ["DrawnCase", "choose_cases", "draw_cases"]

Item = TypeVar("Item")

# Scores that rank the cases, if they were computed. Every family has one of them.
SCORES = ("lesion_dice", "lesion_f1", "dice", "cc_dice", "brats_lesion_dice")
# Up to this number of cases, the slices are drawn in one process.
FEW_CASES = 12


@dataclass
class DrawnCase:
    """A case of the report.

    Attributes:
        role: "worst", "median", "best", or the rank.
        case: its files.
        image: its image; None if it has none.
        brief: whether the case is drawn in brief instead of in full.
        without_image: whether the image of this case is missing although other cases have one.
        slices: slices of all classes.
        missing: files that no longer exist, each with "label" or the name of the model. If there are any, the case has
            no slices.
        turned: predictions that were reoriented to the axes of the ground truth.
        problem: problem with its files; "" for none.
    """

    role: str
    case: Case
    image: Path | None
    brief: bool
    without_image: bool
    slices: list[DrawnSlice] = field(default_factory=list)
    missing: list[tuple[str, Path]] = field(default_factory=list)
    turned: list[Path] = field(default_factory=list)
    problem: str = ""

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.case.name


def choose_cases(rows: Sequence[Row], count: int | None = None) -> list[tuple[str, str]]:
    """Choose cases evenly spaced from worst to best.

    Cases are ranked by the scores of the first model, averaged over the classes. The first of :data:`SCORES` that was
    computed ranks the cases. The next ones, and then the name, break ties.

    Args:
        rows: rows of cases.csv.
        count: number of cases; None for all cases.

    Returns:
        The role ("worst", "median", "best", or the rank) and the name of each chosen case, worst first.
    """
    scores: dict[str, list[list[float]]] = {}
    by = [name for name in SCORES if rows and name in rows[0]]
    for row in rows:
        if row["model"] == rows[0]["model"]:
            scores.setdefault(str(row["case"]), []).append([float(row[name]) for name in by])
    ranked = sorted(scores, key=lambda case: (*np.mean(scores[case], axis=0), case))
    last = len(ranked) - 1
    roles = {last // 2: "median", last: "best", 0: "worst"}
    cases = [(roles.get(rank, f"rank {rank + 1} of {last + 1}"), case) for rank, case in enumerate(ranked)]
    return cases if count is None else _evenly(cases, count)


def _evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Evenly spaced items, including the first and the last; all items if there are at most ``count``."""
    last = len(items) - 1
    return [
        items[at] for at in dict.fromkeys(last * step // max(count - 1, 1) for step in range(count if items else 0))
    ]


def _find_image(folder: Path, case: str, file_ending: str | None) -> Path:
    """The image of a case, named as in nnU-Net (first channel) or like the case; a ValueError if there is none."""
    endings = dict.fromkeys((*((file_ending,) if file_ending else ()), *FILE_ENDINGS))
    candidates = [folder / f"{case}{channel}{ending}" for ending in endings for channel in ("_0000", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"no image for case {case}. Expected: {candidates[0]}, or with another ending. Got: no such file")


def draw_cases(
    evaluation: Evaluation, image_folder: Path | None, count: int | None = None, full: int = 20, processes: int = 1
) -> tuple[list[DrawnCase], list[str]]:
    """Draw the slices of the cases.

    Args:
        evaluation: evaluation of the cases. A case whose files no longer exist has no slices.
        image_folder: folder of the images; None for a black background.
        count: number of cases, evenly spaced from worst to best for the first model; None for all cases.
        full: number of these cases to draw in full, also evenly spaced. The other cases are drawn in brief.
        processes: number of processes if there are many cases.

    Returns:
        The cases, worst first, and the problems, one sentence each.
    """
    chosen = choose_cases(evaluation.rows, count)
    in_full = {name for _, name in _evenly(chosen, full)}
    scheme = evaluation.settings.scheme
    images: dict[str, Path] = {}
    problems = Problems()
    for _, name in chosen if image_folder is not None else ():
        with problems.collecting():
            images[name] = _find_image(image_folder, name, scheme.file_ending)  # type: ignore[arg-type]
    if problems and not images:
        others = f" (the same for {plural(len(problems) - 1, 'other case')})" if len(problems) > 1 else ""
        return [], [problems[0] + others]
    cases = [
        DrawnCase(
            role, evaluation.cases[name], images.get(name), name not in in_full, bool(images) and name not in images
        )
        for role, name in chosen
    ]
    draw = partial(_draw, settings=evaluation.settings)
    drawn = in_parallel(draw, cases, 1 if len(cases) <= FEW_CASES else processes, "slices")
    return drawn, [case.problem for case in drawn if case.problem]


def _draw(drawn: DrawnCase, settings: Settings) -> DrawnCase:
    """Add the slices of a case, or the problem with its files."""
    case = drawn.case
    paths = {"label": case.label, **{model: path for model, path in case.predictions.items() if path is not None}}
    drawn.missing = [(owner, path) for owner, path in paths.items() if not path.is_file()]
    if drawn.missing:
        return drawn
    maps = {}
    try:
        label = read_label_map(case.label)
        for model, path in case.predictions.items():
            maps[model] = np.zeros_like(label.array)
            if path is not None:
                prediction = read_prediction(path, label)
                maps[model] = prediction.array
                drawn.turned += [path] if prediction.turned else []
        image = None if drawn.image is None else read_background(drawn.image, label.grid)
    except ValueError as error:
        drawn.problem = str(error)
        return drawn
    scene = make_scene(label.grid, label.array, maps, image)
    drawn.slices = draw_scene(scene, settings.scheme, drawn.brief, settings.overlap)
    return drawn
