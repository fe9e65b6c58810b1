"""Numbers in the text of the docs: those of the code, of a stored benchmark, or of what runs here."""

from __future__ import annotations

import ast
import importlib
import re
from fractions import Fraction

import pytest
import torch

from nnunet_ici.datasets.splits import PAPER_SUBJECTS
from nnunet_ici.evaluation.average_precision import FALSE_PER_CASE, MATCHING_IOU, THRESHOLDS
from nnunet_ici.evaluation.brats import CHALLENGES, WORST_MM
from nnunet_ici.evaluation.detection import FLOOD
from nnunet_ici.evaluation.tables import FEWEST_CASES
from nnunet_ici.losses import BoundaryLoss, catmil
from nnunet_ici.losses.inverse_weighting import LIMITS as IW_LIMITS
from nnunet_ici.settings import (
    COMMON_DEFAULTS,
    DILATION_RADIUS,
    FIXED_THRESHOLD,
    LOSSES,
    RANDOM_THRESHOLD,
    SMOOTH,
    TermSettings,
)
from scripts.benchmarks.goals import growth, load
from scripts.benchmarks.published import label_by_max_pooling
from tests.conftest import ROOT, snake
from tests.test_checkpoints import ROUNDED

DOCS = ROOT / "docs"
LOW, HIGH = RANDOM_THRESHOLD
CATMIL, BLOB = (LOSSES[f"nnUNetTrainer{name}"].weights for name in ("CATMIL", "Blob"))
COSTS = rf"{catmil.FALSE_COST}\, FP + {catmil.MISSED_COST}\, FN"
RATES = ", ".join(str(Fraction(rate)) for rate in FALSE_PER_CASE[:-1])
MET = CHALLENGES["met"]

STATED = [
    ("atlas.md", f"{PAPER_SUBJECTS['train']} training and {PAPER_SUBJECTS['val']} validation subjects"),
    ("differences.md", f"draws a threshold from {LOW} to {HIGH}"),
    ("differences.md", f"an edge length of {TermSettings.size} voxels"),
    ("evaluation.md", f"fewer than {FEWEST_CASES} cases nothing is bold"),
    ("evaluation.md", f"a distance of {WORST_MM:g} mm"),
    ("evaluation.md", f"(default: metastases, {MET.dilation} dilation, {MET.smallest_mm3:g} mm3)"),
    ("evaluation.md", f"at {RATES} and {FALSE_PER_CASE[-1]:g} false components per case"),
    ("evaluation.md", f"each of {len(THRESHOLDS)} thresholds, even in the logit from {THRESHOLDS[0]:.3f} to"),
    ("evaluation.md", f"(AP) at IoU {MATCHING_IOU}**"),
    ("evaluation.md", f"more than {({10: 'ten'})[FLOOD]} times that of the lesions is a warning"),
    ("evaluation.md", f"(at most {100 * ROUNDED:g} % in our tests)"),
    ("losses.md", rf"$\epsilon = 10^{{{f'{SMOOTH:.0e}'.split('e')[1].replace('-0', '-')}}}$"),
    ("losses.md", rf"draws $\tau$ uniformly from {LOW} to {HIGH}. In validation, $\tau = {FIXED_THRESHOLD}$"),
    ("losses.md", COSTS),
    (
        "losses.md",
        rf"\frac{{1}}{{|G_n| + {catmil.SIZE_OFFSET}}} \text{{ inside lesions and }} {catmil.BACKGROUND_WEIGHT}",
    ),
    ("losses.md", rf"rises from 0 to {CATMIL['cat_weight']} over {catmil.WARM_UP} epochs"),
    ("losses.md", f"{CATMIL['mil_weight']} L_{{mil}}$"),
    ("losses.md", rf"$\alpha = {BLOB['global_weight']:g}$ (option `g`) and $\beta = {BLOB['term_weight']:g}$"),
    ("losses.md", f"falls from 1 to {BoundaryLoss.LOWEST} over the training"),
    ("differences.md", f"the radius of {DILATION_RADIUS} voxels"),
    ("differences.md", f"clipped to {IW_LIMITS[0]:g} and {IW_LIMITS[1]:,.0f},"),
    ("differences.md", f"falls from 1 to {BoundaryLoss.LOWEST} over the training"),
]


def text_of(page: str) -> str:
    return " ".join((DOCS / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("page", "stated"), STATED)
def test_constants_are_those_of_the_code(page, stated):
    assert stated in text_of(page)


def test_defaults_of_class_attributes():
    text = (DOCS / "trainers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.+?) \|", text.split("## Class attributes")[1], re.MULTILINE)
    shown = {name: value.strip("`") for names, value in rows for name in re.findall(r"`(\w+)`", names)}
    weights = {name for loss in LOSSES.values() for name in loss.weights}
    settings = COMMON_DEFAULTS.copy()
    for loss in LOSSES.values():
        settings |= {name: value for name, value in loss.settings.items() if name not in COMMON_DEFAULTS}
    assert set(shown) == weights | set(settings)
    assert {name: ast.literal_eval(shown[name]) for name in settings} == settings


def test_the_scene_of_the_pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    _, prob = importlib.import_module("terms").scene()
    small, middle, high = (f"{100 * prob[place]:.0f}" for place in ((38, 11), (10, 50), (37, 47)))
    stated = f"({small} and {middle} % probability), and predicts one that does not exist ({high} %)"
    assert stated in text_of("losses.md")


def test_max_pooling_breaks_the_snake():
    assert "A single 41 x 41 snake falls apart into 263 labels at 350 iterations" in text_of("differences.md")
    ids = label_by_max_pooling(torch.from_numpy(snake(41)), 350)
    assert len(ids[ids > 0].unique()) == 263


def test_goals_that_the_cpu_misses():
    """The sentences below the table of goals."""
    assert "the time goal is met in this run, but not in every run in noise" in text_of("benchmarks.md")
    reports = load(ROOT / "scripts" / "benchmarks" / "results")
    results = reports["losses_cpu"]["results"]
    missed = [stage for stage, entry in results.items() if entry["ICI terms"]["ratio"] > 1]
    assert missed == []
    assert "for many components and for memory were set for the GPU; the CPU misses both" in text_of("benchmarks.md")
    assert float(growth(reports["curves_cpu"]).split()[0]) > 1.5
    assert all(entry["ICI terms"]["peak_bytes_per_voxel"] > 16 for entry in results.values())
    assert "CC-DiceCE is the slowest" in text_of("benchmarks.md")
    for entry in results.values():
        timed = {name: value["ratio"] for name, value in entry.items() if "published" not in name and "," not in name}
        assert max(timed, key=timed.get) == "CC-DiceCE term"
