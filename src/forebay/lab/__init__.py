"""Simulated exchanges with a truth in closed form, and the faults they can be told to have."""
