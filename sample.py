"""`python sample.py key=value ...` is `ldm sample key=value ...`."""

import sys

from ldm.apps.main import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
