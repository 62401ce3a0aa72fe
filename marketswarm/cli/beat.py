# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm beat`: a sign of life from a script, one or one after the other.

Nothing heavy is loaded for it: cron and shell loops start it again and again.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.control import Svc
from marketswarm.cli.options import DATA, Data, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from marketswarm.cli.post import Post

_WHOLE_SEC = 8.0  # for one beat, whatever hangs: three buses at two seconds each, and a look-up
_LOOK_EVERY_SEC = 1.0


class State(StrEnum):
    """What a beat may say of its sender."""

    OK = "ok"
    DEGRADED = "degraded"
    STOPPING = "stopping"


def beat(
    svc: Svc,
    *,
    status: Annotated[State, typer.Option("--status", help="How it is; stopping is a goodbye.")] = State.OK,
    detail: Annotated[
        str | None, typer.Option("--detail", metavar="TEXT", help="Why, or what else is worth knowing.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            parser=duration,
            metavar="10s",
            help="Go on beating, until Ctrl-C or until the program that started this is gone.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say where it went.")] = False,
    data: Data = DATA,
) -> None:
    """Send one beat for a service, to the bus and channel that the truth has for it."""
    from marketswarm.cli.post import Post

    need_a_name(svc)
    if every is not None and every < 0.05:
        raise typer.BadParameter("--every: at least 0.05 s")
    if every is None:
        _bounded(lambda: _send(Post(svc, data), status, detail, None, verbose))
        return
    import os
    import secrets

    parent = os.getppid()  # asked before the first beat: who started this may end with it
    post = Post(svc, data, secrets.token_hex(6))
    _bounded(lambda: _send(post, status, detail, every, verbose))
    _go_on(post, status, detail, every, parent)


def need_a_name(svc: str, where: str = "SVC") -> None:
    """Raises BadParameter, for the argument `where`, for what can't be the name of a service."""
    from marketswarm.cli.whereto import NAME

    if not NAME.fullmatch(svc):
        raise typer.BadParameter(
            f"{svc!r} is not a name: a letter, then up to 62 letters, digits or _ . -", param_hint=where
        )


def _send(post: "Post", status: State, detail: str | None, every_sec: float | None, verbose: bool) -> None:
    """The first beat, or the only one. Raises Exit, code 3, when its bus is away."""
    from marketswarm.cli.wire import AwayError
    from marketswarm.exit import Code, Exit

    post.look()
    try:
        heard = post.beat(status.value, detail, every_sec)
    except AwayError as error:
        raise Exit(Code.NO_BUS, f"no beat: {post.to.bus} at {error}") from None
    if not post.to.named:
        where = f"sent to {post.to.channel} on {post.where}"
        typer.echo(f"{unwatched(post.svc)} ({where})", err=True)
    elif verbose:
        typer.echo(f"{post.svc} beats on {post.to.channel}, {post.where}: heard by {heard}")


def unwatched(svc: str) -> str:
    """What to say of a name that the truth does not know."""
    return f"marketswarm: the truth does not name {svc}, nobody watches it"


def _bounded(work: "Callable[[], None]") -> None:
    """Does it in a thread that nobody waits for too long: the system's look-up of a name has no bound."""
    import threading

    from marketswarm.exit import Code, Exit

    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_WHOLE_SEC)
    if thread.is_alive():
        raise Exit(Code.NO_BUS, f"no beat: no answer within {_WHOLE_SEC:g} s")
    if failed:
        raise failed[0]


def _go_on(post: "Post", status: State, detail: str | None, every_sec: float, parent: int) -> None:
    """Beats until a signal, then says goodbye; no goodbye when who started this is gone: that was a crash."""
    import os
    import signal
    import time

    from marketswarm.cli.wire import AwayError

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    due, trouble = time.monotonic() + every_sec, ""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, leave)
        while os.getppid() == parent:
            left = due - time.monotonic()
            if left > 0:
                time.sleep(min(left, _LOOK_EVERY_SEC))
                continue
            due = max(due + every_sec, time.monotonic())
            trouble = _again(post, status, detail, every_sec, trouble)
    except KeyboardInterrupt:
        post.reconnect()
        try:
            post.beat("stopping", within_sec=1.0)
        except AwayError:
            return


def _again(post: "Post", status: State, detail: str | None, every_sec: float, trouble: str) -> str:
    """One more beat; what is in its way, told when that changes."""
    from marketswarm.cli.wire import AwayError

    post.look()
    try:
        post.beat(status.value, detail, every_sec)
    except AwayError as error:
        found = f"{post.to.bus} at {error}"
    else:
        found = ""
    if found != trouble:
        typer.echo(f"marketswarm: {f'no beat: {found}' if found else 'beats arrive again'}", err=True)
    return found
