"""Python loads this by itself when the folder is on PYTHONPATH: it cuts a process, and every one it
starts, off the network.

Used for notebook kernels. The loopback address stays open. What was tried is written to
SDLEARN_NETWORK_LOG, so that an attempt a library swallows is found too.
"""

import os
import socket
import sys

sys.modules["rfc3987_syntax"] = (
    # jsonschema's optional check of web addresses, which costs two seconds in every process that
    # opens a notebook
    None
)


def _guard(original, address_of):
    def guarded(*args, **kwargs):
        address = address_of(*args, **kwargs)
        host = (
            address[0] if isinstance(address, tuple) else address
        )  # Unix sockets have a path instead
        if isinstance(address, tuple) and host not in (
            "127.0.0.1",
            "::1",
            "localhost",
            "",
            None,
            "0.0.0.0",
        ):
            with open(os.environ.get("SDLEARN_NETWORK_LOG", os.devnull), "a") as log:
                log.write(f"{host}\n")
            raise OSError(f"the network is blocked in tests: {host}")
        return original(*args, **kwargs)

    return guarded


for _name in ("connect", "connect_ex"):
    setattr(
        socket.socket, _name, _guard(getattr(socket.socket, _name), lambda sock, address: address)
    )
socket.getaddrinfo = _guard(
    socket.getaddrinfo,
    lambda host, *args, **kwargs: (host.decode() if isinstance(host, bytes) else host,),
)
