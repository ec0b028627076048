"""``make purge``: removes one installation's containers, images, networks and state, after naming them.

Base and dependency images stay: they hold nothing of anybody's, and other installations on the engine share them.
"""

import shutil
import sys
from pathlib import Path

from supervisor import installation
from supervisor import settings as settings_module
from supervisor.engine import Engine
from supervisor.paths import Paths
from supervisor.settings import Settings
from supervisor.specs import LABEL_PROJECT
from supervisor.systemd import SystemdService


def plan(settings: Settings, engine: Engine) -> list[str]:
    """What there is to remove, a line each."""
    images = engine.images({LABEL_PROJECT: settings.project})
    service = SystemdService(settings)
    return [
        *(f"container {view.name}" for view in engine.containers(settings.project)),
        *(f"image     {', '.join(image.tags) or image.id[:19]}" for image in images),
        *(f"network   {name}" for name in engine.networks(settings.project)),
        *(f"state     {path}" for path in state_of(settings.paths)),
        *([f"service   {service.path}"] if service.installed else []),
    ]


def purge(settings: Settings, engine: Engine) -> None:
    """Remove it all. Raises EngineError, ServiceFailed, OSError."""
    installation.take_down(settings, lambda _: None)
    service = SystemdService(settings)
    if service.installed:
        service.remove()
    for view in engine.containers(settings.project):
        engine.remove(view.id)
    for image in engine.images({LABEL_PROJECT: settings.project}):
        engine.remove_image(image.id)
    for network in engine.networks(settings.project):
        engine.remove_network(network)
    for path in state_of(settings.paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if settings.home.is_dir() and not any(settings.home.iterdir()):
        settings.home.rmdir()


def state_of(paths: Paths) -> list[Path]:
    """The files and directories that are ours; whatever else lies in the home stays."""
    ours = (
        *(paths.state, paths.workspace, paths.config, paths.snapshots, paths.logs, paths.revisions, paths.run),
        *paths.home.glob(f"{paths.ledger.name}*"),
        *paths.home.glob(f"{paths.localbot_db.name}*"),
        *paths.home.glob("localbot.token*"),
        paths.lock,
        paths.keeper_lock,
        paths.setup_lock,
    )
    return [path for path in dict.fromkeys(ours) if path.exists()]


def main() -> int:
    """Name what goes, ask on a terminal, remove; the exit code."""
    settings = settings_module.load()
    engine = Engine()
    found = plan(settings, engine)
    if not found:
        print(f"Nothing of {settings.project} is here.")  # noqa: T201 - a program of its own
        return 0
    print(f"This removes {settings.project} for good:", *found, sep="\n  ")  # noqa: T201
    if sys.stdin.isatty() and input("Remove it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was removed.")  # noqa: T201
        return 1
    purge(settings, engine)
    print("Removed.")  # noqa: T201
    return 0


if __name__ == "__main__":
    from supervisor.cli import guarded

    sys.exit(guarded(main))
