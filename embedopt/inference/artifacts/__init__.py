"""The files that backends open: built once and kept in a cache."""
