"""One upgrade: the service that the table drives, and what its actions do."""
