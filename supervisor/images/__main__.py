"""``python -m supervisor.images``: makes sure of the base and the dependency image."""

import sys

from supervisor.images.builds import main

if __name__ == "__main__":
    sys.exit(main())
