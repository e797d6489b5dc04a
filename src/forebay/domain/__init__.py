"""What is true of market data: no I/O, no clock, no dice."""
