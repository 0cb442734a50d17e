"""`marquee serve` and `marquee doctor`: only options and output live here."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail
from features.steps import shown_steps
from serving.config import ServeConfig
from serving.settings import SettingError, Settings
from training.manifest import BundleError, latest

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [env: HOST, default: 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65_535, help="Port to listen on.  [env: PORT, default: 8000]")
]
Home = Annotated[
    Path | None, typer.Option(help="Where Marquee keeps its files.  [env: MARQUEE_HOME, default: .marquee]")
]
RedisUrl = Annotated[
    str | None, typer.Option(help="Redis with the features; the embedded one where unset.  [env: REDIS_URL]")
]

console = Console()


def serve(
    bundle: Annotated[
        str | None, typer.Option(help="URL or path of a bundle; the one trained last where unset.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="ServeConfig as YAML or JSON; the defaults where unset.")
    ] = None,
    host: Host = None,
    port: Port = None,
    home: Home = None,
    redis_url: RedisUrl = None,
) -> None:
    """Serve a bundle over HTTP on Ray Serve, until Ctrl-C."""
    from features.embedded import EmbeddedRedisError
    from serving.local.deployer import StartFailed
    from serving.local.runtime import running

    try:
        settings = Settings.read().override(host=host, port=port, home=home, redis_url=redis_url)
        chosen = _config(config, bundle, settings)
        with ExitStack() as stack:
            with shown_steps() as show:
                run = stack.enter_context(running(chosen, settings, progress=show))
            user = _somebody(run.redis_url)
            console.print(escape(banner(run.url, settings, user)), highlight=False, soft_wrap=True)
            _wait_for_stop()
            console.print("Stopping ...")
    except (SettingError, StartFailed, EmbeddedRedisError, BundleError) as error:
        fail(error)


def doctor(home: Home = None, host: Host = None, port: Port = None, redis_url: RedisUrl = None) -> None:
    """Check that this machine can run Marquee, before anything slow happens."""
    from serving.local.preflight import findings

    try:
        settings = Settings.read().override(host=host, port=port, home=home, redis_url=redis_url)
    except SettingError as error:
        fail(error)
    table = Table("check", "", "found")
    all_ok = True
    for finding in findings(settings):
        all_ok &= finding.ok
        mark = "[green]ok[/]" if finding.ok else "[red]no[/]"
        table.add_row(finding.check, mark, escape(finding.detail))
    console.print(table)
    if not all_ok:
        raise typer.Exit(1)


def _config(file: Path | None, bundle: str | None, settings: Settings) -> ServeConfig:
    """The file's configuration, with the bundle from the command line, the file or the last training.

    Raises:
        SettingError: the file cannot be read or is no `ServeConfig`.
        BundleError: no bundle is named and none was trained.
    """
    given = {} if file is None else _read(file)
    chosen = bundle or given.get("bundle") or str(latest(settings.bundles))
    place = chosen if "://" in chosen else str(Path(chosen).resolve())
    try:
        return ServeConfig.model_validate({**given, "bundle": place})
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise SettingError(": ".join(filter(None, (str(file), where, wrong["msg"])))) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SettingError(
            f"{file} must hold the fields of ServeConfig, e.g. {{diversity: {{strength: 0.2}}}}"
        )
    return content


def _somebody(redis_url: str) -> str:
    """Whom to ask for: a user that the features know, or a word in the place of one."""
    from features.known_user import known_user
    from features.store import OnlineStoreError

    try:
        return known_user(redis_url)
    except OnlineStoreError:
        return "USER_ID"


def banner(url: str, settings: Settings, user: str) -> str:
    """What to do next, to be pasted into a shell: how this user is asked for."""
    body = shlex.quote(json.dumps({"user_id": user, "count": 5, "explain": True}))
    elsewhere = "" if settings.url == Settings().url else f" --url {url}"
    argument = f"-- {shlex.quote(user)}" if user.startswith("-") else shlex.quote(user)
    return (
        f"\nMarquee answers at {url}\n\n"
        f"  curl -s {url}/v1/recommendations -H 'Content-Type: application/json' -d {body}\n"
        f"  marquee recommend{elsewhere} {argument}\n\n"
        "Stop with Ctrl-C."
    )


def _wait_for_stop() -> None:
    """Returns at the first SIGINT or SIGTERM. Later ones change nothing: the orderly stop has begun."""
    asked = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    asked.wait()
