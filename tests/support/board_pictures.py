"""Make the pictures of the board in docs/: `PYTHONPATH=tests python tests/support/board_pictures.py`."""

from pathlib import Path

from support.board_examples import make_small
from support.rig.board_site import BoardSite
from support.rig.browser import Tab, open_browser

DOCS = Path(__file__).parents[2] / "docs"
SIZE = {"width": 1280, "height": 700}


def main() -> None:
    """Takes the page of a fleet in which much is wrong, in both themes."""
    with BoardSite(make_small()) as site, open_browser() as browser:
        for scheme in ("light", "dark"):
            tab = Tab(browser, color_scheme=scheme, viewport=SIZE)
            tab.open(site.url).screenshot(path=DOCS / f"board-{scheme}.png")
            tab.close()


if __name__ == "__main__":
    main()
