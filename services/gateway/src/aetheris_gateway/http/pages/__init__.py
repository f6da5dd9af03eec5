"""The pages: rendered here, escaped by the template engine, and without anything from other hosts."""
