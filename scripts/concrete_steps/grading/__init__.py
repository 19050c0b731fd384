"""What an instructor runs: nbgrader's configuration, submissions, and processes of their own for each of them."""
