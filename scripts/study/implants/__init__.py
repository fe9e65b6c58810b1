"""The dataset of implanted MS lesions: real shapes and contrasts in a warped template."""
