"""The wire, generated from proto/. Do not edit: `make proto`."""
