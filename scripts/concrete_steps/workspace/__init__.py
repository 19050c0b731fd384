"""The learner's own copy: made, carried over, opened in JupyterLab, examined."""
