"""Training: of models on cases (docs/training.md), and of the networks that this project ships."""
