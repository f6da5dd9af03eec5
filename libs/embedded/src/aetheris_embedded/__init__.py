"""All four services in one process, on a bundled PostgreSQL."""

import os

# gRPC's C code reads this when it is first imported. Child processes exec another program at once, so gRPC need not
# support the fork, and would log a warning for each.
os.putenv("GRPC_ENABLE_FORK_SUPPORT", "0")
