"""A container engine of a test's own, so that it can be stopped and cut off without anybody else's containers.

A second daemon beside the machine's: data, sockets, process and address pool of its own, no default bridge and no rules
in the machine's firewall. It can be reached over its socket alone, as DOCKER_HOST names it. Only root can have one.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import docker

from supervisor.engine import DEFAULT_URL, Engine, EngineError
from tests.support.projects import abandoned, new_project

#: On a disk, and short, for the sockets below.
ROOTS: Final = Path("/var/tmp")
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 60
_KILL_SECONDS: Final = 10
#: Next to nobody's private network, and not what the machine's engine takes by default.
_ADDRESSES: Final = "base=10.213.0.0/16,size=24"


def why_not() -> str | None:
    """Why this machine cannot have one; None when it can."""
    if os.getuid() != 0:
        return "only root can start an engine of its own"
    return None if shutil.which("dockerd") else "there is no dockerd"


class PrivateEngine:
    """The daemon, up while it is entered; ``images`` are copied into it from the machine's engine, ids and all.

    With ``disk_mib`` its data lies on a small disk of that size, in memory.
    """

    def __init__(self, images: Sequence[str] = (), *, disk_mib: int = 0) -> None:
        self._root = ROOTS / new_project("own")
        self._root.mkdir(mode=0o700)
        self._images = images
        self._filler = self._root / "data" / "filler"
        if disk_mib:
            self._filler.parent.mkdir()
            options = ["-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(self._filler.parent)]
            subprocess.run(["mount", *options], check=True)
        self._daemon: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._root}/docker.sock"

    def __enter__(self) -> Self:
        try:
            self.start()
            self._copy_images()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _remove(self._root)

    def start(self) -> None:
        """Start the daemon, and return when it answers."""
        with (self._root / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    # In a network of its own: a daemon without a default bridge removes the machine's docker0.
                    *("unshare", "--net", "dockerd"),
                    *("--host", self.url, "--pidfile", str(self._root / "pid")),
                    *("--data-root", str(self._root / "data"), "--exec-root", str(self._root / "exec")),
                    *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
                    *("--default-address-pool", _ADDRESSES),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                Engine(self.url).version()
            except EngineError:
                assert self._daemon.poll() is None, f"the private engine ended:\n{self.last_words()}"
                assert time.monotonic() < deadline, f"the private engine does not answer:\n{self.last_words()}"
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Stop the daemon as its service does: its containers end with it."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        self._wait()

    def restart(self) -> None:
        """Stop it, and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Keep the daemon from answering until it is stopped; its containers go on."""
        self._signal(signal.SIGSTOP)

    def fill_disk(self, *, leave_bytes: int) -> None:
        """Leave no more room than this on its disk, which is a small one."""
        free = shutil.disk_usage(self._filler.parent).free
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave_bytes))

    def clear_disk(self) -> None:
        """Have room again."""
        self._filler.unlink()

    def cut_power(self) -> None:
        """Every process of it and of its containers is gone at once, as when the machine loses its power."""
        self._signal(signal.SIGSTOP)  # it must not see its containers go
        _kill_all(self._root)
        self._wait()
        _unmount(self._root)
        shutil.rmtree(self._root / "exec", ignore_errors=True)  # what is in memory is gone, too
        (self._root / "pid").unlink(missing_ok=True)

    def last_words(self, lines: int = 20) -> str:
        """The end of the daemon's log."""
        return "\n".join((self._root / "log").read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(number)

    def _wait(self) -> None:
        if self._daemon is not None:
            self._daemon.wait(_STOP_SECONDS)

    def _copy_images(self) -> None:
        with_all = docker.APIClient(base_url=DEFAULT_URL, version="auto", timeout=120)
        own = docker.APIClient(base_url=self.url, version="auto", timeout=120)
        for name in self._images:
            own.load_image(with_all.get_image(name))
        own.close()
        with_all.close()


def sweep_engines() -> list[str]:
    """End the private engines of test runs that were killed, with all that they hold; gives their directories.

    Those of machines that systemd ran are among them.
    """
    left = [root for root in ROOTS.glob("own-*") if abandoned(root.name)]
    for root in left:
        _kill_all(root)
        _remove(root)
    return [str(root) for root in left]


def _kill_all(root: Path) -> None:
    """Every process of an engine and of its containers, and see them gone."""
    doomed = (*_container_processes(root), *own_processes(root))
    for process in doomed:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    while any(_read(Path(f"/proc/{process}/cmdline")) for process in doomed) and time.monotonic() < deadline:
        time.sleep(0.02)


def _remove(root: Path) -> None:
    _unmount(root)
    shutil.rmtree(root, ignore_errors=True)


def _unmount(root: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)


def own_processes(root: Path) -> list[int]:
    """The daemon, its containerd, and the shims: all have a path of the engine's in their command lines."""
    return [pid for pid in _processes() if f"{root}/".encode() in _read(Path(f"/proc/{pid}/cmdline"))]


def _container_processes(root: Path) -> list[int]:
    """Whatever runs below a shim."""
    shims = set(own_processes(root))
    below: set[int] = set()
    while found := {pid for pid in _processes() if _parent(pid) in shims | below} - below - shims:
        below |= found
    return sorted(below)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int:
    # The name in brackets may hold anything, also brackets.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
