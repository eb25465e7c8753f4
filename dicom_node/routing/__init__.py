"""Which rules a received series matches, and why not."""
