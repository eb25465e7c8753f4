"""A first card for a model that has none: what its files say, what is assumed, what to check."""
