"""What backends open: built once, kept in a cache."""
