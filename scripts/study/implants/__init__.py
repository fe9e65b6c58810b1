"""The dataset of implanted MS lesions: real lesion shapes and contrasts in a warped template."""
