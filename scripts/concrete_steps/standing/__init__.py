"""Where a learner stands, from the log of checks and their notebooks: what is met, how long it took, what is next."""
