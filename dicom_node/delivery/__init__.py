"""Taking results to their destinations: the last arrow of the sentence, and the one that retries."""
