"""Whole runs of the core on virtual time and a simulated disk, by seed."""
