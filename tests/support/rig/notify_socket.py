"""systemd's end of a notify socket, as a real datagram socket that a test reads."""

import socket

from support.rig.closes import Closes


def reached(address: str) -> str:
    """An address as the system takes it; `@` stands for the byte that makes it abstract."""
    return f"\0{address[1:]}" if address.startswith("@") else address


class NotifyEar(Closes):
    """`heard()` is what was said since it was asked last, a list of lines a message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(reached(address))

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[list[str]]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def lines(self) -> list[str]:
        """Return the lines of all messages that were not read yet."""
        return [line for message in self.heard() for line in message]

    def fill(self) -> None:
        """Let as much wait to be read as the system lets wait: the next word is refused."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            try:
                while True:
                    other.sendto(b"x", reached(self.address))
            except BlockingIOError:
                return
