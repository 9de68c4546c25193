"""Volumes: how well, how fast and in how much memory they are classified."""
