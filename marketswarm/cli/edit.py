"""Implement `marketswarm edit`, `pause`, `resume` and `remove`: change what the truth says of one entry."""

from collections.abc import Callable
from typing import Annotated

from marketswarm.cli import output
from marketswarm.cli.entry_options import ChangeOptions, choose_fields
from marketswarm.cli.options import OptionGroup, parse_duration, service_argument
from marketswarm.cli.truth_change import carry_out, confirm_change, encode_change, plan_change
from marketswarm.truth.document_edit import EntryFields, edit_entry, pause_entry, remove_entry, resume_entry


def _parse_change(text: str | float) -> float | str:
    """Return a duration in seconds, or the empty text, which removes a key."""
    return text if text == "" else parse_duration(text)


How = Annotated[ChangeOptions, OptionGroup.of(ChangeOptions)]
NewFields = Annotated[
    EntryFields,
    choose_fields(
        "schedule time_zone every_sec timeout_sec grace_sec max_run_sec url contains status"
        " description tags depends_on severity",
        _parse_change,
    ),
]
Name = Annotated[
    str, service_argument("NAME", "The service, as truth.json names it, or the page: massive/shop.")
]


def edit(name: Name, fields: NewFields, how: How) -> None:
    """Change what the truth says of a service or a page; a value of '' removes a key.

    Shows what changes, asks, and seeds it. A schedule takes the place of an interval and a timeout, and the
    other way round. Ends with 1 if it was not confirmed.
    """
    carry_out_edit(name, lambda text: edit_entry(text, name, fields), how)


def pause(name: Name, how: How) -> None:
    """Have the healer not monitor a service, or a page's loss be no alert, until `resume`.

    The truth then says `monitored: false`, of a page `alert: false`. To keep messages away for a while, and
    keep monitoring it, use `silence`. Ends with 1 if it was not confirmed.
    """
    carry_out_edit(name, lambda text: pause_entry(text, name), how)


def resume(name: Name, how: How) -> None:
    """Have a service that was paused be monitored again, and a page's loss be an alert again.

    Ends with 1 if it was not confirmed.
    """
    carry_out_edit(name, lambda text: resume_entry(text, name), how)


def remove(name: Name, how: How) -> None:
    """Remove a service or a page from the truth; no more messages are sent about it.

    Its keys for pings stay, and are valid again if a service of this name is added: `marketswarm token list`
    shows them. Ends with 1 if it was not confirmed.
    """
    carry_out_edit(name, lambda text: remove_entry(text, name), how)


def carry_out_edit(name: str, edit: Callable[[str], str], how: ChangeOptions) -> None:
    """Once it is confirmed, write the truth file as `edit` returns it, seed it, and print that."""
    planned = plan_change(how.truth, edit, how.data)
    confirm_change(planned, yes=how.yes, as_json=how.as_json)
    done = carry_out(planned, how.data)
    output.print_result(encode_change(name, planned, done), done.lines, as_json=how.as_json)
