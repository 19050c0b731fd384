"""Where the course's files lie, in a checkout and in an installed wheel alike."""

from pathlib import Path

from concrete_steps.errors import CourseError


def course_root() -> Path:
    """The folder that holds tests/ and data/: a checkout's repository, else the wheel's `concrete_steps/_course`."""
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    if package.parent.name == "scripts" and (checkout / "pyproject.toml").is_file():
        return checkout
    installed = package / "_course"
    if installed.is_dir():
        return installed
    raise CourseError(f"The course's files are missing: {installed} does not exist; install concrete-steps again.")


def data_dir() -> Path:
    """The folder of shipped models and corpora."""
    return course_root() / "data"
