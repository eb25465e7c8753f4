"""New versions of a model made at a site: candidates, and the gate before one may be live."""
