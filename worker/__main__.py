"""``python -m worker``."""

import gc
import sys

gc.disable()  # until all is put together: to look through what is imported, again and again, takes a fifth of a start

from worker.app import main  # noqa: E402 - only now

sys.exit(main())
