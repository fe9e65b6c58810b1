"""The structure of the page with 1, 3 and 8 models: sections, rows, links, captions, definitions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk

from tests.test_report import evaluate, report

FAMILIES = ("isles", "detection")
FULL = 5  # cases drawn in full
NAMES = [f"nnUNetTrainer{loss}__nnUNetResEncUNetMPlans__3d_fullres" for loss in ("ICI", "DICI", "Blob", "PQ", "")]
NAMES += ["Ensemble of all", "human-rater-2", "model 8"]
LESIONS = (0, 1, 3, 60)


def name_of(case):
    return f"sub-r001s{case:03d}_ses-1_space-MNI152NLin2009aSym"


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Volumes with 0, 1, 3 and 60 lesions of one voxel; each model misses some of them, and has false predictions."""
    root = tmp_path_factory.mktemp("structure")
    places = np.argwhere(np.indices((8, 32, 36)).max(axis=0) % 2 + (np.indices((8, 32, 36)) % 2).sum(axis=0) == 0)
    for case in range(12):
        random = np.random.default_rng(case)
        label = np.zeros((8, 32, 36), np.uint8)
        label[tuple(random.permutation(places)[: LESIONS[case % 4]].T)] = 1
        write(root / "gt" / f"{name_of(case)}.nii.gz", label)
        if case != 2:
            write(root / "images" / f"{name_of(case)}_0000.nii.gz", random.normal(100, 9, label.shape).astype("f4"))
        for number, name in enumerate(NAMES):
            prediction = label * (random.random(label.shape) > 0.1 * number)
            prediction[0, 0, : number % 3] = 1
            write(root / name / f"{name_of(case)}.nii.gz", prediction.astype(np.uint8))
    return root


@pytest.fixture(scope="module", params=[(1, 4), (3, 12), (8, 4)], ids=str)
def page(request, root, tmp_path_factory):
    models, cases = request.param
    here = tmp_path_factory.mktemp("page")
    for folder in ("gt", *NAMES[:models]):
        (here / folder).mkdir()
        for case in range(cases):
            file = f"{name_of(case)}.nii.gz"
            (here / folder / file).symlink_to(root / folder / file)
    out = evaluate(here, {name: here / name for name in NAMES[:models]}, "--family", *FAMILIES)
    return models, cases, here, report(out, here, "--images", root / "images", "--full", FULL)


def test_every_row_leads_to_slices(page):
    models, cases, _, html = page
    rows = re.findall(r'<a href="#(case\d+)">', html.markup)
    assert len(rows) == len(set(rows)) == cases
    articles = re.findall(r"<article.*?</article>", html.markup, flags=re.DOTALL)
    assert [re.search(r'<h3 id="(case\d+)">', article)[1] for article in articles] == rows
    for article in articles:
        panels = re.findall(r"<figcaption><b>(.*?)</b>", article)
        names = [name.removesuffix("__nnUNetResEncUNetMPlans__3d_fullres" if models == 3 else "") for name in NAMES]
        assert [text.replace("<wbr>", "") for text in panels[-models:]] == names[:models]  # without a common end
        assert "mm (slice " in article and article.count("<svg") == article.count("</svg>") > models
    brief = [article for article in articles if article.startswith('<article class="brief"')]
    assert len(brief) == max(cases - FULL, 0) and all(article.count("<h4") <= 2 for article in brief)
    assert html.text.count("There is no image for this case. It is drawn on a black background.") == 1
    assert any("60 lesions" in article and "projection of all slices" in article for article in articles)


def test_tables_and_figures_are_explained(page):
    models, cases, _, html = page
    body = html.markup[html.markup.index("<main>") :]
    tables = re.findall(r"<table.*?</table>\s*(?:</div>\s*)?(<[^>]*>)", body, flags=re.DOTALL)
    assert len(tables) == len(re.findall("<table", body)) == 1 + len(FAMILIES) + 1 + (models > 1) + 1
    assert {re.sub(r"^<(\w+).*", r"\1", follower) for follower in tables} <= {"p", "dl"}  # a note or definitions
    charts = re.findall(r'<figure class="chart">.*?</figure>', body, flags=re.DOTALL)
    assert len(charts) == 4 + 2
    for chart in charts:
        assert len(re.search(r"<figcaption>(.*?)</figcaption>", chart, re.DOTALL)[1]) > 40 and 'alt="' in chart
    verdict = html.markup[html.markup.index('<section id="verdict"') : html.markup.index("<nav")]
    assert verdict.count('<th scope="col"') == 1 + 6 and verdict.count("<tr>") == 1 + models
    assert verdict.count('<p class="sentence">') == 2 and "<strong>" not in verdict if cases < 10 else True
    assert [found["id"] for found in html.all("section")] == [
        "verdict", "volumes", "lesions", "cases", "training", "tables", "compared",
    ]  # fmt: skip


def test_nothing_that_does_not_belong_in_the_page(page):
    models, _, here, html = page
    ids = [found["id"] for _, found in html.elements if "id" in found]
    used = [found["href"] for _, found in html.elements if found.get("href", "").startswith("#")]
    assert html.balanced and len(ids) == len(set(ids)) and {link[1:] for link in used} <= set(ids)
    for text in (str(here), "nan", "None", "1 lesions", "1 cases", "1 models", "/tmp/"):
        assert not re.search(rf"(?<![\w.-]){re.escape(text)}(?![\w-])", html.text), text
    assert str(here) not in html.markup
    assert ("Lesion report: 8 models" in html.texts) == (models == 8)
