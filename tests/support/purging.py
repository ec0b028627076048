"""``make purge``, and what the engine has of an installation before and after it."""

import subprocess
import sys

from supervisor.specs import LABEL_PROJECT
from tests.support.installation import COMMAND_SECONDS, Installation, Result


def purge(installation: Installation) -> Result:
    """What the Makefile's target runs, with nobody to ask."""
    process = subprocess.run(
        [sys.executable, "-m", "supervisor.purge"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
        cwd=installation.checkout,
        env=installation.environment,
    )
    return Result("purge", process.returncode, process.stdout, process.stderr)


def of_engine(installation: Installation) -> dict[str, set[str]]:
    """All that the engine has of a project, by the names that people know it by."""
    label = {"label": f"{LABEL_PROJECT}={installation.project}"}
    docker = installation.docker
    return {
        "container": {c["Names"][0].removeprefix("/") for c in docker.containers(all=True, filters=label)},
        "image": {tag for image in docker.images(filters=label) for tag in image["RepoTags"]},
        "network": {network["Name"] for network in docker.networks(filters=label)},
    }
