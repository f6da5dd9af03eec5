"""The REST routes and pages, one module for each noun."""
