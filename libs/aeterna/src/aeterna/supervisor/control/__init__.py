"""How people and programs talk to the supervisor: the control socket and the HTTP page."""
