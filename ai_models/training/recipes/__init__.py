"""One command for each demonstration model: how it was trained, from phantoms to card figures."""
