"""The one exception for bad input: its message is a single sentence that says what was wrong, where, and what to do."""


class CourseError(Exception):
    """Something a person can put right. Commands print the message and exit with code 1."""
