"""REST and pages: JSON and HTML in front of the service layer."""
