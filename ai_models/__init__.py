"""Models that turn images into predictions: cards, back-ends, array functions, networks."""
