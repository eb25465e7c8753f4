"""What only a real GPU shows."""
