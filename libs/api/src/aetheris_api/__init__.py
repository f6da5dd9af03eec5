"""What the gateway and its clients agree on: shapes, status names, routes and the permission each of them needs.

Nothing is imported here, so that `aetheris_api.statuses`, which needs the standard library only, stays cheap to import.
"""
