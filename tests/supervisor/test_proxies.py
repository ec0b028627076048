"""Proxies of the environment that no HTTP client can be made with."""

import os

import pytest
from typer.testing import CliRunner

from supervisor.cli.app import app
from supervisor.proxies import refuse_unusable_proxies
from supervisor.settings import SettingsError


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:secret@far:1080"),
        ("all_proxy", "socks://far:1080"),
        ("HTTPS_PROXY", "socks5h://far"),
        ("http_proxy", "http://far:port"),
        ("NO_PROXY", "localhost:port"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """In one line that says what is allowed, and shows no password."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} cannot be used: it must be ") as caught:
        refuse_unusable_proxies()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_proxies_that_can_be_used_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a scheme, and whatever is no business of an HTTP client."""
    values = {
        "HTTP_PROXY": "far:3128",
        "https_proxy": "https://me:word@far:3128/",
        "ALL_PROXY": "",
        "NO_PROXY": "localhost,127.0.0.1,.example,::1",
        "FTP_PROXY": "socks5://far",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    refuse_unusable_proxies()


@pytest.mark.parametrize("command", ["run", "up"])
def test_the_start_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str], command: str) -> None:
    """Before anything is made, as for any value that cannot be used."""
    monkeypatch.setenv("ALL_PROXY", "socks5://far:1080")
    monkeypatch.setenv("AUTONOUS_HOME", f"{os.fspath(tmp_path)}/home")
    ended = CliRunner().invoke(app, [command])
    assert isinstance(ended.exception, SettingsError)
    assert not os.path.exists(f"{os.fspath(tmp_path)}/home")  # noqa: PTH110 - a plain look
