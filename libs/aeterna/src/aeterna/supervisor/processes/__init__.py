"""The processes that the supervisor forks: started, signalled and reaped."""
