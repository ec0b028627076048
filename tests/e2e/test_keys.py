"""A changed setting takes effect by ``up``: the same revision with the new environment, and no build."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.homelock import held
from supervisor.ledger import Ledger
from supervisor.localbot.client import LocalBotClient
from supervisor.specs import LABEL_ENVIRONMENT
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for

OLD_KEY = "sk-the-old-key-0123456789"
NEW_KEY = "sk-the-new-key-9876543210"
NEXT_KEY = "sk-the-next-key-5555555555"
TOKEN = "4242:AAtelegramToken_0123456789"


def environment(container: dict[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in container["Config"]["Env"])


def keys_of_workers(installation: Installation) -> list[str]:
    """The model's key in every worker that runs, warm N-1 included."""
    return sorted(environment(worker).get("OPENAI_API_KEY", "") for worker in installation.containers())


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up with a key in its ``.env``, and with a warm N-1."""
    made = install(copy(checkout), AUTONOUS_MODEL_PROVIDER="dummy")
    write_env(made, OPENAI_API_KEY=OLD_KEY)
    made.up()
    made.promote(candidates.adds_a_module(made.checkout, "second"))
    wait_for(lambda: len(made.containers()) == 2, 20, "a warm N-1")
    return made


def copy(checkout: Path) -> Path:
    """A checkout of this file's own, as ``.env`` is written into it."""
    target = checkout.with_name("with-keys")
    subprocess.run(["cp", "-a", str(checkout), str(target)], check=True)
    return target


def write_env(installation: Installation, **values: str) -> None:
    file = installation.checkout / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    file.chmod(0o600)


def test_keys_that_others_can_read_are_warned_about(installation: Installation) -> None:
    """By ``up``, with what to do; and no more once that is done."""
    env = installation.checkout / ".env"
    env.chmod(0o644)
    try:
        said = installation.run("up").expect(0).err
    finally:
        env.chmod(0o600)
    (warning,) = (line for line in said.splitlines() if line.startswith("warning: "))
    assert str(env) in warning
    assert "chmod 600" in warning
    assert "warning" not in installation.run("up").expect(0).err


def test_nothing_changed_nothing_done(installation: Installation) -> None:
    """A second ``up`` leaves supervisor and workers as they are."""
    before = (installation.supervisor_pid(), installation.status()["active"])
    said = installation.run("up").expect(0)
    assert "Changed" not in said.err
    assert (installation.supervisor_pid(), installation.status()["active"]) == before


def test_a_new_key_takes_effect_by_a_hand_over(installation: Installation) -> None:
    """``up`` ends when a worker of the same revision and image has it; N-1 follows; nothing was built."""
    before = installation.settled()["active"]
    images = installation.history()
    assert keys_of_workers(installation) == [OLD_KEY, OLD_KEY]
    write_env(installation, OPENAI_API_KEY=NEW_KEY)
    said = installation.run("up").expect(0)
    assert "Changed settings: OPENAI_API_KEY." in said.err
    assert NEW_KEY not in said.out + said.err
    after = installation.status()["active"]
    assert (after["sha"], after["epoch"], after["health"]) == (before["sha"], before["epoch"] + 1, "healthy")
    assert after["container"] != before["container"]
    assert environment(installation.active_container())["OPENAI_API_KEY"] == NEW_KEY
    wait_for(lambda: keys_of_workers(installation) == [NEW_KEY, NEW_KEY], 20, "the renewal of N-1")
    assert installation.history() == images
    assert "crashed" not in installation.say("are you there?")


@pytest.mark.exhaustive
def test_a_setting_in_the_environment_of_up(installation: Installation) -> None:
    """It reaches a supervisor that was started without it."""
    installation.settings["TG_HISTORY_WINDOW"] = "7"
    said = installation.run("up").expect(0)
    assert "Changed settings: TG_HISTORY_WINDOW." in said.err
    assert environment(installation.active_container())["TG_HISTORY_WINDOW"] == "7"


def test_a_message_is_not_lost_in_the_hand_over(installation: Installation) -> None:
    """What is said while the worker changes is answered once."""
    installation.settings["TG_HISTORY_WINDOW"] = "8"
    with installation.bot() as bot:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "up"],
            env=installation.environment,
            cwd=installation.checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        sent = [bot.send(f"message {number}") for number in range(5)]
        assert process.wait(60) == 0

        def replies() -> list[Any]:
            return [event for event in bot.events(sent[0].cursor) if event.kind == "message" and event.from_bot]

        wait_for(lambda: len(replies()) >= 5, 30, "the answers")
        assert len(replies()) == 5


@pytest.mark.exhaustive
def test_no_supervisor_while_a_key_changes(installation: Installation) -> None:
    """The next ``up`` finds a worker with the old settings, and renews it all the same."""
    before = installation.settled()["active"]
    installation.kill_supervisor()
    write_env(installation, OPENAI_API_KEY=NEXT_KEY)
    installation.up()
    after = installation.status()["active"]
    assert (after["sha"], after["epoch"]) == (before["sha"], before["epoch"] + 1)
    assert environment(installation.active_container())["OPENAI_API_KEY"] == NEXT_KEY


def test_settings_that_a_worker_cannot_use(installation: Installation) -> None:
    """``up`` says so and fails; the worker with the former ones goes on, and nothing counts against its revision."""
    before = installation.settled()["active"]
    installation.settings["AUTONOUS_DUMMY_PROVIDER_SCRIPT"] = "no such step"
    line = installation.run("up").expect(1).err.splitlines()[-1]
    assert "no worker comes up with the changed settings" in line
    assert installation.status()["active"]["container"] == before["container"]
    assert installation.say("still there?")
    with Ledger.read_only(installation.paths.ledger) as ledger:
        assert ledger.crashes(before["sha"], 0) == []
    del installation.settings["AUTONOUS_DUMMY_PROVIDER_SCRIPT"]
    installation.up()
    assert installation.status()["active"]["container"] == before["container"]


def test_labels_reveal_nothing(installation: Installation) -> None:
    """The digest on a container is no plain digest of the environment, and no key is in what is kept of it."""
    both = wait_for(lambda: found if len(found := installation.containers()) == 2 else None, 30, "N-1 beside")
    labels = [worker["Config"]["Labels"] for worker in both or []]
    assert all(len(label[LABEL_ENVIRONMENT]) == 32 for label in labels)
    kept = installation.paths.ledger.read_bytes() + json.dumps(labels).encode()
    assert not [key for key in (OLD_KEY, NEW_KEY, NEXT_KEY) if key.encode() in kept]
    assert labels[0][LABEL_ENVIRONMENT] == labels[1][LABEL_ENVIRONMENT]  # of the environment, not of the container


@pytest.fixture
def telegram(installation: Installation, tmp_path: Path) -> Iterator[LocalBotClient]:
    """A Bot API that stands for Telegram: another process, another token, its own users."""
    socket, users = installation.paths.contract_directory / "telegram.sock", tmp_path / "users.sock"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "supervisor.localbot", "--socket", str(socket), "--user-socket", str(users)),
            *("--database", str(tmp_path / "telegram.db"), "--token", TOKEN),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(users.exists, 10, "the other Bot API")
        with LocalBotClient(users) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


def test_a_token_takes_the_bot_to_telegram_and_back(installation: Installation, telegram: LocalBotClient) -> None:
    """With a token the worker polls there and the local bot ends; without one it is as it was."""
    installation.settings["TELEGRAM_BOT_TOKEN"] = TOKEN
    installation.settings["AUTONOUS_TELEGRAM_UDS"] = "/run/autonous/telegram.sock"
    installation.settings["AUTONOUS_TELEGRAM_ALLOWED_USERS"] = "1"
    said = installation.run("up").expect(0)
    assert "TELEGRAM_BOT_TOKEN" in said.err
    assert TOKEN not in said.out + said.err
    sent = telegram.send("hello, Telegram")
    assert telegram.wait_for(lambda m: m.message_id > sent.message_id, 20, after=sent.cursor).text
    assert not held(installation.paths.localbot_db.with_name("localbot.db.pid"))
    for name in ("TELEGRAM_BOT_TOKEN", "AUTONOUS_TELEGRAM_UDS", "AUTONOUS_TELEGRAM_ALLOWED_USERS"):
        del installation.settings[name]
    installation.up()
    assert installation.say("hello again")
