"""Every service in one process, on a PostgreSQL that comes along."""

import os

# For gRPC's own C code, which reads it when it is first imported. Children are other programs from their first moment
# on, so there is no fork to support, and gRPC would complain of each.
os.putenv("GRPC_ENABLE_FORK_SUPPORT", "0")
