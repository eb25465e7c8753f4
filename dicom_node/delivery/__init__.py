"""Taking results to their destinations: the last arrow, and the one that retries."""
