"""Files become documents, documents become ids, ids become batches. NumPy only, no JAX."""
