"""Jupyter with the course's own settings and kernel, whatever this account has set up for other projects.

A contents manager that is not installed here, a folder that is not in this one, a kernel of another Python: any of them
in a file of the user's or the system's would keep the course from starting, or its cells from answering.
"""

import os
from pathlib import Path

# Folders with settings or kernels of other projects; and a folder of JupyterLab's own that lies elsewhere.
ELSEWHERE = ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "JUPYTER_NO_CONFIG", "JUPYTER_PREFER_ENV_PATH", "JUPYTERLAB_DIR")
# The user's colours, fonts and shortcuts, which are welcome.
LOOKS = "JUPYTERLAB_SETTINGS_DIR"
SETTINGS = ("jupyter_config", "jupyter_server_config", "jupyter_lab_config", "jupyter_notebook_config")


def use_own_jupyter(folder: Path) -> list[Path]:
    """From here on this process, and what it starts, takes settings and kernels from the environment alone.

    Args:
        folder: where Jupyter and IPython keep what they write: signatures, histories, files of running servers.

    Returns:
        The files of other projects that would have had a say.
    """
    from jupyter_core import paths

    others = files_of_others()
    looks = Path(os.environ.get(LOOKS) or os.path.join(paths.jupyter_config_dir(), "lab", "user-settings"))
    for name in (*ELSEWHERE, LOOKS):
        os.environ.pop(name, None)
    if os.path.isdir(looks) and os.access(looks, os.W_OK):
        os.environ[LOOKS] = str(looks)
    for what in ("config", "data", "runtime"):
        os.environ[f"JUPYTER_{what.upper()}_DIR"] = str(folder / what)
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    # Lists that others have imported by now, so they are emptied in place. On Windows they are the environment's own.
    for system, own in (
        (paths.SYSTEM_CONFIG_PATH, paths.ENV_CONFIG_PATH),
        (paths.SYSTEM_JUPYTER_PATH, paths.ENV_JUPYTER_PATH),
    ):
        system[:] = [place for place in system if place in own]
    return others


def ensure_home(folder: Path) -> bool:
    """Give this process `folder` for a home if its account has none, without which Jupyter does not start at all."""
    if os.path.expanduser("~") != "~":
        return False
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["USERPROFILE" if os.name == "nt" else "HOME"] = str(folder)
    return True


def files_of_others() -> list[Path]:
    """Settings of a server, and kernels of the name that notebooks ask for, outside the environment."""
    from jupyter_core import paths

    settings = [Path(place) for place in paths.jupyter_config_path() if place not in paths.ENV_CONFIG_PATH]
    kernels = [Path(place) for place in paths.jupyter_path("kernels") if _is_outside(place, paths.ENV_JUPYTER_PATH)]
    found = [place / f"{name}{ending}" for place in settings for name in SETTINGS for ending in (".py", ".json")]
    found += [file for place in settings for name in SETTINGS for file in _listed(place / f"{name}.d")]
    found += [place / "python3" / "kernel.json" for place in kernels]
    return [file for file in dict.fromkeys(found) if os.path.isfile(file)]


def _is_outside(place: str, folders: list[str]) -> bool:
    return not any(Path(place).is_relative_to(folder) for folder in folders)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError:
        return []
