"""``python -m mnssd``, as `mnssd`: for whom the script folder is not on the PATH."""

import sys

from .cli.main import main

sys.exit(main())
