"""Network architectures, one file each; only here, in backends, explain and training is torch."""
