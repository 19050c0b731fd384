"""Every exercise is a fixture that gives the learner's object; see scripts/concrete_steps/pytest_plugin.py."""

pytest_plugins = ["concrete_steps.pytest_plugin"]
