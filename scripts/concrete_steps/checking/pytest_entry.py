"""What an installed course adds to every pytest run on the machine: nothing, unless `--of FOLDER` asks for its checks.

Inside the course its pyproject.toml loads the plugin. Anywhere else (`pytest --of ~/work`) this entry point does, so
that other projects keep their own `--seed` and `rng`.
"""


def pytest_load_initial_conftests(early_config, args: list[str]) -> None:
    if any(argument == "--of" or argument.startswith("--of=") for argument in args):
        early_config.pluginmanager.import_plugin("concrete_steps.checking.pytest_plugin")
