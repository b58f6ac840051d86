"""``python -m rad_jax``."""

import sys

from rad_jax.cli import main

sys.exit(main())
