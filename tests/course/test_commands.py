"""The two commands that a stranger types, start.py and test.py, but for the set-up (test_environment.py)."""

import ast
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import concrete_steps
import environment
from concrete_steps.errors import CourseError
from concrete_steps.workspace import lab

SCRIPTS = environment.ROOT / "scripts"
COMMANDS = ["start.py", "test.py"]

# What Python 2.7 or 3.4 cannot parse.
TOO_NEW = (ast.JoinedStr, ast.AnnAssign, ast.Starred, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef, ast.Nonlocal)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_old_python_can_read_the_command(name):
    tree = ast.parse((SCRIPTS / name).read_text(encoding="utf-8"), feature_version=(3, 4))
    for node in ast.walk(tree):
        assert not isinstance(node, TOO_NEW), f"{name}, line {node.lineno}: Python 2 cannot parse this"
        if isinstance(node, ast.FunctionDef):
            marked = [argument.arg for argument in ast.walk(node.args) if getattr(argument, "annotation", None)]
            assert not (node.returns or marked or node.args.kwonlyargs), f"{name}, line {node.lineno}"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_old_python_is_told_what_to_install(name):
    program = f"import sys, runpy; sys.version_info = (3, 10, 4); runpy.run_path({str(SCRIPTS / name)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert "needs Python 3.11 or newer and this is Python 3.10" in sentence
    assert f"`python3.12 scripts/{name}`" in sentence


# --- start.py ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """What start.py runs in the environment, on a course of one notebook; (process, lines that it printed so far)."""
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    released = tmp_path / "notebooks/0_start_here/0_start_here.ipynb"
    released.parent.mkdir(parents=True)
    released.write_text(json.dumps(notebook), encoding="utf-8")
    program = f"""
        from pathlib import Path
        from concrete_steps.workspace import lab
        lab.COURSE = Path({str(tmp_path)!r})
        lab.main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), "--no-browser"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        yield process
        process.kill()


def address(process):
    """The address that the server prints, read line by line; the test fails where it ends or hangs without one."""
    stopper = threading.Timer(120, process.kill)
    stopper.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\S+", line):
            stopper.cancel()
            return found[0], "".join(lines)
    pytest.fail("the server ended without printing an address:\n" + "".join(lines))


def open_soon(url):
    """The page at `url`; on a busy machine the server prints its address some time before it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=60)
        except urllib.error.URLError as problem:
            if not isinstance(problem.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_start_serves_the_first_notebook_and_ctrl_c_ends_it(server, tmp_path):
    url, printed = address(server)
    assert printed.startswith(f"Your own copy of the notebooks is in {tmp_path / 'work'}.\n")
    assert "WARNING" not in printed
    path, token = re.fullmatch(r"http://127\.0\.0\.1:\d+/lab/tree/(\S+)\?token=(\w+)", url).groups()
    assert path == "0_start_here/0_start_here.ipynb"
    root = url.partition("/lab")[0]
    with open_soon(f"{root}/api/contents/?token={token}") as answer:
        assert [entry["name"] for entry in json.load(answer)["content"]] == ["0_start_here", "AGENTS.md"]
    with urllib.request.urlopen(url, timeout=60) as answer:
        page = answer.read().decode()
    assert "@jupyterlab/apputils-extension:announcements" in page.partition("disabledExtensions")[2]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{root}/api/contents/", timeout=60)
    if os.name == "nt":
        return
    server.send_signal(signal.SIGINT)
    rest, _ = server.communicate(timeout=60)
    assert "Traceback" not in rest
    assert server.returncode == 0


@pytest.fixture
def other_projects(tmp_path, monkeypatch):
    """An account with settings that the course's environment cannot follow; the files that stand in the way."""
    home = tmp_path / "home"
    settings = {
        "jupyter_server_config.py": "c.ServerApp.contents_manager_class = 'not_installed.Manager'\n",
        "jupyter_server_config.json": '{"ServerApp": {"preferred_dir": "/somewhere/else"}}',
        "jupyter_config.d/x.json": '{"ServerApp": {"root_dir": "/somewhere/else"}}',
    }
    paths = {home / ".jupyter" / name: text for name, text in settings.items()}
    kernel = {"argv": ["/no/such/python", "-m", "ipykernel", "-f", "{connection_file}"], "display_name": "Other"}
    paths[home / "kernels/kernels/python3/kernel.json"] = json.dumps({**kernel, "language": "python"})
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (home / ".jupyter/lab/user-settings").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("JUPYTER_PATH", str(home / "kernels"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(home / ".jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    return list(paths)


def test_settings_and_kernels_of_other_projects_do_not_stand_in_the_way(other_projects, server, tmp_path):
    url, printed = address(server)
    assert "are left aside: " in printed and "and 1 more" in printed
    assert sum(str(path) in printed for path in other_projects) == lab.NAMED
    root, token = url.partition("/lab")[0], url.rpartition("=")[2]
    with open_soon(f"{root}/api/kernelspecs?token={token}") as answer:
        specification = json.load(answer)["kernelspecs"]["python3"]["spec"]
    assert "ipykernel_launcher" in specification["argv"]
    assert specification["display_name"] != "Other"
    server.kill()
    assert (tmp_path / "work/.jupyter").is_dir()


def test_a_server_of_one_s_own_keeps_the_user_s_colours(other_projects, monkeypatch, tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from concrete_steps.workspace.own_jupyter import use_own_jupyter\n"
        "print(len(use_own_jupyter(Path(sys.argv[1])))); print(os.environ['JUPYTERLAB_SETTINGS_DIR'])\n"
        "from jupyter_core import paths; print(*paths.jupyter_config_path(), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "own"], capture_output=True, text=True, check=True)
    number, looks, *places = done.stdout.splitlines()
    assert int(number) == len(other_projects)
    assert Path(looks) == tmp_path / "home/.jupyter/lab/user-settings"
    assert sorted(places) == sorted([str(tmp_path / "own/config"), str(Path(sys.prefix) / "etc/jupyter")])


@pytest.mark.skipif(os.name == "nt", reason="Windows takes the home folder from elsewhere")
def test_a_home_folder_that_cannot_be_used_is_one_sentence_and_no_reason_not_to_start(monkeypatch, request):
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.delenv("CONCRETE_STEPS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    _, printed = address(request.getfixturevalue("server"))
    assert printed.count("/dev/null/home") == 1
    assert "fetched models cannot be kept: set HOME, or CONCRETE_STEPS_CACHE" in printed


def test_an_account_without_home_gets_one(monkeypatch, tmp_path):
    """As a container's user whom no file of accounts knows."""
    variable = "USERPROFILE" if os.name == "nt" else "HOME"
    known = os.path.expanduser
    monkeypatch.delenv(variable)
    monkeypatch.setattr("os.path.expanduser", lambda path: known(path) if variable in os.environ else path)
    monkeypatch.setattr(lab, "use_own_jupyter", lambda folder: [])
    [line] = lab.setting_aside(tmp_path)
    assert line == f"This account has no home folder: {tmp_path / '.jupyter/home'} stands in for it."
    assert Path.home() == tmp_path / ".jupyter/home"
    assert lab.setting_aside(tmp_path) == []


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CourseError, match=rf"^Port {port} cannot be used \(.+\): give another number to --port"):
            lab.require_free(port)
    lab.require_free(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(port):
    with pytest.raises(CourseError, match=f"--port {port} is no port"):
        lab.require_free(port)


def test_a_problem_is_printed_without_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "COURSE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["lab", "--no-browser"])
    with pytest.raises(SystemExit) as caught:
        lab.main()
    assert "notebooks is missing" in caught.value.code


def test_the_first_notebook_is_found_in_the_copy_and_not_in_its_memory(tmp_path):
    assert lab.first_notebook(tmp_path) == ""
    for folder in (".released/0_start_here", "0_start_here"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0_start_here.ipynb").touch()
    assert lab.first_notebook(tmp_path) == "0_start_here/0_start_here.ipynb"


# --- test.py -----------------------------------------------------------------------------------------------------

REPORT = '<testsuites><testsuite tests="{0}" failures="{1}" errors="{2}" skipped="{3}"/></testsuites>'


@pytest.fixture
def suite(monkeypatch):
    """test.py as a module whose commands are noted and not run; `answers` says what each ends with."""
    monkeypatch.delenv("CONCRETE_STEPS_REPORTS", raising=False)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("test_command", SCRIPTS / "test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.noted, module.answers = [], []

    def run(command, environ=None):
        code, counts = module.answers.pop(0)
        if counts:
            Path(command[command.index("--junitxml") + 1]).write_text(REPORT.format(*counts), encoding="utf-8")
        module.noted.append([word for word in command[1:] if not word.endswith(".xml") and word != "--junitxml"])
        return code

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module.environment, "ensure", lambda extras: Path("python"))
    monkeypatch.chdir(environment.ROOT)
    return module


def test_the_whole_suite_has_three_parts(suite, capsys):
    suite.answers = [(0, (10, 0, 0, 2)), (0, (5, 0, 0, 0)), (0, None)]
    assert suite.main([]) == 0
    assert suite.noted == [
        ["-m", "pytest", "tests/course", *suite.PARALLEL],
        ["-m", "pytest", *suite.SOLUTIONS],
        ["scripts/build.py", "--check"],
    ]
    assert capsys.readouterr().out.endswith("\ntotal: 14 passed, 0 failed, 2 skipped\n")


def test_a_solution_that_is_skipped_is_none(suite, capsys):
    suite.answers = [(0, (10, 0, 0, 2)), (0, (5, 0, 0, 1)), (0, None)]
    assert suite.main([]) == 1 and "that is no solution" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "code", "total"),
    [
        ([(1, (10, 2, 1, 0)), (0, (5, 0, 0, 0)), (0, None)], 1, "total: 13 passed, 3 failed, 0 skipped"),
        ([(0, (10, 0, 0, 0)), (0, (5, 0, 0, 0)), (1, None)], 1, "total: 15 passed, 1 failed, 0 skipped"),
        ([(0, (10, 0, 0, 0)), (137, None), (0, None)], 137, "total: 11 passed, 1 failed, 0 skipped"),
    ],
)
def test_the_exit_code_is_the_worst(suite, capsys, answers, code, total):
    suite.answers = answers
    assert suite.main([]) == code
    assert capsys.readouterr().out.endswith(f"\n{total}\n")


def test_a_choice_goes_to_both_runs_and_one_of_them_may_be_empty(suite, capsys):
    suite.answers = [(0, (3, 0, 0, 0)), (5, (0, 0, 0, 0))]
    assert suite.main(["-k", "loader"]) == 0
    assert suite.noted == [
        ["-m", "pytest", "tests/course", "-k", "loader"],
        ["-m", "pytest", *suite.SOLUTIONS, "-k", "loader"],
    ]
    assert capsys.readouterr().out.endswith("\ntotal: 3 passed, 0 failed, 0 skipped\n")


def test_a_choice_of_nothing_fails(suite):
    suite.answers = [(5, (0, 0, 0, 0)), (5, (0, 0, 0, 0))]
    assert suite.main(["-k", "no_such_test"]) == 5


def test_the_browser_is_for_the_course_s_own_tests(suite):
    suite.answers = [(0, (1, 0, 0, 0)), (0, (1, 0, 0, 0)), (0, None)]
    suite.main(["--browser"])
    assert suite.noted[0] == ["-m", "pytest", "tests/course", "--browser", "changed", *suite.PARALLEL]
    assert suite.noted[1] == ["-m", "pytest", *suite.SOLUTIONS]


@pytest.mark.parametrize(
    ("arguments", "browser", "rest"),
    [
        (["-k", "x"], [], ["-k", "x"]),
        (["--browser", "all", "-x"], ["--browser", "all"], ["-x"]),
        (["-x", "--browser", "3.2,0"], ["--browser", "3.2,0"], ["-x"]),
        (["--browser", "-k", "x"], ["--browser", "changed"], ["-k", "x"]),
    ],
)
def test_which_notebooks_the_browser_opens(suite, arguments, browser, rest):
    assert suite.split_browser(arguments) == (browser, rest)


def test_files_named_are_all_that_runs(suite):
    suite.answers = [(0, (1, 0, 0, 0))]
    assert suite.main(["tests/course/test_commands.py::test_what_is_no_port", "-x"]) == 0
    assert suite.noted == [["-m", "pytest", "tests/course/test_commands.py::test_what_is_no_port", "-x"]]


# --- Threads -----------------------------------------------------------------------------------------------------


def threads_of_torch(**asked):
    """What OpenMP was told in a process that imports the course, then torch, with these settings of the user's."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    settings |= {"OMP_DISPLAY_ENV": "TRUE", **asked}
    program = [sys.executable, "-c", "import concrete_steps, torch"]
    return subprocess.run(program, capture_output=True, text=True, env=settings, check=True).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp, which says what it was told, is Linux's")
def test_half_of_the_processors_compute_and_threads_sleep_while_they_wait_unless_told_otherwise():
    told = threads_of_torch()
    assert f"OMP_NUM_THREADS = '{max(1, concrete_steps.PROCESSORS // 2)}'" in told
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told
    told = threads_of_torch(OMP_NUM_THREADS="3", OMP_WAIT_POLICY="ACTIVE")
    assert "OMP_NUM_THREADS = '3'" in told and "OMP_WAIT_POLICY = 'ACTIVE'" in told
