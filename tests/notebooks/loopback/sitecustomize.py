"""Refuses each connection that would leave this machine, and writes it to the file that LOOPBACK_LOG names.

Python imports a module of this name at its start, so a folder on PYTHONPATH covers every client that a
notebook starts.
"""

import os
import socket
from pathlib import Path

HERE = ("127.0.0.1", "::1", "localhost", "", None)

_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def refuse(host):
    with Path(os.environ["LOOPBACK_LOG"]).open("a") as log:
        log.write(f"{host}\n")
    raise ConnectionRefusedError(f"{host} is not on this machine")


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE:
        refuse(address[0])
    return _connect(self, address)


def getaddrinfo(host, *arguments, **options):
    if host not in HERE:
        refuse(host)
    return _getaddrinfo(host, *arguments, **options)


socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo
