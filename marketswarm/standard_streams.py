"""Open the standard streams that a program was started without, as by `>&- 2>&-` in a crontab."""

import os
import sys
from typing import Final

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}  # in the order of their descriptors


def open_closed_streams() -> None:
    """Open /dev/null in place of stdin, stdout and stderr where they are closed; children get it, too.

    Otherwise the next file or connection would have that number, and be written to. Call this first of all.
    """
    for descriptor in range(len(_MODES)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            # this stays open as long as the process
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
