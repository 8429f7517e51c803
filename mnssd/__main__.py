"""``python -m mnssd``: the `mnssd` command if its script is not on the PATH."""

import sys

from .cli.main import main

sys.exit(main())
