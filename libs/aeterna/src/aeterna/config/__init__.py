"""aeterna.yaml: `model` holds the result, `read` accepts every spelling, `field` names the line of an error."""
