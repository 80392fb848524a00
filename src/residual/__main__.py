"""`python -m residual` is the command `residual`."""

import sys

from residual.cli import main

if __name__ == "__main__":
    sys.exit(main())
