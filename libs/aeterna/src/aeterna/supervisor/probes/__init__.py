"""Questions to a process: is it ready, is it healthy, how many requests failed."""
