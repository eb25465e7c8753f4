"""What those who run and buy the node need: statements about it, made from what it does."""
