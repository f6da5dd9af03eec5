"""What the runner promises, free of I/O: what a record means, what comes next, what a doubt allows."""
