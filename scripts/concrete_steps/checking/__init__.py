"""What a learner's answer meets: the loader, the checks and their outcomes, and the known mistakes."""
