"""A counter that survives its own replacement. Each client that connects gets the next number; see go/ and node/ for
the same without this package."""

import select
import socket
import threading

from aeterna import AeternaClient, Resumed

client = AeternaClient(schema="counter", version=1)
memory = {"count": 0}
standing = threading.Lock()  # held while this process does not own the count


@client.on_handover
def export() -> dict[str, int]:
    standing.acquire()
    return dict(memory)


@client.on_resume
def resume(resumed: Resumed) -> None:
    memory.update(resumed.state)
    standing.release()


listener = client.get_listener_socket() or socket.create_server(("127.0.0.1", 8080))
memory.update(client.load_context())
client.ready()
listener.setblocking(False)
while True:
    select.select([listener], [], [])
    with standing:  # accept only as the owner: connections stay in the queue for the process that owns
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue  # another generation has accepted the connection
        with connection:
            memory["count"] += 1
            connection.sendall(b"%d python\n" % memory["count"])
