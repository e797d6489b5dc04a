"""What people look at: health, metrics, alerts and the routes of administration."""
