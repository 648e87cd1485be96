"""Plots: functions of data and matplotlib axes. Nothing here is imported unless it is used."""
