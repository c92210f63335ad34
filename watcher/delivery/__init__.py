"""Brings each destination up to date, and stops jobs."""
