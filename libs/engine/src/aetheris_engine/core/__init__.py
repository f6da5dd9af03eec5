"""Decides: state and events in, decisions out. Nothing here waits or acts."""
