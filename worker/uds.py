"""What all clients on Unix sockets have in common."""

import ssl
from typing import Final

#: Plain HTTP is spoken there, and the host name is never looked up.
HOST: Final = "http://localhost"


def no_tls() -> ssl.SSLContext:
    """A context that trusts nobody, for a client that needs no TLS: to load all the CAs costs 20 ms and memory."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
