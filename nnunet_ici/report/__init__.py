"""``nnunet_ici report``: one HTML page from what ``nnunet_ici evaluate`` wrote.

Reading (evaluation, training logs, images), figures (matplotlib), slices (SVG), and the page, whose templates are in
``templates/``. Other rooms use the command; what can be read without matplotlib is exported here.
"""

from nnunet_ici.report.reading import Evaluation, read_evaluation
from nnunet_ici.report.training import Curves, read_curves

__all__ = ["Curves", "Evaluation", "read_curves", "read_evaluation"]
