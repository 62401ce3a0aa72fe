import errno
import resource
import socket

import pytest

from marketswarm.exit import Code, Exit
from services.board import server
from services.board.server import open_socket, raise_file_limit


class Busy:
    """Stands in for `socket.socket`: nobody can bind."""

    def __init__(self, number):
        self.number, self.closed = number, False

    def __call__(self, *_how):
        return self

    def setsockopt(self, *_how):
        pass

    def bind(self, _address):
        raise OSError(self.number, "no")

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("number", "port", "said"),
    [
        (errno.EADDRINUSE, 8080, "BOARD_PORT: port 8080 on 127.0.0.1 is taken"),
        (errno.EACCES, 80, "BOARD_PORT: port 80 is not this user's"),
        (errno.EADDRNOTAVAIL, 8080, "BOARD_HOST: nobody can listen on 127.0.0.1"),
    ],
)
def test_an_address_that_is_not_to_be_had_is_said_with_its_variable(monkeypatch, number, port, said):
    busy = Busy(number)
    monkeypatch.setattr(server.socket, "socket", busy)
    monkeypatch.setattr(
        server.socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
    )
    with pytest.raises(Exit) as end:
        open_socket("127.0.0.1", port)
    assert end.value.code == Code.CONFIGURATION
    assert said in end.value.message
    assert busy.closed


@pytest.fixture
def few_files():
    """This process may open few files, and more if it asks for them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_there_may_be_connections(few_files):
    raise_file_limit(700)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, few_files)
    raise_file_limit(600)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 700, "it is not lowered"
    raise_file_limit(few_files + 1 if few_files > 0 else 800)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] in (few_files, 800), "no more than the system allows"
