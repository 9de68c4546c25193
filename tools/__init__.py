"""What makes the files that are shipped; run from the project's root: ``python -m tools.NAME``."""
