"""Implement `marketswarm watch`: have a web page probed by its address alone, the short way to `add page`."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from marketswarm.cli.add import AddRequest, NoWait, Wait, carry_out_add, find_wait_sec
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.entry_options import (
    TRUTH,
    Contains,
    DependsOn,
    Every,
    ExpectStatus,
    Severity,
    Tags,
    Timeout,
    TruthFile,
    Yes,
    to_numbers,
    to_tuple,
)
from marketswarm.cli.options import By, Data, Json, author_name
from marketswarm.truth.document_edit import AddedKind, EntryFields


def watch(
    url: Annotated[str, typer.Argument(metavar="URL", help="Its address: https://shop.example/health.")],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="What messages call it, after massive/; by default its host."
        ),
    ] = None,
    contains: Contains = None,
    expect_status: ExpectStatus = None,
    every: Every = None,
    timeout: Timeout = None,
    tags: Tags = None,
    depends_on: DependsOn = None,
    severity: Severity = None,
    no_wait: NoWait = False,
    wait: Wait = None,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
    truth: TruthFile = TRUTH,
    data: Data = DATA,
) -> None:
    """Have a web page probed by massive, and see how long it takes and how long its certificate is good.

    The same as `marketswarm add page`, with the host as the name: shows what changes in the truth, asks,
    seeds it, and waits for the first probe. Ends with 1 if it was not confirmed, or there was no probe in
    time.
    """
    fields = EntryFields(
        url=url,
        contains=contains,
        status=to_numbers(expect_status),
        tags=to_tuple(tags),
        depends_on=to_tuple(depends_on),
        severity=severity,
        every_sec=every,
        timeout_sec=timeout,
    )
    wait_sec = find_wait_sec(wait, no_wait=no_wait)
    page = name or make_page_name(url)
    carry_out_add(
        AddRequest(AddedKind.PAGE, page, fields, truth, data, author_name(by), yes, as_json, wait_sec)
    )


def make_page_name(url: str) -> str:
    """Return what a page is called by its address: its host, with a port if it names one.

    What is not an address is its own name: the check of the truth refuses it, in its words.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if not host:
        return url
    return host if port is None else f"{host}:{port}"
