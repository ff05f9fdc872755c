"""What is on air at which frame of the program. Pure and clocked."""
