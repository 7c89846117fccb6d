"""`python -m ldm` is the command `ldm`."""

import sys

from ldm.apps.main import main

sys.exit(main())
