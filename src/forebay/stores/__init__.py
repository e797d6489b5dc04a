"""Where events rest. Stores are strangers to one another and pass the same exam."""
