"""Define the `marketswarm` program: its commands by group, each imported when it runs."""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from marketswarm import __version__
from marketswarm.cli import event_loop, output
from marketswarm.cli.options import NOT_CONFIRMED, expand_groups
from marketswarm.exit import Code, Exit, Mistake, find_error

P = ParamSpec("P")

_SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
GROUPS: Final = {
    "add": "Add a daemon, a job or a web page to the truth, and see its first sign of life.",
    "truth": "Look at the revisions of the truth, and go back to one.",
    "notify": "See the channels of notifications, and try them out.",
    "token": "Make, list and revoke tokens for the board's API, and keys for pings.",
    "symbol": "Change which symbols the market station loads.",
    "source": "Look at the market's sources, try them, and take them out of service.",
    "quarantine": "Look at the market's records that failed a check, and release them.",
    "medic": "See what the medic works on, and approve what it proposes.",
    "archive": "Back up, restore and export the market's archive, and see what it refused.",
    "backtest": "Fill orders by bars of the past, and see what came of them.",
    "signals": "Follow the signals of the market, check what votes add up to, keep the key of their log.",
    "audit": "Prove what the log of signals says, and check such proofs.",
    "witness": "Watch a log of signals from another machine, and cosign it.",
}
"""What the commands with the same first word do, shown in the list of commands."""
_USUAL: Final = {"signals": "follow"}
"""By group, its command that runs where none is named: `marketswarm signals --since 1h`."""
_ARGUMENTS: Final = {
    "up": "--only rss_agg,mesh,healer",
    "stop": "rss_agg",
    "start": "rss_agg",
    "kill": "rss_agg",
    "simulate": "rss_agg",
    "status": "--watch",
    "logs": "rss_agg --follow",
    "alerts": "--since 1h",
    "health": "rss_agg",
    "history": "rss_agg",
    "runs": "backup --limit 3",
    "redis": "system-redis GET health:rss_agg",
    "topology": "--file truth.json --mermaid",
    "check": "--ready",
    "validate": "truth.json",
    "seed": "truth.json",
    "truth diff": "3 truth.json",
    "truth show": "3",
    "truth rollback": "3",
    "add daemon": "worker --every 60s",
    "add job": "backup --schedule '0 3 * * *'",
    "add page": "shop https://shop.example/health",
    "watch": "https://shop.example/health",
    "edit": "backup --grace 30m",
    "pause": "backup",
    "resume": "backup",
    "remove": "backup",
    "new": "prices",
    "acl": "--make-secrets --urls deploy/urls",
    "silence": "'feed-*' --for 2h --why 'new disks'",
    "silences": "--all",
    "unsilence": "3f9a1c04d2b7",
    "ack": "rss_agg",
    "resend": "--all",
    "notify test": "slack",
    "token create": "deploy --scope write --for 90d",
    "token rotate": "1f0c3a9e",
    "token revoke": "1f0c3a9e",
    "symbol add": "ETH/USD --asset crypto",
    "symbol disable": "ETH/USD",
    "symbol enable": "ETH/USD",
    "source show": "kraken",
    "source try": "kraken BTC/USD",
    "source pause": "kraken --for 10m",
    "source resume": "kraken",
    "source refresh": "kraken",
    "quarantine list": "--check jump",
    "quarantine show": "1795400736319-0",
    "quarantine release": "1795400736319-0",
    "incidents": "--svc rss_agg",
    "incident": "rss_agg.1795400736319",
    "medic report": "--days 7",
    "medic approve": "3f9a1c04",
    "medic patch": "rss_agg.1795400736319 --check",
    "archive restore": ".marketswarm/backups/archive-20261123T033000Z.dump",
    "archive verify": ".marketswarm/backups/archive-20261123T033000Z.dump",
    "archive export": "bars --to files --symbol SPY",
    "archive refused": "--count 10",
    "backtest run": "breakout --symbols SPY --from 2024-01-02 --to 2024-12-31",
    "backtest orders": "cases/bracket --json",
    "signals follow": "--since 1h --symbol SPY",
    "signals consensus": "votes.json --json",
    "signals key": "log.key",
    "signals rotate": "new.key",
    "signals explain": "9f2c4d7be1f04c55a8d2c1e08b6f3a7790d1b5ac2e4f60718293a4b5c6d7e8f9",
    "audit prove": "SPY --from 2026-11-01 --to 2026-11-30 --out spy.audit",
    "audit verify": "spy.audit --log example.org/signals+1b2c3d4e+AWFiY2Q= --witness w.example+5f6a+BEFiY2Q=",
    "witness key": "witness.example/one witness.key",
    "witness run": "--key-file witness.key --store witness.sqlite --log signals.example+1b2c3d4e+AWFiY2Q=",
    "witness forks": "--store witness.sqlite",
    "beat": "backup --every 10s",
    "join": "rediss://join@192.0.2.10:6379 --fingerprint SHA256 backup",
    "exec": "--svc backup -- ./backup.sh --full",
}
"""The arguments in the example of a command, shown below its options; the other examples have none."""
_NEED_SIGNALS: Final = ("signals.proofs", "signals.witness")
"""The services' folders whose commands need the extra `signals`."""
_TAKES_REST: Final = ("exec", "redis")
"""Commands to which all belongs that follows their first argument, also what looks like an option."""
_TABLE: Final = {
    "Run a fleet": (
        ("up", "up.up", "Run two Redis servers and the whole fleet on this machine."),
        ("init", "new.init", "Write a truth.json to begin with, and explain it."),
        ("stop", "control.stop", "Stop an agent; it stays stopped until `start`."),
        (
            "start",
            "control.start",
            "Start an agent that was stopped, waits for its restart, or was seeded later.",
        ),
        ("kill", "control.kill", "Kill an agent (-9); the fleet starts it again."),
        ("simulate", "control.simulate", "Stop an agent, wait for its miss, start it, wait for its ok."),
    ),
    "See how it is": (
        ("status", "status.status", "Show every service: up or down, since when, and why."),
        ("top", "top.top", "Show the status live, sorted and filtered by keys."),
        ("open", "open.open_board", "Open the board, the page of a fleet, in a browser."),
        ("logs", "logs.logs", "Show what agents of `up` logged, and follow it."),
        ("alerts", "alerts.alerts", "Follow the alerts: misses, recoveries, lost buses."),
        ("health", "health.health", "Show the latest alert or ok of each service."),
        ("history", "history.history", "Show the outages of a service, and its uptime up to a year."),
        ("runs", "runs.runs", "Show the last runs of a job, how each ended, and what it wrote."),
        ("doctor", "doctor.doctor", "Look for what is wrong with a fleet, and say what to do about it."),
        ("redis", "redis_cli.redis", "Send a command to a bus of the fleet, as redis-cli does."),
        ("topology", "topology.topology", "Show who runs, what flows between services, and what is wrong."),
        ("check", "check.check", "For health checks: does the agent in this container make progress?"),
    ),
    "Configure it": (
        ("add daemon", "add.daemon", "Add a program that beats, and see its first sign of life."),
        ("add job", "add.job", "Add a job that runs at times, and see its first sign of life."),
        ("add page", "add.page", "Add a web page to be probed, and see its first probe."),
        ("watch", "add.watch", "Have a web page probed by its address, and see its first probe."),
        ("edit", "edit.edit", "Change what the truth says of a service or a page."),
        ("pause", "edit.pause", "Have a service not monitored, or a page's loss be no alert."),
        ("resume", "edit.resume", "Have a service monitored again, and a page's loss be an alert."),
        ("remove", "edit.remove", "Remove a service or a page from the truth."),
        ("validate", "validate.validate", "Check a truth file: every problem at once."),
        ("seed", "seed.seed", "Write a truth to all of its buses; running agents follow it."),
        ("truth history", "truth.history", "Show the revisions of the truth: when, by whom, its size."),
        (
            "truth diff",
            "truth.diff",
            "Show what changed between two revisions of the truth, or a revision and a file.",
        ),
        ("truth show", "truth.show", "Print the document of a revision of the truth."),
        ("truth rollback", "truth.rollback", "Seed an earlier revision of the truth again, as a new one."),
        ("new", "new.new", "Write a new service that runs at once."),
        ("acl", "acl.acl", "Write an ACL file for each bus: a user a service."),
        ("token create", "token.create", "Make a token for the board's API, or a key for pings."),
        ("token list", "token.list_", "Show the tokens and the keys for pings."),
        ("token rotate", "token.rotate", "Replace the secret of a token or a key."),
        ("token revoke", "token.revoke", "Revoke a token or a key for pings."),
    ),
    "Notifications": (
        ("silence", "silence.silence", "Send no notification on some services for a while."),
        ("silences", "silence.silences", "Show the silences that are in force."),
        ("unsilence", "silence.unsilence", "End a silence now."),
        ("ack", "notifier.ack", "Say that somebody sees to an outage: no more reminders."),
        ("dead", "messages.dead", "Show the messages that could not be delivered, and why."),
        ("resend", "messages.resend", "Send again what could not be delivered."),
        ("notify list", "messages.notify_list", "Show the channels, and what each sent and failed last."),
        ("notify test", "notifier.notify_test", "Send a test message, and show what each receiver answered."),
    ),
    "Healing": (
        ("incidents", "medic/incidents", "List the outages on record: what was done, and how each ended."),
        ("incident", "medic/incident", "Show one outage as a post-mortem in Markdown."),
        ("medic status", "medic/status", "Show what the medic works on, and what it proposes."),
        ("medic report", "medic/report", "Sum up the outages of a week: what was healed, and what helped."),
        ("medic forget", "medic/forget", "Delete what the medic has learned."),
        ("medic approve", "medic/approve", "Have a proposal of the medic carried out, once."),
        ("medic patch", "medic.diagnosis/patch", "Show the patch of a diagnosis, or test it on a copy."),
    ),
    "The market station": (
        (
            "source list",
            "sources/list_",
            "List the market's sources: what each serves, and whether its key is set.",
        ),
        ("source show", "sources/show", "Show what the catalogue says of a source."),
        ("source try", "sources/try_", "Ask the real source, and show what came and what did not fit."),
        ("source status", "sources/status", "Show how the sources are, and which one serves each series."),
        (
            "source pause",
            "sources/pause",
            "Take a source out of service; the next one of each series takes over.",
        ),
        ("source resume", "sources/resume", "Put a paused source back into service."),
        ("source refresh", "sources/refresh", "Load series now: those of a source, or all."),
        ("symbol list", "sources/list_symbols", "List the symbols that are loaded, and from where."),
        ("symbol add", "sources/add", "Add a symbol, loaded as others of its class or from given sources."),
        ("symbol disable", "sources/disable", "Have a symbol not loaded any more."),
        ("symbol enable", "sources/enable", "Have a disabled symbol loaded again."),
        ("quarantine list", "bars/list_", "List the market's records that failed a check, the newest first."),
        ("quarantine show", "bars/show", "Show a record that failed a check."),
        ("quarantine release", "bars/release", "Have a record taken after all, without the checks."),
        ("archive backup", "archive/backup", "Write the archive to a file now."),
        (
            "archive restore",
            "archive/restore",
            "Put a backup into the database, which must be empty unless it is to be replaced.",
        ),
        (
            "archive verify",
            "archive/verify",
            "Restore a backup into a database of its own, and compare it with what was saved.",
        ),
        ("archive export", "archive/export", "Write a table of the archive as Parquet."),
        (
            "archive refused",
            "archive/refused",
            "List the entries that the archive refused, the newest first.",
        ),
        (
            "backtest run",
            "signals/run_strategy",
            "Play a strategy over bars of the past, and report what came of it.",
        ),
        (
            "backtest orders",
            "signals/orders",
            "Fill orders by bars, and show the fills, what was refused and the account.",
        ),
        (
            "signals follow",
            "signals.follow/follow",
            "Follow the signals of the market: paper, no advice. `marketswarm signals` does the same.",
        ),
        (
            "signals consensus",
            "signals.consensus/consensus",
            "Weigh the votes of a file, and show each step to a side.",
        ),
        ("signals key", "signals.proofs/key", "Make the key that signs the log of signals."),
        ("signals rotate", "signals.proofs/rotate", "Change the key that signs the log of signals."),
        ("signals explain", "signals.proofs/explain", "Decide a stored signal once more, and compare it."),
        (
            "audit prove",
            "signals.proofs/prove",
            "Write the proof of what the log of signals says of a symbol.",
        ),
        ("audit verify", "signals.proofs/verify_file", "Check such a proof: proven, refuted or unavailable."),
        ("witness key", "signals.witness/key", "Make the key of a witness."),
        ("witness run", "signals.witness/run", "Cosign the checkpoints of logs, until it is stopped."),
        ("witness forks", "signals.witness/forks", "Show checkpoints that contradict what was cosigned."),
    ),
    "Beats from scripts": (
        ("beat", "beat.beat", "Send one beat for a service, or one after the other."),
        ("join", "join.join", "Beat for services of this machine to a fleet on another one."),
        ("exec", "exec.execute", "Run a command, beat for it while it runs, end with its exit code."),
    ),
}
"""By group: the name of each command, its function, and what it does."""


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """Describe one command for the list of commands, and name its function.

    `function` is `module.name` below `marketswarm.cli`, or `service/name` in the `commands` of a service,
    which no module here imports; the function's docstring is the help of the command.
    """

    name: str
    function: str
    summary: str
    group: str

    @property
    def example(self) -> str:
        return f"marketswarm {self.name} {_ARGUMENTS.get(self.name, '')}".rstrip()


COMMANDS: Final = tuple(CommandEntry(*row, group) for group, rows in _TABLE.items() for row in rows)


class Command(TyperCommand):
    """Show `--flag`, and not `--flag <bool>`, in a command's help for an option that takes no value."""

    def get_params(self, ctx: Any) -> Any:
        return _hide_flag_types(super().get_params(ctx))


class UnloadedCommand(Command):
    """Show a command in the list of commands; import its module when its arguments are parsed."""

    def __init__(self, entry: CommandEntry) -> None:
        super().__init__(
            entry.name.split()[-1],
            help=entry.summary,
            rich_help_panel=entry.group,
            context_settings=_SETTINGS,
        )
        self.entry = entry

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return load_command(self.entry).make_context(info_name, args, parent, **extra)


class LazyGroup(TyperGroup):
    """Hold a group of commands that are imported when they run: those whose names begin with `prefix`.

    The first of two more words is that of an inner group. In a group with a usual command, that one runs
    where no other is named.
    """

    def __init__(self, *, prefix: str = "", **options: Any) -> None:
        super().__init__(**options)
        for entry in COMMANDS:
            if not entry.name.startswith(prefix):
                continue
            word, is_of_group, _ = entry.name.removeprefix(prefix).partition(" ")
            if not is_of_group:
                self.commands[word] = UnloadedCommand(entry)
            elif word not in self.commands:
                panel = {"rich_help_panel": entry.group, "context_settings": _SETTINGS}
                self.commands[word] = LazyGroup(prefix=f"{word} ", name=word, help=GROUPS[word], **panel)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help if nothing was typed, unless the group has a usual command."""
        usual = _USUAL.get(self.name or "")
        if usual and (not args or (args[0][:1] == "-" and args[0] not in ctx.help_option_names)):
            args = [usual, *args]
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(int(Code.CONFIGURATION))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> Any:
        return _hide_flag_types(super().get_params(ctx))


def load_command(entry: CommandEntry) -> Any:
    """Import the module of a command and return the command with its arguments and options."""
    function = _find_function(entry)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = dict(_SETTINGS)
    if entry.name in _TAKES_REST:
        settings["allow_interspersed_args"] = False
    single.command(
        entry.name.split()[-1],
        cls=Command,
        rich_help_panel=entry.group,
        context_settings=settings,
        epilog=f"Example: {entry.example}",
    )(_end_quietly_on_error(expand_groups(function)))
    return typer.main.get_command(single)


def _find_function(entry: CommandEntry) -> Any:
    """Return the function of a command. Raises Exit, code 2, when its service needs a missing package."""
    service, is_of_service, name = entry.function.partition("/")
    if not is_of_service:
        module, name = entry.function.split(".")
        return getattr(import_module(f"marketswarm.cli.{module}"), name)
    try:
        return getattr(import_module(f"services.{service}.commands"), name)
    except ModuleNotFoundError as error:
        extras = "services,signals" if service in _NEED_SIGNALS else "services"
        needed = f"pip install 'marketswarm[{extras}]'"
        text = f"`{entry.name}` needs {error.name}, which is not installed: {needed}"
        raise Mistake(text) from None


@cache
def load_all_commands() -> TyperGroup:
    """Return the program with every command loaded, for generating its documentation."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - it has a callback
    _load_group_commands(group)
    return group


def _load_group_commands(group: TyperGroup) -> None:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            _load_group_commands(command)
        elif isinstance(command, UnloadedCommand):
            group.commands[name] = load_command(command.entry)


def _end_quietly_on_error(command: Callable[P, None]) -> Callable[P, None]:
    """Return the command changed so that Ctrl-C, and a pipe whose reader has gone, end it with code 0.

    The garbage collector, which `marketswarm.cli.main` stops for the imports, runs while the command does.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if not gc.isenabled():
            gc.freeze()  # what was imported stays
            gc.enable()
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise Exit(Code.DONE, "") from None
        except BrokenPipeError:
            # or else the interpreter would complain about the pipe once more, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(Code.DONE, "") from None

    return run


def _hide_flag_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


app = typer.Typer(
    name="marketswarm",
    cls=LazyGroup,
    help="A heartbeat bus for small fleets: run one, look at it, seed it, break it on purpose.",
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"marketswarm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    output.replace_unencodable()
    # where this is inherited as ignored, the kernel keeps no exit code of a child: `exec` would read 0
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # a folder that was removed has no services, and is no reason to leave out the command of `exec`
    with contextlib.suppress(OSError):
        if not sys.flags.safe_path and os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of it is text
            sys.path.append(os.getcwd())  # noqa: PTH109  # last: only for the services of this folder
    try:
        code = app(standalone_mode=False)
        event_loop.end_process(code if isinstance(code, int) else int(Code.DONE))  # a number for --help
    except TyperException as mistake:
        output.print_error(_describe_mistake(mistake))
        event_loop.end_process(mistake.exit_code)
    except SystemExit:
        raise
    except typer.Abort:  # a question that was not answered
        event_loop.end_process(NOT_CONFIRMED)
    except BaseException as error:
        end = find_error(error, Exit)
        if end is None:
            raise
        if end.message:
            output.print_error(end.message)
        event_loop.end_process(end.code)


def _describe_mistake(mistake: TyperException) -> str:
    """Return what is wrong with a command line, and which help says what would be right."""
    context: Any = getattr(mistake, "ctx", None)
    help_of = "" if context is None else f"\n`{context.command_path} --help` says what it takes"
    message = mistake.format_message()
    return f"{message[:1].lower()}{message[1:]}{help_of}"
