"""Upgrades: the driver of the table, the service with the table's actions, and their parts."""
