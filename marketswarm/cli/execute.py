# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm exec`: beats for a command while it runs, and says how it ended.

The command comes first: it is started before any bus is looked for, and a bus that is away neither stops nor
delays it. How it is run is `command.py`, what is said meanwhile `voices.py`, what of its end `last_run.py`.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.beat import need_a_name, unwatched
from marketswarm.cli.options import DATA, Data, duration

if TYPE_CHECKING:
    from marketswarm.cli.last_run import Run
    from marketswarm.cli.voices import Once, Throughout


def execute(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")
    ],
    *,
    svc: Annotated[
        str,
        typer.Option("--svc", metavar="SVC", help="The service, as the truth names it.", show_default=False),
    ],
    on_success_only: Annotated[
        bool,
        typer.Option("--on-success-only", help="No beats while it runs; one if it ends with 0. For cron."),
    ] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            "--limit", parser=duration, metavar="2h", help="End it after that time; the exit code is 124."
        ),
    ] = None,
    data: Data = DATA,
) -> None:
    """Run a command, beat for it while it runs, end with its exit code.

    A bus that is away neither stops nor delays it. `marketswarm status` shows how the last run ended.
    """
    import secrets

    from marketswarm.cli.post import Post
    from marketswarm.cli.voices import Once, Throughout
    from marketswarm.exit import Exit

    need_a_name(svc, "--svc")
    if limit is not None and limit <= 0:
        raise typer.BadParameter("--limit: above 0")
    post = Post(svc, data, None if on_success_only else secrets.token_hex(6))
    voice: Once | Throughout = Once(post) if on_success_only else Throughout(post)
    run = _run(command, limit, voice)
    if trouble := voice.end(run):
        typer.echo(f"marketswarm: the end of {svc} could not be told ({trouble})", err=True)
    elif not post.to.named:
        typer.echo(unwatched(svc), err=True)
    raise Exit(run.code, f"{command[0]}: {run.why}" if run.why else "")


def _run(command: list[str], limit_sec: float | None, voice: "Once | Throughout") -> "Run":
    """Runs it to its end."""
    import time

    from marketswarm.cli.command import Command, unstartable
    from marketswarm.cli.last_run import Run, ended

    begun = time.monotonic()
    try:
        child = Command(command, limit_sec)
    except OSError as error:
        return Run(unstartable(error), 0.0, time.time(), why=error.strerror or "it can't be started")
    voice.begin()
    status = child.wait()
    took_sec = time.monotonic() - begun
    return ended(status, took_sec, time.time(), limit_sec if child.limit_is_over else None)
