"""Every service in one process, on a PostgreSQL that comes along."""

import os

# Read when gRPC is first imported. Children are other programs from their first moment on, so there is nothing to
# support, and gRPC would complain of each of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
