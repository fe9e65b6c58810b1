"""``nnunet_ici report``: what the page holds, that it stands alone, and one report of all that is wrong."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.evaluation.families import FAMILIES, OLD_NAMES
from nnunet_ici.evaluation.formats import to_csv
from nnunet_ici.evaluation.tables import Cell, Table
from nnunet_ici.report.definitions import MEANINGS, MEANINGS_BRATS, definitions_of
from nnunet_ici.report.page import group_starts
from nnunet_ici.report.reading import read_evaluation
from nnunet_ici.report.rendering import load_templates
from tests.test_report_charts import EVIL, make_fold

VOID = ("img", "meta")  # elements without an end


class Page(HTMLParser):
    """The texts, the elements and their attributes; every element has to end where it should."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.balanced = [], [], [], True
        self.markup = path.read_text(encoding="utf-8")
        self.feed(self.markup)
        self.close()
        self.balanced = self.balanced and not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data.replace("\xa0", " "))

    def all(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    @property
    def text(self):
        return " ".join(self.texts)


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def evaluate(root, models, *extra):
    predictions = [f"{name}={folder}" for name, folder in models.items()]
    arguments = ["-gt", str(root / "gt"), "-pred", *predictions, "-o", str(root / "out"), "-np", "1"]
    assert main(["evaluate", *arguments, "--family", *FAMILIES, *extra]) == 0
    return root / "out"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two cases with three lesions; model A misses one and sees one too many, model B is perfect."""
    root = tmp_path_factory.mktemp("evaluated")
    for name, count in (("one", 2), ("two", 1)):
        label = np.zeros((6, 16, 16), np.uint8)
        label[1:3, 2:4, 2:4] = 1
        label[4, 10, 10] = count - 1
        write(root / "gt" / f"{name}.nii.gz", label)
        write(root / "B" / f"{name}.nii.gz", label)
        prediction = label.copy()
        if name == "one":
            prediction[4, 10, 10], prediction[0, 14, 1] = 0, 1
        write(root / "A" / f"{name}.nii.gz", prediction)
        write(root / "images" / f"{name}_0000.nii.gz", 50 * label + np.arange(16, dtype=np.uint8))
    evaluate(root, {"A": root / "A", "B": root / "B"})
    return root


@pytest.fixture(scope="module")
def page(evaluated, tmp_path_factory):
    """Its page, with images."""
    return report(evaluated / "out", tmp_path_factory.mktemp("page"), "--images", evaluated / "images")


@pytest.fixture
def flat(tmp_path):
    """A 2D case with two classes, and names that are HTML, formulas or hidden; the first model misses a class."""
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6], label[10:12, 10:14] = 1, 2
    write(tmp_path / "gt" / "cell.png", label)
    write(tmp_path / "B" / "cell.png", label)
    write(tmp_path / "A" / "cell.png", np.where(label == 1, 0, label).astype(np.uint8))
    write(tmp_path / "images" / "cell.png", 100 * label)
    declared = {"labels": {"background": 0, "<b>cell": 1, "core": 2}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    evaluate(tmp_path, {EVIL: tmp_path / "A", "_hidden": tmp_path / "B"})
    return tmp_path


def report(out, tmp_path, *extra):
    path = tmp_path / "page.html"
    assert main(["report", str(out), "-o", str(path), *map(str, extra)]) == 0
    return Page(path)


def refused(capsys, out, *extra):
    assert main(["report", str(out), *map(str, extra)]) == 1
    return capsys.readouterr().err


def test_the_page(evaluated, tmp_path, capsys):
    page = report(evaluated / "out", tmp_path)
    assert page.balanced and page.markup.startswith("<!DOCTYPE html>")
    assert page.all("html", lang="en") and page.all("meta", charset="utf-8")
    assert "Lesion report: A, B" in page.texts
    headings = ["Scores and volumes", "Lesions", "Cases", "Training", "All tables", "Models and data"]
    assert [page.texts[at] for at, text in enumerate(page.texts) if text in headings] == headings * 2  # contents, page
    sentence = page.texts.index("2 cases cannot show a clear difference between B and A: at least 10 are needed.")
    assert sentence < page.texts.index(headings[0])  # the verdict comes first
    anchors = [found["href"] for found in page.all("a")]
    cases = ["#case1", "#case2", "#all-cases", "#all-cases"]  # to the slices, and back from each
    assert anchors == [*(f"#{found['id']}" for found in page.all("section")[1:]), *cases]
    assert "foreground: every label above 0" in page.text and "A lesion is a connected component" in page.text
    assert "Worst: one" in page.texts and "Best: two" in page.texts and "Median" not in page.text
    assert "found: 0, missed: 0, false: 1" in page.text and "found: 0, missed: 1, false: 0" in page.text
    assert [found["alt"].split(",")[0] for found in page.all("img")] == [
        "Dice of each case", "Lesion-wise Dice of each case", "Predicted against true total lesion volume of each case",
        "Difference between predicted and true volume of each case against their mean (Bland-Altman plot).",
        "Size of each lesion", "Share of lesions found",
    ]  # fmt: skip
    assert "B: mean +0 ml, limits +0 and +0." in page.text
    assert "Dice 0.889, lesion-wise Dice 0.333, missed 1 of 2, false 1" in page.texts
    assert "No training curves" in page.text
    assert not page.all("image") and "image" not in page.texts
    assert f"written to {tmp_path / 'page.html'}" in capsys.readouterr().out


def test_it_stands_alone(page):
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for tag, found in page.elements:
        for name in ("src", "href"):
            target = found.get(name)
            assert target is None or target.startswith("data:") or target[1:] in ids, (tag, target)
    assert page.all("script") == [{}] and not page.all("link")  # one, inside the page
    assert "@import" not in page.markup and "url(" not in page.markup.replace("url(#", "")
    assert all(found["alt"] for found in page.all("img"))
    assert all(found["aria-label"] for found in page.all("svg", role="img"))
    used = {part.split(")")[0] for part in page.markup.split("url(#")[1:]}
    assert used and used <= set(ids)


def test_the_tables_are_those_of_the_evaluation(evaluated, page):
    evaluation, problems = read_evaluation(evaluated / "out")
    assert not problems
    assert to_csv([evaluation.verdict.table, *evaluation.tables()]) == (evaluated / "out" / "tables.csv").read_text()
    assert {found["scope"] for found in page.all("th")} == {"col", "colgroup", "row"}
    assert len(page.all("caption")) == len(page.all("table")) == 8 + 2  # the verdict, and all cases
    assert len(page.all("summary")) == len(page.all("details")) == 8 + 2 and not page.all("details", open="")


def html_of(table):
    templates = load_templates()
    return templates.get_template("parts.html").module.data_table(table, group_starts(table))


def test_a_table():
    rows = [[Cell("a<"), Cell("x"), Cell("0.5", 0.5, 1, best=True)], [Cell("b"), Cell("x"), Cell("-", math.nan, 2)]]
    markup = html_of(Table("t", "T", 2, ["model", "class", "Dice"], rows, note="A & B."))
    assert '<th scope="row" class="name">a&lt;</th>' in markup and "A &amp; B." in markup
    assert '<td data-title="Dice"><strong>0.5</strong><span class="rank"> (1)</span></td>' in markup
    assert '<td data-title="Dice">-<span class="rank"> (2)</span></td>' in markup
    assert "group" not in markup  # all rows are of class x
    grouped = html_of(Table("t", "T", 2, ["m", "s"], [[Cell(a), Cell(b)] for a, b in ("ax", "ay", "bx")]))
    assert grouped.count('class="group"') == 1


def test_what_is_defined_is_in_the_tables(evaluated):
    evaluation, _ = read_evaluation(evaluated / "out")
    defined = {table.name: definitions_of(table.name, table.head) for table in evaluation.tables()}
    texts = {text for meanings in defined.values() for text in meanings.values()}
    undefined = {text for text in MEANINGS.values() if text not in texts}
    assert undefined == {MEANINGS["PR-AUC"]}  # there is no probability
    assert set(MEANINGS_BRATS.values()) <= set(defined["brats"].values()) and not defined["differences"]
    assert "lesion F1 (6 neighbors)" in defined["atlas22"]


def browser():
    return next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


needs_browser = pytest.mark.skipif(browser() is None, reason="needs Chromium or Chrome")


def browse(markup, path, *options):
    """What a browser makes of a page; the DOM after its scripts by default."""
    path.write_text(markup)
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", *(options or ["--dump-dom"]), path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_browser
def test_the_table_of_cases_sorts(page, tmp_path):
    """Pressed once, the numbers go up; pressed twice, down. Without the script the table stands as it is."""
    assert re.findall(r'<a href="#case\d">(\w+)', page.markup)[:2] == ["one", "two"]
    for presses, expected in ((1, ["two", "one"]), (2, ["one", "two"])):
        click = 'document.querySelectorAll("#all-cases thead tr:last-child [role=button]")[1].click();' * presses
        dom = browse(page.markup.replace("</body>", f"<script>{click}</script></body>"), tmp_path / "pressed.html")
        assert re.findall(r'<a href="#case\d">(\w+)', dom)[:2] == expected
        assert f'aria-sort="{("ascending", "descending")[presses - 1]}"' in dom


@pytest.mark.parametrize("family", FAMILIES)
def test_cases_are_ranked_by_any_family(evaluated, tmp_path, family):
    (tmp_path / "gt").symlink_to(evaluated / "gt")
    out = evaluate(tmp_path, {"A": evaluated / "A"}, "--family", family)
    assert "Worst: one" in report(out, tmp_path).texts


def test_one_case_only(evaluated, tmp_path):
    page = report(evaluated / "out", tmp_path, "--cases", 1)
    assert "Worst: one" in page.texts and "Best: two" not in page.texts


def test_flat_images_classes_and_names(flat, tmp_path):
    page = report(flat / "out", tmp_path, "--images", flat / "images")
    assert page.balanced and page.all("script") == [{}] and not page.all("b", **{"class": "cell"})
    assert page.markup.count("<script") == 1 and EVIL in page.texts
    assert "<b>cell: label 1; core: label 2" in page.texts
    assert "The only case: cell" in page.texts
    assert [page.texts.count(name) for name in ("found: 1, missed: 0, false: 0", "found: 0, missed: 1, false: 0")] == [
        3,
        1,
    ]
    assert len([found for found in page.all("img") if found["alt"].startswith("Size of each")]) == 2
    assert "voxels" in page.text  # a PNG does not know how large a pixel is


def test_moved_files_leave_the_slices_out(flat, tmp_path, capsys):
    (flat / "A" / "cell.png").unlink()
    page = report(flat / "out", tmp_path, "--images", flat / "images")
    assert f"{EVIL}: cell.png" in page.texts and not page.all("use")
    assert f"no slices for cell: {flat / 'A' / 'cell.png'} no longer exists" in capsys.readouterr().err


def test_the_page_lies_beside_its_evaluation(flat):
    assert main(["report", str(flat / "out")]) == 0
    assert Page(flat / "out" / "report.html").balanced
    assert not list((flat / "out").glob("*.tmp")) and not list((flat / "out").glob(".*"))


def test_a_flood_is_a_warning(tmp_path):
    label = np.zeros((20, 20, 22), np.uint8)
    label[0, 0, :2] = 1
    write(tmp_path / "gt" / "one.nii.gz", label)
    label[:, :, 1:21], label[0, 0, 0] = 1, 0
    write(tmp_path / "A" / "one.nii.gz", label)
    evaluate(tmp_path, {"A": tmp_path / "A"})
    warning = "Warning: A: predicted volume above 10 times the label's in 1 case, as in one: 8,000 mm³ for 2 mm³;"
    assert warning in report(tmp_path / "out", tmp_path).text


def test_names_of_metrics_in_a_folder_of_version_0_2(evaluated, tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("instances.csv", "summary.json"):
        (tmp_path / "old" / name).write_text((evaluated / "out" / name).read_text())
    with open(evaluated / "out" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    new = {"lesion_f1_iou10", "mostly_outside", "cc_dice", "brats_lesion_f1"}
    old = [{old: row[now] for old, now in OLD_NAMES.items() if now in row and now not in new} for row in rows]
    with open(tmp_path / "old" / "cases.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["model", "case", "class", *old[0]])
        writer.writeheader()
        keys = [{name: row[name] for name in ("model", "case", "class")} for row in rows]
        writer.writerows(key | values for key, values in zip(keys, old, strict=True))
    before, problems = read_evaluation(tmp_path / "old")
    assert not problems
    now, _ = read_evaluation(evaluated / "out")
    assert before.metrics == [metric for metric in now.metrics if metric.name not in new]
    assert [[row[m.name] for m in before.metrics] for row in before.rows] == [
        [row[m.name] for m in before.metrics] for row in now.rows
    ]
    report(tmp_path / "old", tmp_path)


def test_no_evaluation(evaluated, tmp_path, capsys):
    told = refused(capsys, tmp_path / "x")
    assert f"{tmp_path / 'x'} cannot be read. Expected: a folder. Got: no such folder" in told
    (tmp_path / "cases.csv").write_text("model,case,class\n")
    assert "Got: no instances.csv, no summary.json" in refused(capsys, tmp_path)
    (tmp_path / "instances.csv").write_text("model,case\n1,2\n")
    (tmp_path / "summary.json").write_text("{")
    told = refused(capsys, tmp_path)
    assert "2 problems, nothing was written:" in told
    assert "instances.csv lacks columns. Expected: model, case, class, kind, size, found. Got: no class" in told
    assert "summary.json cannot be read. Expected: JSON written by nnunet_ici evaluate." in told
    (tmp_path / "instances.csv").write_text("")
    (tmp_path / "summary.json").write_text("{}")
    assert "summary.json is not usable." in (told := refused(capsys, tmp_path)) and "KeyError 'arguments'" in told
    (tmp_path / "summary.json").write_text((evaluated / "out" / "summary.json").read_text())
    assert "cases.csv does not match summary.json." in refused(capsys, tmp_path)
    lines = (evaluated / "out" / "cases.csv").read_text().splitlines()
    (tmp_path / "cases.csv").write_text("\n".join(lines[:-1]))
    assert "Got: a missing or an extra row for case two, class foreground" in refused(capsys, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.csv", "instances.csv", "summary.json"]


def test_bad_arguments_are_told_together(evaluated, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    told = refused(
        capsys,
        evaluated / "out",
        *("-o", evaluated / "out" / "cases.csv" / "page.html", "--images", tmp_path / "pictures"),
        *("--training", "A", f"A={tmp_path / 'nowhere'}"),
    )
    assert "4 problems, nothing was written:" in told
    assert f"-o is not usable. Expected: a file in a folder. Got: {evaluated / 'out' / 'cases.csv'}" in told
    assert f"{tmp_path / 'pictures'} cannot be read. Expected: a folder. Got: no such folder" in told
    assert "--training is malformed. Expected: NAME=FOLDER. Got: A" in told
    assert f"--training A={tmp_path / 'nowhere'} cannot be read. Expected: a folder." in told
    told = refused(capsys, evaluated / "out", "--training", f"A={tmp_path / 'empty'}")
    assert f"--training A={tmp_path / 'empty'} holds no training. Expected: terms_ici.csv or" in told
    assert f"-o is not usable. Expected: a file. Got: the folder {tmp_path}" in refused(
        capsys, evaluated / "out", "-o", tmp_path
    )
    (tmp_path / "empty" / "training_log_1.txt").touch()
    told = refused(capsys, evaluated / "out", "--training", f"Z={tmp_path / 'empty'}")
    expected = f"--training Z={tmp_path / 'empty'} names no model of the evaluation. Expected: one of A, B. Got: Z"
    assert expected in told


def test_images_that_do_not_fit(flat, tmp_path, capsys):
    page = tmp_path / "page.html"
    (flat / "images" / "cell.png").unlink()
    told = refused(capsys, flat / "out", "-o", page, "--images", flat / "images")
    assert f"no image for case cell. Expected: {flat / 'images' / 'cell_0000.png'}" in told
    write(flat / "images" / "cell.png", np.zeros((3, 4), np.uint8))
    told = refused(capsys, flat / "out", "-o", page, "--images", flat / "images")
    assert "differs in shape from the label. Expected: (20, 24)" in told and not page.exists()
    with pytest.raises(SystemExit):
        main(["report", str(flat / "out"), "--cases", "0"])
    assert "Expected: an integer above 0. Got: 0" in capsys.readouterr().err


def test_training_in_the_page(evaluated, tmp_path):
    fold = make_fold(tmp_path / "trainer" / "fold_0")
    for name in ("one", "two"):
        write(
            fold / "validation" / f"{name}.nii.gz",
            sitk.GetArrayFromImage(sitk.ReadImage(str(evaluated / "A" / f"{name}.nii.gz"))),
        )
    (tmp_path / "gt").symlink_to(evaluated / "gt")
    out = evaluate(tmp_path, {"A": fold / "validation"}, "--family", "paper")
    page = report(out, tmp_path)
    assert [found["alt"].split(",")[0] for found in page.all("img")][-6:] == [
        "Loss terms in training", "Loss terms in validation",
        "Lesion F1 and lesion-wise Dice of the validation patches at 0.5",
        "Shares of missed lesions and false predictions in validation patches", "Loss", "Pseudo Dice",
    ]  # fmt: skip
    assert "All trainings" not in page.texts  # only several trainings are compared
    other = make_fold(tmp_path / "other" / "fold_3", terms=False)
    page = report(out, tmp_path, "--training", f"A={fold}", f"A={other}")
    assert "A, fold_0" in page.texts and "A, fold_3" in page.texts and "All trainings" in page.texts
    assert page.texts.count("A, fold_0") == 1  # found and given, shown once
    (other / "training_log_2026_9_02_10_00_00.txt").unlink()
    (other / "training_log_2026_10_02_10_00_00.txt").write_text("nothing")
    assert main(["report", str(out), "--training", f"A={other}"]) == 1
