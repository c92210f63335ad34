"""Channels that carry a message to people; one file each, one small protocol."""
