"""``doctor``, ``install-service``."""

import json
from typing import Annotated

import typer

from supervisor import settings as settings_module
from supervisor.cli.options import AsJson
from supervisor.cli.text import printable


def doctor(as_json: AsJson = False) -> None:
    """Look at everything that an installation stands on; each finding comes with its remedy."""
    from dataclasses import asdict

    from supervisor.doctor.findings import Level
    from supervisor.doctor.report import examine, exit_code

    findings = examine(settings_module.load())
    code = exit_code(findings)
    if as_json:
        typer.echo(json.dumps({"ok": code == 0, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            word = "FAIL" if finding.level is Level.FAIL else finding.level
            remedy = f" - {finding.remedy}" if finding.remedy else ""
            line = printable(f"{finding.check}: {finding.what}{remedy}")
            typer.echo(f"{typer.style(f'{word:<4}', fg=_COLOURS[finding.level])} {line}")
    raise typer.Exit(code)


def install_service(
    show: Annotated[bool, typer.Option("--print", help="Show the unit, and do nothing.")] = False,
) -> None:
    """Have systemd start the supervisor with the machine, and again whenever it dies."""
    from supervisor.systemd import SystemdService

    service = SystemdService(settings_module.load())
    if show:
        typer.echo(service.unit(), nl=False)
        return
    service.install(lambda line: typer.echo(line, err=True))


_COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
