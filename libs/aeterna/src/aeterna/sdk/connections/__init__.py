"""Established connections: how one is described, proved untouched, driven and moved."""
