"""The listening sockets that outlive every process, and the division of new connections between two of them."""
