"""Doors to other programs: one file and one foreign package each, imported when the door is opened."""
