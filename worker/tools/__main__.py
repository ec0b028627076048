"""``python -m worker.tools``: the toolbox. With ``--until-input-ends`` it ends with the one who started it."""

import asyncio
import os
import sys
from pathlib import Path

from worker.tools.base import DEFAULT_SOCKET, UNTIL_INPUT_ENDS
from worker.tools.registry import OPERATIONS, TOOLS
from worker.tools.server import run
from worker.tools.workplace import WorkplaceError, from_environment

path = Path(os.environ.get("AUTONOUS_TOOLBOX_SOCKET") or DEFAULT_SOCKET)
try:
    workplace = from_environment()
except WorkplaceError as error:
    sys.exit(f"toolbox: {error}")
sys.exit(asyncio.run(run(path, TOOLS | OPERATIONS, workplace, until_input_ends=UNTIL_INPUT_ENDS in sys.argv[1:])))
