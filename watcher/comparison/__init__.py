"""Puts runs side by side: which they are, what they measured, and which is best."""
