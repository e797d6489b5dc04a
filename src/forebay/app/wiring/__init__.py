"""What a configuration becomes: venues, stores, the data folder."""
