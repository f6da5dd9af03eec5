"""aeterna.yaml: `model` is what it means, `read` is how it is spelt, `field` knows which line is wrong."""
