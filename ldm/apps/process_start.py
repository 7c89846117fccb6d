"""When this process began, as nearly as Python knows: imported before all that takes time."""

import time

BEGUN = time.monotonic()  # seconds
