"""Messages to the supervisor, in systemd's notify protocol. It stands alone: programs may use nothing else of the
SDK."""

import socket


def notify(address: str, text: str) -> bool:
    """Send `text`. False if there is no supervisor or it does not listen."""
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
