"""How this machine reaches package indexes, as files for the build of the dependency image.

A machine may sit behind a proxy that inspects TLS, or use an index of its own. Its CA bundle, its pip settings and
its proxies are copied into the first stage of that build only, and never reach the image.
"""

import ast
import configparser
import io
import os
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

#: What of pip's configuration is taken over. Local directories mean nothing inside a build and are left out.
OPTIONS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_INDEXES: Final = ("index-url", "extra-index-url")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_BUNDLE_NAMES: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_IN_BUILD: Final = "/build/host"


def host_files(environ: Mapping[str, str] = os.environ) -> dict[str, bytes]:
    """``pip.conf``, ``environment`` (for a shell to read) and, where there is one, ``ca.pem`` of this machine."""
    settings = _settings(environ)
    bundle = _ca_bundle(settings, environ)
    files = {
        "pip.conf": pip_conf(settings, with_bundle=bundle is not None),
        "environment": proxy_exports(environ),
    }
    return files if bundle is None else {**files, "ca.pem": bundle.read_bytes()}


def host_environment(environ: Mapping[str, str] = os.environ) -> tuple[dict[str, str], str | None]:
    """All that a pip of this machine is told when it asks what that build will ask, and the CA bundle.

    No configuration file is read beside it, and nothing else of ``environ`` gets in.
    """
    settings = _settings(environ)
    bundle = _ca_bundle(settings, environ)
    told = {name: environ[name] for name in environ if name in ("PATH", "LANG") or name.lower() in _PROXIES}
    told |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for name, values in _taken(settings).items():
        told[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(values)
    if bundle is not None:
        told["PIP_CERT"] = str(bundle)
    return told, None if bundle is None else str(bundle)


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environ))
    return parse_pip_config(listed.stdout)


def _taken(settings: Mapping[str, str]) -> dict[str, list[str]]:
    taken = {name: settings[name].split() for name in OPTIONS if name in settings}
    for name in _INDEXES:
        taken[name] = list(_remote(taken.get(name, ())))
    return {name: values for name, values in taken.items() if values}


def parse_pip_config(listed: str) -> dict[str, str]:
    """What ``pip config list`` printed, by name; the environment wins over ``[install]`` over ``[global]``."""
    by_section: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if separator and section:
            by_section.setdefault(section, {})[name] = str(ast.literal_eval(value))
    return {
        name: value for section in ("global", "install", ":env:") for name, value in by_section.get(section, {}).items()
    }


def pip_conf(settings: Mapping[str, str], *, with_bundle: bool) -> bytes:
    """A ``pip.conf`` with what of ``settings`` makes sense on another file system."""
    taken = _taken(settings)
    if with_bundle:
        taken["cert"] = [f"{_IN_BUILD}/ca.pem"]
    parser = configparser.RawConfigParser()
    parser["global"] = {name: "\n".join(values) for name, values in taken.items()}
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().encode()


def proxy_exports(environ: Mapping[str, str]) -> bytes:
    """Shell lines that export the proxies of ``environ``, in lower and in upper case as they were."""
    names = [name for name in environ if name.lower() in _PROXIES and environ[name]]
    return "".join(f"export {name}={shlex.quote(environ[name])}\n" for name in sorted(names)).encode()


def _remote(urls: Iterable[str]) -> Iterable[str]:
    return (url for url in urls if url.startswith(("http://", "https://")))


def _ca_bundle(settings: Mapping[str, str], environ: Mapping[str, str]) -> Path | None:
    wanted = [settings.get("cert"), *(environ.get(name) for name in _BUNDLE_NAMES)]
    candidates = [*wanted, ssl.get_default_verify_paths().cafile, *_SYSTEM_BUNDLES]
    return next((Path(name) for name in candidates if name and Path(name).is_file()), None)
