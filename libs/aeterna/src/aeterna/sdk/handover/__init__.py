"""This process as a member of the State Relay Protocol: it takes state over, and later gives it."""
