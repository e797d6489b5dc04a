"""Jobs on a data folder without a running capture."""
