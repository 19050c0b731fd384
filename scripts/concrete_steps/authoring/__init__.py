"""What a maintainer runs: percent sources to notebooks, and mutants of the solutions."""
