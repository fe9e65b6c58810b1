"""``python -m nnunet_ici <command>``, as :mod:`nnunet_ici.cli`."""

import sys

from nnunet_ici.cli import main

sys.exit(main())
