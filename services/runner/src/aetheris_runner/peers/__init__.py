"""The other services, as a runner calls them."""
