"""``python -m supervisor.images``: makes sure of the base and the dependency image."""

import functools
import sys

from supervisor.engine import Engine, EngineError
from supervisor.images.builds import ImagesUnavailable, ensure_deps


def main() -> int:
    """Build what is missing, showing progress on standard output; the exit code."""
    try:
        ensure_deps(Engine(), functools.partial(print, flush=True))
    except (ImagesUnavailable, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
