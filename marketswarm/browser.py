"""Show an address in the browser of the person at this machine."""

import webbrowser
from contextlib import suppress


def open_in_browser(url: str) -> None:
    """Start the browser with a URL, or hand it to the one that runs; without a browser, do nothing.

    A browser in the terminal, which BROWSER may name, returns only when it ends.
    """
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
