"""Tell the supervisor, as systemd's notify protocol has it."""

import socket


def notify(address: str, text: str) -> bool:
    """False if there is nobody to tell."""
    if not address:
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(name)
            sock.send(text.encode())
        except OSError:
            return False
    return True
