"""``python -m ptycho_engine`` is the command ``ptychopinn``."""

import sys

from .commands import main

sys.exit(main())
