"""When Python looks for garbage that refers to itself.

A roster is made at once and kept. At the usual thresholds a start with a hundred thousand services walks it
again and again, for a third of its time, so that is put off until the roster is there. What is there then is
kept out of all later walks: they are short, and what a lost connection leaves behind goes soon.
"""

import gc
from typing import Final

PUT_OFF: Final = (50_000, 20, 50)
USUAL: Final = gc.get_threshold()


def put_off() -> None:
    """To be called before a roster is made."""
    gc.set_threshold(*PUT_OFF)


def settle() -> None:
    """To be called when it is made."""
    gc.freeze()
    gc.set_threshold(*USUAL)
