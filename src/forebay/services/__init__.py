"""What moves events: long-running jobs, each a thin shell around plain decisions."""
