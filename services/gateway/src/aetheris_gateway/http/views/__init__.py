"""What the services answer, in the shapes of `aetheris_api`: one module for each noun."""
