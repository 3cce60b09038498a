"""Passes over graphs: functions Graph -> Graph."""
