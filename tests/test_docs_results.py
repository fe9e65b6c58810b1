"""Results quoted in the README and in docs/choosing.md: each is that of its trainer and metric in docs/results.md."""

from __future__ import annotations

import re

from tests.conftest import ROOT

RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
README, CHOOSING = ROOT / "README.md", ROOT / "docs" / "choosing.md"
CURVE = "mean of the free-response curve"
WORDS = ["no", "one", "two", "three", "four", "five"]


def tables(dataset, machine):
    """The tables of a dataset and machine in docs/results.md: for each, its rows by trainer, by column."""
    section = re.search(rf"^## {re.escape(dataset)}.*?(?=^## |\Z)", RESULTS, re.DOTALL | re.MULTILINE)[0]
    part = re.search(rf"^### {re.escape(machine)}.*?(?=^### |\Z)", section, re.DOTALL | re.MULTILINE)[0]
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        names = [row[0].strip("`").removeprefix("nnUNetTrainer") for row in rows]
        found.append({name: dict(zip(head, row, strict=True)) for name, row in zip(names, rows, strict=True)})
    return found


CHOSEN, AT_HALF, _, SCORES, *_ = tables("Implanted MS lesions: 3D volumes", "Machine 217f7477c242")
OPTIONS, OPTIONS_AT_HALF, _, OPTIONS_SCORES, OPTIONS_SCORES_AT_HALF, *_ = tables(
    "Implanted MS lesions: 3D volumes", "Machine 534c531967cf"
)
WIDE, *_ = tables("Implanted MS lesions: nnU-Net's 2d, longer and wider", "Machine 217f7477c242")  # one seed
IN_3D, IN_3D_AT_HALF, *_ = tables("Implanted MS lesions: nnU-Net's 3d_fullres", "Machine 217f7477c242")
STROKES, *_ = tables("Synthetic ATLAS", "Machine 217f7477c242")
NUCLEI, NUCLEI_AT_HALF, *_ = tables("Nuclei", "Machine 217f7477c242")
NUCLEI_BEFORE, NUCLEI_BEFORE_AT_HALF, *_ = tables("Nuclei", "Earlier machine")


def cell(trainer, metric, table):
    """A difference to nnUNetTrainer, the numbers of seeds above and below 0, and whether it is bold."""
    text = table[trainer][metric]
    mean, above, below = re.fullmatch(r"\**([+-][\d.]+) \(.*\) (\d)\+ (\d)-\**", text).groups()
    return mean, int(above), int(below), text.startswith("**")


def difference(trainer, metric, table=CHOSEN, clear=True):
    """A difference with its sign. ``clear``: whether its interval excludes 0 and all seeds agree."""
    mean, *_, bold = cell(trainer, metric, table)
    assert bold == clear, (trainer, metric)
    return mean


def seeds(trainer, metric, table=CHOSEN):
    """The seeds that agree with the sign of the mean, which must be all: "all five seeds"."""
    mean, above, below, _ = cell(trainer, metric, table)
    assert int(table[trainer]["pairs"]) == (above if mean[0] == "+" else below), (trainer, metric)
    return f"all {WORDS[above + below]} seeds"


def size(trainer, metric, table, scale=1.0, digits=3):
    """The size of a clear difference without its sign."""
    return f"{scale * abs(float(difference(trainer, metric, table))):.{digits}f}"


def thresholds(trainer):
    """The range of the thresholds chosen on validation cases."""
    chosen = sorted(map(float, SCORES[trainer]["thresholds"].split(", ")))
    return f"{chosen[0]:g} to {chosen[-1]:g}"


def mean(trainer, metric, table, digits=3):
    """The mean of a trainer over its seeds."""
    return f"{float(table[trainer][metric].split()[0]):.{digits}f}"


PQ_IN_3D = (
    f"free-response mean {difference('PQ', CURVE, IN_3D)}, F1 {difference('PQ', 'F1', IN_3D)} and "
    f"Dice {difference('PQ', 'Dice', IN_3D)}"
)
PQ = f"{difference('PQ', CURVE)}, PR-AUC {difference('PQ', 'PR-AUC')}"
QUOTED = [
    (README, f"In 3D, {PQ_IN_3D} in {seeds('PQ', CURVE, IN_3D)}."),
    (
        README,
        f"In 2D, free-response mean {difference('PQ', CURVE)} in {seeds('PQ', CURVE)} (second machine: "
        f"{difference('PQ', CURVE, OPTIONS)}), but F1 at 0.5 is {size('PQ', 'F1', AT_HALF)} lower: tune",
    ),
    (README, f"CATMIL, from another paper, equals PQ ({difference('CATMIL', CURVE)})"),
    (README, f"Wider network, longer training: PQ {difference('PQ', CURVE, WIDE, clear=False)} (one seed)."),
    (
        README,
        "LesionWise helps only in the wider network "
        f"(one seed: {difference('LesionWise', CURVE, WIDE, clear=False)}). In 3D, it and DICI are worse.",
    ),
    (README, f"free-response mean {difference('ICI', CURVE)} in 2D ({seeds('ICI', CURVE)}), "),
    (README, f"{difference('ICI', CURVE, IN_3D)} in 3D (all three; F1 {difference('ICI', 'F1', IN_3D)})"),
    (CHOOSING, f"{PQ_IN_3D} at the tuned threshold, F1 {difference('PQ', 'F1', IN_3D_AT_HALF)} and Dice "),
    (CHOOSING, f"{difference('PQ', 'Dice', IN_3D_AT_HALF)} at 0.5, in {seeds('PQ', 'Dice', IN_3D_AT_HALF)}"),
    (
        CHOOSING,
        f"In 3D, free-response mean {difference('ICI', CURVE, IN_3D)}, F1 {difference('ICI', 'F1', IN_3D)}, and ",
    ),
    (CHOOSING, f"F1 {difference('ICI', 'F1', IN_3D_AT_HALF)} at 0.5 in {seeds('ICI', 'F1', IN_3D_AT_HALF)}"),
    (CHOOSING, f"Dice is {size('DICI', 'Dice', IN_3D, 100, 1)} points lower |"),
    (CHOOSING, f"in {seeds('LesionWise', 'PR-AUC', IN_3D)} (PR-AUC {difference('LesionWise', 'PR-AUC', IN_3D)})"),
    (CHOOSING, f"free-response mean {PQ.replace(', ', ' and ')} in {seeds('PQ', CURVE)}; needs thresholds of "),
    (CHOOSING, f"{thresholds('PQ')}; F1 at 0.5 is {size('PQ', 'F1', AT_HALF)} lower. On a second machine, "),
    (
        CHOOSING,
        f"free-response mean {difference('PQ', CURVE, OPTIONS)} in {seeds('PQ', CURVE, OPTIONS)}. With a wider network",
    ),
    (
        CHOOSING,
        f"free-response mean {difference('PQ_f2', CURVE, OPTIONS)} and PR-AUC {difference('PQ_f2', 'PR-AUC', OPTIONS)} "
        f"in {seeds('PQ_f2', CURVE, OPTIONS)}; F1 {difference('PQ_f2', 'F1', OPTIONS, clear=False)} at the tuned "
        f"threshold and {difference('PQ_f2', 'F1', OPTIONS_AT_HALF, clear=False)} at 0.5, but one seed disagrees in "
        f"each; {mean('PQ_f2', 'false per case', OPTIONS_SCORES_AT_HALF, 0)} instead of "
        f"{mean('PQ', 'false per case', OPTIONS_SCORES_AT_HALF, 0)} false lesions per volume at 0.5. Not",
    ),
    (
        CHOOSING,
        f"an F1 of {mean('PQ', 'F1', OPTIONS_SCORES)} at the tuned threshold by default, "
        f"{mean('PQ_f2', 'F1', OPTIONS_SCORES)} with `f2`, {mean('PQ_f0p5', 'F1', OPTIONS_SCORES)} with `f0p5` and "
        f"{mean('PQ_w0p5', 'F1', OPTIONS_SCORES)} with `w0p5`.",
    ),
    (
        CHOOSING,
        f"(one seed), free-response mean {difference('PQ', CURVE, WIDE, clear=False)} and "
        f"F1 {difference('PQ', 'F1', WIDE, clear=False)} |",
    ),
    (CHOOSING, f"(free-response mean {difference('LesionWise', CURVE, WIDE, clear=False)} with both)."),
    (
        CHOOSING,
        f"free-response mean {difference('ICI', CURVE)} in {seeds('ICI', CURVE)}; the seeds disagree in F1 and Dice",
    ),
    (CHOOSING, f"`nnUNetTrainerICI_tau0p5`, they agree in Dice ({difference('ICI_tau0p5', 'Dice')})"),
    (CHOOSING, f"Dice {difference('CATMIL', 'Dice')} and free-response mean {difference('CATMIL', CURVE)} in all five"),
    (CHOOSING, f"{size('CATMIL', 'false per case', AT_HALF, 1, 0)} more false lesions per volume at 0.5 |"),
    (CHOOSING, f"F1 {difference('DICI', 'F1', AT_HALF)} at 0.5 in {seeds('DICI', 'F1', AT_HALF)}; "),
    (README, f"on nuclei (PQ: free-response mean {difference('PQ', CURVE, NUCLEI)}) or"),
    (README, f"synthetic strokes (ICI: Dice {difference('ICI', 'Dice', STROKES)})"),
    (
        CHOOSING,
        f"Dice {difference('ICI', 'Dice', STROKES)}, {difference('LesionWise', 'Dice', STROKES)} and "
        f"{difference('DICI', 'Dice', STROKES)} |",
    ),
    (CHOOSING, f"the free-response mean of PQ is {size('PQ', CURVE, NUCLEI)} lower"),
    (CHOOSING, f"LesionWise merges {size('LesionWise', 'merged per case', NUCLEI, 1, 2)} more nuclei per image"),
    (CHOOSING, f"Dice at 0.5 is {size('DICI', 'Dice', AT_HALF, 100, 1)} points lower. In 3D, "),
]


def test_every_result_is_that_of_its_trainer():
    section = re.search(r"^## Results so far\n(.*?)^## ", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[
        1
    ]
    prose = [line for line in section.strip().splitlines() if line and not line.startswith("![")]
    assert len(prose) <= 8
    code = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    for page, text in ((README, "\n".join(prose)), (CHOOSING, code.sub("", CHOOSING.read_text(encoding="utf-8")))):
        text = re.sub(r"\s+", " ", text)
        for of, sentence in QUOTED:
            if of == page:
                assert sentence in text, f"{page.name}: {sentence}"
                text = text.replace(sentence, "")
        left = set(re.findall(r"(?<![\w.`])[+-]?\d+(?:\.\d+)?(?![\w`])", text))
        assert left <= {"0.5"}, f"{page.name}: not held against the results: {sorted(left)}"


def test_no_clear_gain_where_the_pages_say_so():
    def gains(trainer, metric, table):
        return table[trainer][metric].startswith("**+")

    assert not any(gains(trainer, "F1", CHOSEN) for trainer in CHOSEN)
    assert not any(gains(trainer, "Dice", AT_HALF) for trainer in AT_HALF)
    assert difference("LesionWise", CURVE, WIDE, clear=False) == difference("ICI", CURVE, WIDE, clear=False)  # "both"
    for trainer in ("LesionWise", "DICI"):  # worse in 3D
        for table in (IN_3D, STROKES):
            assert not any(gains(trainer, metric, table) for metric in (CURVE, "PR-AUC", "Dice", "F1"))
            for metric in ("PR-AUC", "Dice"):
                assert seeds(trainer, metric, table) == "all three seeds"
                assert float(difference(trainer, metric, table)) < 0
    assert not any(gains(trainer, metric, STROKES) for trainer in STROKES for metric in (CURVE, "F1", "Dice"))
    for trainer in OPTIONS:
        assert not gains(trainer, "F1", OPTIONS) and not gains(trainer, "F1", OPTIONS_AT_HALF)
    for table in (OPTIONS, OPTIONS_AT_HALF):
        assert cell("PQ_f2", "F1", table)[1:3] == (4, 1)  # "one seed disagrees in each"
    for table in (NUCLEI, NUCLEI_AT_HALF, NUCLEI_BEFORE, NUCLEI_BEFORE_AT_HALF):
        assert not any(gains(trainer, metric, table) for trainer in table for metric in ("F1", "Dice"))
    for trainer in ("LesionWise", "LesionWise_f0p5", "LesionWise_w0p5", "Blob"):
        for metric in (CURVE, "PR-AUC", "Dice", "F1", "F1 at IoU 0.5", "lesion-wise Dice", "recall, smallest third"):
            assert not gains(trainer, metric, CHOSEN), (trainer, metric)
