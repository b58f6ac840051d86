"""``python -m rad_jax``."""

import sys

from rad_jax.cli.main import main

sys.exit(main())
