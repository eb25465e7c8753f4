"""From a queued job to checked results: inputs, inference in worker processes, objects."""
