"""Every service in one process, on a PostgreSQL that comes along."""
