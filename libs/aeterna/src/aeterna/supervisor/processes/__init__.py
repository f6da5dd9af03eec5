"""The processes that the supervisor forks: started, signalled, heard and reaped."""
