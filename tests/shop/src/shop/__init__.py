"""A shop that finds products by what they mean."""
