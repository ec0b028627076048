"""Where an installation keeps its things on the host."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# A Unix socket's path ends at 107 bytes; what is left is room for the longest name under run/.
_LONGEST_RUN_DIRECTORY = 60


class HomeUnusable(Exception):
    """The home directory cannot be made or written; the message is one line for the user."""


@dataclass(frozen=True)
class Paths:
    """The files of one installation, below its home directory."""

    home: Path

    @property
    def ledger(self) -> Path:
        """The supervisor's own database; never mounted into any container."""
        return self.home / "supervisor.db"

    @property
    def lock(self) -> Path:
        """Held by the one supervisor of this home."""
        return self.home / "supervisor.lock"

    @property
    def setup_lock(self) -> Path:
        """Held by the one `up` that is at work on this home."""
        return self.home / "up.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the one keeper of this home."""
        return self.home / "keeper.lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor says."""
        return self.logs / "supervisor.log"

    @property
    def revisions(self) -> Path:
        """The bare repository of all revisions."""
        return self.home / "revisions.git"

    @property
    def state(self) -> Path:
        """Mounted into workers at /state."""
        return self.home / "state"

    @property
    def agent_db(self) -> Path:
        """The worker's database, as the host sees it."""
        return self.state / "agent.db"

    @property
    def workspace(self) -> Path:
        """Mounted into toolboxes at /workspace."""
        return self.home / "workspace"

    @property
    def config(self) -> Path:
        """Mounted read-only into workers at /config; holds AUTONOUS.md."""
        return self.home / "config"

    @property
    def snapshots(self) -> Path:
        """Copies of agent.db, one for each deploy."""
        return self.home / "snapshots"

    @property
    def logs(self) -> Path:
        """Logs of the supervisor, of workers that ended and of every step of every update."""
        return self.home / "logs"

    @property
    def localbot_db(self) -> Path:
        """The local bot's queue and messages."""
        return self.home / "localbot.db"

    @property
    def run(self) -> Path:
        """Sockets; a short directory elsewhere where the home's own path is too long for a socket."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _LONGEST_RUN_DIRECTORY:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        # Always there: a user's own runtime directory goes when they log out, and TMPDIR is another for everyone.
        return Path("/tmp") / f"autonous-{os.getuid()}-{digest}"  # noqa: S108 - a foreign directory there is refused

    @property
    def contract_directory(self) -> Path:
        """Mounted into workers at /run/autonous; the directory, so that a new socket shows up in it."""
        return self.run / "contract"

    @property
    def contract_socket(self) -> Path:
        """Where workers reach the supervisor."""
        return self.contract_directory / "supervisor.sock"

    @property
    def localbot_socket(self) -> Path:
        """Where workers reach the local bot's Bot API."""
        return self.contract_directory / "localbot.sock"

    @property
    def localbot_user_socket(self) -> Path:
        """Where the host speaks as the local bot's users; never mounted, as it presses any button for anyone."""
        return self.run / "localbot-user.sock"

    @property
    def control_socket(self) -> Path:
        """Where the command line reaches the supervisor; never mounted."""
        return self.run / "control.sock"

    def toolbox(self, worker_id: str) -> Path:
        """What a worker shares with its toolboxes: for each a directory, with the one socket between them."""
        return self.run / "toolbox" / worker_id

    def steps(self, tx_id: str) -> Path:
        """Logs of the steps of one update."""
        return self.logs / "updates" / tx_id

    def create(self, *, worker_uid: int) -> None:
        """Make every directory, private to the owner; what containers write belongs to ``worker_uid``."""
        try:
            for directory in (self.home, self.run):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                _refuse_foreign(directory)
                directory.chmod(0o700)
            if self.run.parent != self.home:
                # For whoever wonders what that directory is.
                (self.run / "home").write_bytes(os.fsencode(f"{self.home}\n"))
            for directory in (self.contract_directory, self.run / "toolbox", self.config):
                directory.mkdir(exist_ok=True)
                directory.chmod(0o755)
            for directory in (self.snapshots, self.logs):
                directory.mkdir(exist_ok=True, mode=0o700)
            for directory in (self.state, self.workspace):
                directory.mkdir(exist_ok=True, mode=0o700)
                give(directory, worker_uid)
        except OSError as error:
            reason = error.strerror or str(error)
            raise HomeUnusable(
                f"AUTONOUS_HOME={self.home} cannot be used: {reason} ({error.filename}); "
                "it must be a directory that you may write"
            ) from error


def _refuse_foreign(directory: Path) -> None:
    owner = directory.stat().st_uid
    if owner not in (os.getuid(), 0):
        raise PermissionError(13, f"it belongs to user {owner}", str(directory))


def give(path: Path, uid: int) -> None:
    """Hand a path to the user that containers run as; only root has to."""
    if os.getuid() == 0:
        os.chown(path, uid, uid, follow_symlinks=False)
