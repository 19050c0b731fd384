"""nbgrader's configuration for this course; nbgrader reads it when it is started in this folder (see grade.py)."""

from concrete_steps.grading.nbgrader_settings import configure

configure(get_config())  # noqa: F821 (nbgrader provides get_config)
