"""The structure of a page with several models and many cases: sections, rows, links, captions, and what is left out."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
import SimpleITK as sitk

from tests.test_report import browse, evaluate, needs_browser, report

FULL = 5  # cases drawn in full
NAMES = ["nnUNetTrainer", "nnUNetTrainerICI", "nnUNetTrainerLesionWise"]
END = "__nnUNetResEncUNetMPlans__3d_fullres"
CASES = [f"sub-r001s{case:03d}_ses-1_space-MNI152NLin2009aSym" for case in range(12)]
LESIONS = (0, 1, 3, 60)


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Volumes with 0, 1, 3 and 60 lesions of one voxel; each model misses some of them, and has false predictions."""
    root = tmp_path_factory.mktemp("structure")
    places = np.argwhere(np.indices((8, 32, 36)).max(axis=0) % 2 + (np.indices((8, 32, 36)) % 2).sum(axis=0) == 0)
    for case, name in enumerate(CASES):
        random = np.random.default_rng(case)
        label = np.zeros((8, 32, 36), np.uint8)
        label[tuple(random.permutation(places)[: LESIONS[case % 4]].T)] = 1
        write(root / "gt" / f"{name}.nii.gz", label)
        if case != 2:
            write(root / "images" / f"{name}_0000.nii.gz", random.normal(100, 9, label.shape).astype("f4"))
        for number, model in enumerate(NAMES):
            prediction = label * (random.random(label.shape) > 0.1 * number)
            prediction[0, 0, :number] = 1
            write(root / model / f"{name}.nii.gz", prediction.astype(np.uint8))
    out = evaluate(root, {name + END: root / name for name in NAMES}, "--family", "isles", "detection")
    return root, report(out, root, "--images", root / "images", "--full", FULL)


def test_every_row_leads_to_slices(page):
    _, whole = page
    rows = re.findall(r'<a href="#(case\d+)">', whole.markup)
    assert len(rows) == len(set(rows)) == len(CASES)
    articles = re.findall(r"<article.*?</article>", whole.markup, flags=re.DOTALL)
    assert [re.search(r'<h3 id="(case\d+)">', article)[1] for article in articles] == rows
    for article in articles:
        panels = re.findall(r"<figcaption><b>(.*?)</b>", article)
        assert panels[-3:] == NAMES
        assert "mm (slice " in article and article.count("<svg") == article.count("</svg>") > 3
    brief = [article for article in articles if article.startswith('<article class="brief"')]
    assert len(brief) == len(CASES) - FULL and all(article.count("<h4") <= 2 for article in brief)
    assert whole.text.count("There is no image for this case. It is drawn on a black background.") == 1
    assert any("60 lesions" in article and "projection of all slices" in article for article in articles)


def test_the_verdict_comes_first_and_everything_is_explained(page):
    _, whole = page
    body = whole.markup[whole.markup.index("<main>") :]
    verdict = body[: body.index("<nav")]
    assert verdict.count('<th scope="col"') == 1 + 6 and verdict.count("<tr>") == 1 + 3
    assert verdict.count('<p class="sentence">') == 2 and verdict.count("<strong>") >= 1
    tables = re.findall(r"<table.*?</table>\s*(?:</div>\s*)?(<[^>]*>)", body, flags=re.DOTALL)
    assert (
        len(tables) == len(re.findall("<table", body)) == 1 + 2 + 2 + 1
    )  # verdict, families, sizes, differences, cases
    assert {re.sub(r"^<(\w+).*", r"\1", follower) for follower in tables} <= {"p", "dl"}  # a note or definitions
    charts = re.findall(r'<figure class="chart">.*?</figure>', body, flags=re.DOTALL)
    assert len(charts) == 4 + 2
    for chart in charts:
        assert len(re.search(r"<figcaption>(.*?)</figcaption>", chart, re.DOTALL)[1]) > 40 and 'alt="' in chart


def test_nothing_that_does_not_belong_in_the_page(page):
    root, whole = page
    for text in (str(root), "nan", "None", "1 lesions", "1 cases", "1 models", "/tmp/"):
        assert not re.search(rf"(?<![\w.-]){re.escape(text)}(?![\w-])", whole.text), text
    assert str(root) not in whole.markup
    assert whole.text.count(END.strip("_")) == 1 + 3  # the end of all names, and the arguments
    assert "Lesion report: nnUNetTrainer, nnUNetTrainerICI, nnUNetTrainerLesionWise" in whole.texts


@needs_browser
def test_on_a_phone_nothing_is_cut_off(page, tmp_path):
    """No element reaches beyond the right edge of a screen of 390 pixels, and no box has to be scrolled sideways."""
    script = """<script>onload = () => {
      const beyond = [...document.querySelector("iframe").contentDocument.body.querySelectorAll("*")].filter(one =>
        !one.closest("thead, .shared, svg") && (one.getBoundingClientRect().right > 391 ||
        (one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1)));
      document.title = "beyond " + beyond.length + beyond.map(one => one.outerHTML.slice(0, 60)).join(" ");
    };</script>"""
    frame = f'<iframe style="width:390px;height:9000px;border:0" srcdoc="{html.escape(page[1].markup)}"></iframe>'
    assert "<title>beyond 0</title>" in browse(f"<title></title>{script}{frame}", tmp_path / "phone.html")


@needs_browser
def test_four_cases_are_printed_on_eight_pages(page, tmp_path):
    root, _ = page
    four = report(root / "out", tmp_path, "--images", root / "images", "--cases", 4)
    browse(four.markup, tmp_path / "print.html", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) <= 8
