"""What tests and benches build on: clocks, crashes, simulated worlds, real processes, and checks of what they did."""
