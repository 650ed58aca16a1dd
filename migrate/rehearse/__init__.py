"""`migrate rehearse`: the whole migration beforehand, with a stopwatch, and go or no-go at the end."""
