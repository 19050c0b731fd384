"""Data without limit for the algorithmic models: games and strings drawn by a seeded generator, with their truth."""
