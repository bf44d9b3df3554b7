"""Process pairs of base and head, and of identical code with known slow-downs."""
