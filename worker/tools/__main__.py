"""``python -m worker.tools``: the toolbox. With ``--until-input-ends`` it ends with the one who started it."""

import asyncio
import os
import sys
from pathlib import Path

from worker.tools.base import DEFAULT_SOCKET, UNTIL_INPUT_ENDS
from worker.tools.registry import TOOLS
from worker.tools.server import run

path = Path(os.environ.get("AUTONOUS_TOOLBOX_SOCKET") or DEFAULT_SOCKET)
sys.exit(asyncio.run(run(path, TOOLS, until_input_ends=UNTIL_INPUT_ENDS in sys.argv[1:])))
