"""Where frames come from: one folder per venue, with the same file names in each."""
