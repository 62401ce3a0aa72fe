"""Keep one processor busy until stdin is closed: when its parent ends, however it ends, it ends, too."""

import sys
import threading


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    threading.Thread(target=_spin, daemon=True).start()
    sys.stdin.read()
