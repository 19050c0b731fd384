"""Concrete Steps: a guided curriculum of exercise notebooks for mechanistic interpretability."""
