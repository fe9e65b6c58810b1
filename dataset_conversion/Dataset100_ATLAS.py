"""Convert ATLAS to nnU-Net raw data: python dataset_conversion/Dataset100_ATLAS.py SRC [-d 100] (see --help)."""

import sys

from nnunet_ici.datasets.convert_atlas import main

if __name__ == "__main__":
    sys.exit(main())
