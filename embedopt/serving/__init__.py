"""Single requests in, batches to the encoder."""
