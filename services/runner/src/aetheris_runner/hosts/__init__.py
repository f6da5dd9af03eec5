"""What runs the code of steps and tools: one module for each kind of host."""
