"""How inputs look to a model: by scanner, against what it was tried on, and all at once."""
