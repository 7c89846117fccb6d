"""`python train.py key=value ...` is `ldm train key=value ...`."""

import sys

from ldm.apps.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
