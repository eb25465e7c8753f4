"""Training of the networks that this project ships, as commands that anyone can rerun."""
