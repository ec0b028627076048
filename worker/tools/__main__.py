"""``python -m worker.tools``: the toolbox."""

import asyncio
import os
import sys
from pathlib import Path

from worker.tools.registry import TOOLS
from worker.tools.server import run

DEFAULT_SOCKET = "/run/toolbox/toolbox.sock"

sys.exit(asyncio.run(run(Path(os.environ.get("AUTONOUS_TOOLBOX_SOCKET") or DEFAULT_SOCKET), TOOLS)))
