"""What decides the next command of a job: one module for each kind of program."""
