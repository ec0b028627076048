"""The proxies that the environment names: those that cannot be used stop the start.

The supervisor's own calls go through them; containers are given none of these variables.
"""

import os
from typing import Final

from supervisor.settings import SettingsError

_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SCHEMES: Final = ("http", "https")


def refuse_unusable_proxies() -> None:
    """Raise SettingsError for a proxy variable of this process that no HTTP client here can be made with.

    The line does not show the value: it may hold a password.
    """
    import httpx  # by those who start something alone: it takes its time

    for name, value in sorted(os.environ.items()):
        if value and name.upper() in _NAMES and not _usable(value):
            raise SettingsError(
                f"{name} cannot be used: it must be an http:// or https:// proxy, as http://host:port, or unset"
            )
    try:
        httpx.Client().close()
    except (httpx.InvalidURL, ValueError, ImportError):
        raise SettingsError(
            "NO_PROXY cannot be used: it must be names and addresses of hosts, comma separated, or unset"
        ) from None


def _usable(proxy: str) -> bool:
    import httpx

    try:
        url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
    except httpx.InvalidURL:
        return False
    return url.scheme in _SCHEMES and bool(url.host)
