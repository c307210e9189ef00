"""Everything that survives between steps, and its files."""
