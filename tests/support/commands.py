"""Commands of the command line without the start of an interpreter for each.

A command spends most of its time on importing. Here one process has the libraries imported, and each command is a fork
of it: its own code comes from the checkout that it is run in, and it has the arguments, the environment, the directory
and the three streams that ``python -m supervisor`` would have there. Only the start and the end of an interpreter are
not part of it; a few tests start one of their own. Of a checkout that nobody changes there is another such process,
which has its modules as well.

This file is also that process: ``python commands.py DESCRIPTOR [CHECKOUT]``; on that socket it is asked.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

_LIBRARIES: Final = (
    "docker",
    "dotenv",
    "git",
    "httpx",
    "peewee",
    "pydantic_settings",
    "rich.console",
    "rich.table",
    "structlog",
    "typer",
    "uvicorn",
)
#: What the most frequent commands import of the checkout.
_OWN: Final = (
    "supervisor.cli",
    "supervisor.cli.outcome",
    "supervisor.cli.tables",
    "supervisor.control",
    "supervisor.engine",
    "supervisor.homelock",
    "supervisor.images",
    "supervisor.ledger",
    "supervisor.localbot.client",
)
_LARGEST_ORDER: Final = 1 << 20
_CHUNK: Final = 1 << 16


_unchanging: Final = set[Path]()


def is_not_changed(checkout: Path) -> None:
    """From here on the commands that are run in this checkout find its modules imported."""
    _unchanging.add(checkout)


def run(
    arguments: Sequence[str], *, given: bytes, cwd: Path, env: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m supervisor`` with these arguments to the end of its output. Raises TimeoutExpired."""
    deadline = time.monotonic() + seconds
    asked, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_out, write_out = os.pipe()
    read_err, write_err = os.pipe()
    stdin = os.memfd_create("stdin")
    os.write(stdin, given)
    os.lseek(stdin, 0, os.SEEK_SET)
    order = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}
    theirs = [answers.fileno(), stdin, write_out, write_err]
    socket.send_fds(_forking(cwd if cwd in _unchanging else None), [json.dumps(order).encode()], theirs)
    answers.detach()
    for descriptor in theirs:
        os.close(descriptor)
    with asked, os.fdopen(read_out, "rb") as out, os.fdopen(read_err, "rb") as err:
        asked.settimeout(seconds)
        pid = int(asked.recv(_CHUNK))
        try:
            printed = _read_all((out.fileno(), err.fileno()), deadline)
            asked.settimeout(max(0.01, deadline - time.monotonic()))
            code = int(asked.recv(_CHUNK))
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), seconds) from None
    return subprocess.CompletedProcess(list(arguments), code, *printed)


def _read_all(descriptors: Sequence[int], deadline: float) -> list[bytes]:
    """All that is written to some pipes, until nobody can write any more. Raises TimeoutError."""
    read = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if chunk := os.read(key.fd, _CHUNK):
                    read[key.fd] += chunk
                else:
                    selector.unregister(key.fd)
    return list(read.values())


@functools.cache
def _forking(checkout: Path | None) -> socket.socket:
    """The socket of the process that forks, which ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, __file__, str(its.fileno()), *([str(checkout)] if checkout else [])]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # In a session of its own, so that Ctrl-C is for whoever asks.
        subprocess.Popen(command, pass_fds=[its.fileno()], env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    return ours


def _serve(orders: socket.socket, checkout: Sequence[str]) -> NoReturn:
    """Fork for each order until nobody can give one any more."""
    sys.path[:1] = checkout  # in the place of where this file is; a command finds its own there
    for name in (*_LIBRARIES, *(_OWN if checkout else ())):
        importlib.import_module(name)
    gc.freeze()  # no command is to look through all of that again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever waits for a command tells of its end, and is not waited for
    while True:
        order, descriptors, *_ = socket.recv_fds(orders, _LARGEST_ORDER, 4)
        if not order:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(json.loads(order), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(order: dict[str, Any], answers: int, *streams: int) -> NoReturn:
    """Run one command in a process of its own, and tell its number and how it ended."""
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _become(**order)
    for stream in streams:
        os.close(stream)
    os.write(answers, b"%d" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> NoReturn:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # Made anew, as those of the start know what kind of files these were then.
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    sys.path.insert(0, cwd)
    sys.argv = ["supervisor", *arguments]
    code = 1
    try:
        runpy.run_module("supervisor", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
