"""From an input to a prediction: preparing, checking, and one file for each task's answer."""
