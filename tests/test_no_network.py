import socket

import pytest


def test_tests_reach_no_other_machine():
    with socket.socket() as one, pytest.raises(AssertionError, match="connects to"):
        one.connect(("192.0.2.1", 80))


def test_this_machine_is_reached():
    with socket.socket() as server, socket.socket() as one:
        server.bind(("127.0.0.1", 0))
        server.listen()
        one.connect(server.getsockname())
