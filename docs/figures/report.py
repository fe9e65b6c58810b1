"""Draw docs/report.png: three parts of a report as rendered by Chromium.

    python docs/figures/report.py [docs/report.png]

The subjects are synthetic. The predictions of the models A and B are simulated: labels shifted by a voxel, with missing
and false lesions. Nothing is trained; the picture only shows the appearance of a report. The script needs Chromium or
Chrome.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib import image as matplotlib_image
from scipy import ndimage

from nnunet_ici.cli import main as nnunet_ici
from nnunet_ici.datasets.synthetic import load_template, synthesize_subject

SPACING_MM = 2.0
SEEDS = range(2, 14)
MISSED = {"A": 0.35, "B": 0.15}  # share of lesions
FALSE = {"A": 1, "B": 2}  # per case
WIDTH, HEIGHT = 1040, 3400  # pixels, more than the parts need
# Style sheet that selects the parts of the page.
PARTS = """
header, nav, footer, section, #cases .meanings, #cases .lead { display: none }
#cases .scroll, #cases h3 + .note, #cases details, #cases article ~ article, #cases .keep ~ .keep { display: none }
#verdict, #lesions, #cases { display: block }
body { padding-top: 0 }
h2 { margin-top: 1rem }
"""


def predict(label: np.ndarray, brain: np.ndarray, model: str, seed: int) -> np.ndarray:
    """A label map with shifted, missing and false lesions."""
    random = np.random.default_rng((seed, ord(model)))
    ids, count = ndimage.label(label, np.ones((3, 3, 3)))
    prediction = np.zeros_like(label)
    for number in range(1, count + 1):
        if random.random() > MISSED[model]:
            prediction[np.roll(ids == number, random.integers(-1, 2, 3), (0, 1, 2))] = 1
    grid = np.indices(label.shape)
    for _ in range(FALSE[model]):
        center = random.choice(np.argwhere(brain))
        prediction[((grid - center.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= random.integers(3, 12)] = 1
    return prediction


def write_cases(root: Path) -> None:
    """Write images, labels and predictions into separate folders."""
    template = load_template(SPACING_MM)
    for folder in ("images", "labels", *MISSED):
        (root / folder).mkdir()
    for seed in SEEDS:
        subject = synthesize_subject(template, seed)
        name = f"subject-{seed:02d}"
        sitk.WriteImage(subject.image, str(root / "images" / f"{name}_0000.nii.gz"))
        sitk.WriteImage(subject.mask, str(root / "labels" / f"{name}.nii.gz"))
        label = sitk.GetArrayFromImage(subject.mask)
        for model in MISSED:
            prediction = sitk.GetImageFromArray(predict(label, template.tissue, model, seed))
            prediction.CopyInformation(subject.mask)
            sitk.WriteImage(prediction, str(root / model / f"{name}.nii.gz"))


def photograph(page: Path, picture: Path, browser: str) -> None:
    """Save a screenshot of the page, without the empty area at the bottom."""
    size = f"--window-size={WIDTH},{HEIGHT}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
    subprocess.run([browser, *options, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    pixels = matplotlib_image.imread(picture)[..., :3]
    last = np.flatnonzero((pixels < 1).any(axis=(1, 2)))[-1]
    matplotlib_image.imsave(picture, pixels[: last + 16])


def main() -> int:
    picture = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/report.png")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("no browser. Expected: chromium or google-chrome. Got: neither", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_cases(root)
        models = [f"{model}={root / model}" for model in MISSED]
        out = root / "out"
        code = nnunet_ici(["evaluate", "-gt", str(root / "labels"), "-pred", *models, "-o", str(out), "-np", "1"])
        code = code or nnunet_ici(["report", str(out), "--images", str(root / "images")])
        page = out / "report.html"
        if not code:
            page.write_text(re.sub("</style>", f"{PARTS}</style>", page.read_text(), count=1))
            photograph(page, picture, browser)
    return code


if __name__ == "__main__":
    sys.exit(main())
