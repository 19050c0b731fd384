"""The environment's set-up, with a stand-in for pip: what it says, what a second run costs, what is left behind."""

import ast
import errno
import http.server
import io
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

import environment
import pip_install

SIZE = "about 2 GB, 6 GB with CUDA" if sys.platform == "linux" else "about 2 GB"

# Notes each call, then does what the file `mode` says. It is run as `python -m pip`, like the real one.
STAND_IN = """
import os, pathlib, sys, time
here = pathlib.Path(os.environ["STAND_IN_PIP"])
if "config" in sys.argv:
    print((here / "config").read_text() if (here / "config").exists() else "")
    raise SystemExit
if "install" not in sys.argv:
    print("pip 0 (stand-in)")
    raise SystemExit
with open(here / "calls", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
print("Collecting torch\\n  Downloading torch-2.13.0-cp311-none-any.whl (183.1 MB)")
print("Installing collected packages: torch, numpy", flush=True)
settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "PYTHONPATH"))}
(here / "settings").write_text(repr(settings))
library = pathlib.Path(__file__).parent.parent
for name in ("concrete_steps", "torch", "jupyterlab"):
    (library / f"{name}.py").write_text("")
(library / "_course.pth").write_text(os.path.join(os.getcwd(), "scripts"), encoding="utf-8")
mode = (here / "mode").read_text() if (here / "mode").exists() else ""
if mode == "hang":
    time.sleep(60)
if mode.startswith("change"):
    pathlib.Path("pyproject.toml").write_text("[project]\\n# edited meanwhile\\n")
    raise SystemExit
if mode.startswith("broken"):
    (library / "torch.py").write_text("raise OSError('[WinError 126] c10.dll not found')")
    raise SystemExit
if mode.startswith("refused"):
    pathlib.Path(sys.argv[sys.argv.index("--log") + 1]).write_text(mode + "\\n")
    mode = "ERROR: No matching distribution found for torch==2.13.0"
print(mode)
raise SystemExit(bool(mode))
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder "a course" with what the set-up reads; environments made there get the stand-in."""
    root = tmp_path / "a course"  # a space in the path must not matter
    (root / "scripts").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    (root / "scripts/constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    monkeypatch.setenv("STAND_IN_PIP", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(pip_install, "torch_index", lambda _: [])
    monkeypatch.setattr(venv.EnvBuilder, "_setup_pip", add_stand_in)
    return root


def add_stand_in(builder, context):
    library = next(Path(context.env_dir).rglob("site-packages"))
    (library / "pip").mkdir()
    (library / "pip/__main__.py").write_text(STAND_IN, encoding="utf-8")


def calls(course):
    noted = course.parent / "calls"
    return noted.read_text().splitlines() if noted.exists() else []


def set_mode(course, words):
    (course.parent / "mode").write_text(words)


def refusal(course, extras=()):
    """The sentence with which `ensure` gives up."""
    with pytest.raises(environment.SetupError) as caught:
        environment.ensure(extras, root=course)
    (sentence,) = str(caught.value).splitlines()
    return sentence


def test_the_first_run_makes_it_and_the_second_is_free(course, capfd):
    python = environment.ensure(root=course)
    assert python.exists()
    assert capfd.readouterr().out.splitlines() == [
        "Making a Python environment in .venv.",
        f"Installing its Python packages: {SIZE}, one to ten minutes the first time.",
        "  downloading torch (183.1 MB)",
        "  installing 2 packages, about a minute",
        "The environment is ready.",
    ]
    (call,) = calls(course)
    assert call.startswith("install --editable . --constraint scripts/constraints.txt ")
    assert environment.ensure(root=course) == python
    assert capfd.readouterr().out == ""
    assert len(calls(course)) == 1
    assert not (course / ".venv/tmp").exists()


def test_extras_are_added_once_and_kept(course, capfd):
    environment.ensure(root=course)
    environment.ensure(("test",), root=course)
    assert "Bringing .venv up to date." in capfd.readouterr().out
    environment.ensure(root=course)
    environment.ensure(("test",), root=course)
    assert len(calls(course)) == 2
    (course / "pyproject.toml").write_text("[project]\ndependencies = []\n", encoding="utf-8")
    environment.ensure(root=course)
    assert [".[test]" in call for call in calls(course)] == [False, True, True]


def test_a_moved_course_is_installed_again(course):
    environment.ensure(root=course)
    moved = course.rename(course.with_name("moved course"))
    environment.ensure(root=moved)
    assert len(calls(course)) == 2


def test_newest_takes_no_constraints_and_counts_as_current(course):
    environment.ensure(("test",), newest=True, root=course)
    environment.ensure(("test",), root=course)
    (call,) = calls(course)
    assert "--upgrade" in call
    assert "constraint" not in call


def test_a_broken_environment_is_made_anew(course, capfd):
    python = environment.ensure(root=course)
    python.unlink()
    environment.ensure(root=course)
    assert "does not work any more" in capfd.readouterr().out
    assert python.exists()


def test_another_python_than_the_caller_s_is_mentioned_and_kept(course, capfd, monkeypatch):
    environment.ensure(root=course)
    capfd.readouterr()
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    environment.ensure(root=course)
    assert "not 3.99: delete the folder .venv to change that" in capfd.readouterr().out
    assert len(calls(course)) == 1


NO_NETWORK = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...: Failed to establish a new"
    " connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/\n"
    "ERROR: No matching distribution found for torch==2.13.0"
)


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        (NO_NETWORK, "the package index could not be reached"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: Could not install packages due to an OSError: [Errno 122] Disk quota exceeded", "the disk is full"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'",
            "could not be written",
        ),
        (
            "HINT: This error might have occurred since no Windows Long Path support",
            "C:\\course",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "there is no torch==2.13.0 for Python"),
        ("ERROR: Failed building wheel.\nERROR: Something new.", "Something new; put that right"),
        (
            NO_NETWORK.partition("ERROR")[0] + "ERROR: Failed building wheel for x.",
            "Failed building wheel for x; put that",
        ),
        ("Killed", "pip failed"),
    ],
)
def test_a_failure_of_pip_is_one_sentence_and_leaves_nothing(course, log, meaning):
    set_mode(course, log)
    sentence = refusal(course)
    assert sentence.startswith("The Python packages could not be installed: ")
    assert meaning in sentence
    assert not (course / ".venv").exists()
    kept = Path(re.search(r"pip's own words are in (.+)\)\.$", sentence)[1])
    assert log in kept.read_text(encoding="utf-8").replace("\r\n", "\n")
    kept.unlink()


def test_a_failed_update_keeps_the_environment_and_the_next_run_repairs_it(course):
    python = environment.ensure(root=course)
    (course / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    set_mode(course, NO_NETWORK)
    refusal(course)
    assert python.exists()
    set_mode(course, "")
    environment.ensure(root=course)
    assert len(calls(course)) == 3
    environment.ensure(root=course)
    assert len(calls(course)) == 3


def test_what_changes_while_it_is_installed_is_installed_next_time(course):
    set_mode(course, "change")
    environment.ensure(root=course)
    set_mode(course, "")
    environment.ensure(root=course)
    environment.ensure(root=course)
    assert len(calls(course)) == 2


def test_an_environment_that_cannot_import_the_course_does_not_count(course):
    set_mode(course, "broken")
    sentence = refusal(course)
    assert "installed and do not work: OSError: [WinError 126] c10.dll not found; install Microsoft's" in sentence
    assert not (course / ".venv").exists()
    set_mode(course, "")
    environment.ensure(root=course)
    assert len(calls(course)) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "a name and a password"),
        (403, "does not let you in"),
        (407, "the proxy wants"),
        (429, "too many requests"),
    ],
)
def test_an_index_that_refuses_is_named_with_its_answer(course, code, words):
    set_mode(
        course, f"refused: Could not fetch URL https://me:pass@pypi.example.org/simple/torch/: {code} Client Error: -"
    )
    sentence = refusal(course)
    assert f"pypi.example.org answered {code}, " in sentence and words in sentence
    assert "me:pass" not in sentence


def test_pytorch_s_index_refuses_what_it_does_not_have():
    line = "Could not fetch URL https://download.pytorch.org/whl/cpu/rich/: 403 Client Error: Forbidden - skipping"
    assert pip_install.refusals(f"{line}\n") == []
    assert pip_install.refusals(f"{line.replace('download.pytorch', 'other')}\n") != []


def test_only_how_an_index_is_reached_is_the_user_s_to_say(course, monkeypatch):
    for name in ("TARGET", "PREFIX", "USER", "NO_DEPS", "REQUIREMENT", "ROOT", "DRY_RUN"):
        monkeypatch.setenv(f"PIP_{name}", "1")
    monkeypatch.setenv("PYTHONPATH", str(course / "other packages"))
    (course.parent / "config").write_text(
        "global.extra-index-url='\\nhttps://a.example\\nhttps://b.example'\nglobal.index-url='https://file.example'\n"
        "install.target='/elsewhere'\ninstall.index-url='https://install.example'\n"
        ":env:.target='1'\n:env:.timeout='7'\nbroken line\n"
    )
    environment.ensure(root=course)
    settings = ast.literal_eval((course.parent / "settings").read_text())
    assert settings == {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "https://a.example https://b.example",
        "PIP_INDEX_URL": "https://install.example",
        "PIP_TIMEOUT": "7",
    }


def test_a_path_with_any_letters_is_read_in_any_encoding(course, monkeypatch):
    """Python 3.11 on Windows reads .pth files in the system's code page; here the plain C locale stands for that."""
    root = course.rename(course.with_name("Übung 北"))
    python = environment.ensure(root=root)
    (root / "scripts/only_there.py").write_text("print('found')")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    if os.name == "nt":
        plain |= {"SYSTEMROOT": os.environ["SYSTEMROOT"]}
    done = subprocess.run([python, "-c", "import only_there"], env=plain, capture_output=True, text=True)
    assert done.stdout == "found\n", done.stderr
    [note] = root.rglob("_course.pth")
    assert note.read_bytes().isascii()


@pytest.mark.skipif(os.name == "nt", reason="Windows takes the home folder from elsewhere")
def test_an_account_without_home(course, monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    environment.ensure(root=course)


def test_too_little_disk_is_noticed_before_anything_is_made(course, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5e8))
    assert "need about 3 GB, and only 0.5 GB are free" in refusal(course)
    assert not (course / ".venv").exists()


@pytest.mark.parametrize("how", ["missing", "incomplete"])
def test_a_system_without_the_venv_module(course, monkeypatch, how):
    def fail(*_):
        raise subprocess.CalledProcessError(1, "ensurepip")

    if how == "missing":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else True)
    else:
        monkeypatch.setattr(venv.EnvBuilder, "_setup_pip", fail)
    assert "sudo apt install python3." in refusal(course)
    assert not (course / ".venv").exists()


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.EROFS, "this folder cannot be written to"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_folder_where_nothing_can_be_made(course, monkeypatch, number, meaning):
    def fail(builder, folder):
        Path(folder).mkdir()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(venv.EnvBuilder, "create", fail)
    assert meaning in refusal(course)
    assert not (course / ".venv").exists()


def test_something_else_called_venv_is_left_alone(course):
    (course / ".venv").mkdir()
    (course / ".venv/thesis.txt").write_text("x")
    assert "is no Python environment: move it away" in refusal(course)
    assert (course / ".venv/thesis.txt").exists()


def test_a_second_set_up_at_the_same_time_waits(course):
    with environment.only_one_at_a_time(course):
        assert refusal(course).startswith("Another command is setting up this folder now")
    environment.ensure(root=course)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to one process only")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_behind(course, kind):
    set_mode(course, "hang")
    program = f"""
        import sys, venv
        from pathlib import Path
        sys.path[:0] = [{str(environment.ROOT / "scripts")!r}, {str(Path(__file__).parent)!r}]
        import environment, pip_install, test_environment
        venv.EnvBuilder._setup_pip = test_environment.add_stand_in
        pip_install.torch_index = lambda _: []
        environment.ensure(root=Path({str(course)!r}))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(course.parent)},
    )
    deadline = time.monotonic() + 60
    while not calls(course) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=30)
    assert errors == "Stopped before the set-up was finished; run the same command to begin again.\n"
    assert process.returncode == 130
    assert not (course / ".venv").exists()
    assert list(course.parent.glob("*.log")) == []


# --- PyTorch without CUDA ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "gpu", "own", "answering", "added"),
    [
        ("linux", False, False, True, True),
        ("linux", True, False, True, False),
        ("linux", False, True, True, False),
        ("linux", False, False, False, False),
        ("darwin", False, False, True, False),
    ],
)
def test_the_index_of_cpu_builds(monkeypatch, platform, gpu, own, answering, added):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(pip_install, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(pip_install, "has_own_index", lambda _: own)
    monkeypatch.setattr(pip_install, "answers", lambda _: answering)
    options = pip_install.torch_index(Path(".venv"))
    assert options == (["--extra-index-url", "https://download.pytorch.org/whl/cpu"] if added else [])


@pytest.mark.parametrize(
    ("listed", "own"),
    [
        ("global.index-url='https://pypi.example.org/simple'", True),
        (":env:.no-index='1'", True),
        ("global.extra-index-url='https://more.example.org/simple'\n:env:.find-links='/wheels'", False),
        ("", False),
    ],
)
def test_an_index_of_the_user_s_own_is_seen_in_pip_s_configuration(monkeypatch, listed, own):
    answer = subprocess.CompletedProcess([], 0, stdout=f"{listed}\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)
    assert pip_install.has_own_index(Path(".venv")) == own


def test_an_index_that_answers_and_one_that_does_not(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(pip_install, "CPU_INDEX_PATIENCE", 30)
        assert pip_install.answers(f"http://127.0.0.1:{server.server_port}/")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(pip_install, "CPU_INDEX_PATIENCE", 0.2)
        begun = time.monotonic()
        assert not pip_install.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert time.monotonic() - begun < 3
    assert not pip_install.answers("http://127.0.0.1:1/")


# --- What pip is doing -------------------------------------------------------------------------------------------

PIP_WORDS = """\
Collecting torch==2.13.0
  Downloading torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl (183.1 MB)
Collecting six
  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)
  Using cached numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.6 MB)
Processing /opt/wheels/pyarrow-26.0.1-cp311-cp311-linux_x86_64.whl
Processing /opt/wheels/six-1.17.0-py2.py3-none-any.whl (from concrete-steps)
Installing collected packages: torch, six, numpy, pyarrow
"""


def test_a_log_shows_only_large_downloads(capsys):
    display = pip_install.Display()
    for line in PIP_WORDS.splitlines(keepends=True):
        display.show(line)
    display.close()
    assert capsys.readouterr().out.splitlines() == [
        "  downloading torch (183.1 MB)",
        "  installing 4 packages, about a minute",
    ]


def test_a_terminal_shows_one_line_that_changes(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    display = pip_install.Display()
    for line in [*PIP_WORDS.splitlines(keepends=True), ""]:
        display.show(line)
    display.close()
    shown = terminal.getvalue()
    assert "\n" not in shown
    frames = [frame.rstrip().split("  ")[-1] for frame in shown.split("\r")]
    assert list(dict.fromkeys(frames)) == [
        "",
        "looking up packages",
        "downloading torch (183.1 MB)",
        "downloading six (11 kB)",
        "downloading numpy (16.6 MB)",
        "fetching pyarrow",
        "fetching six",
        "installing 4 packages, about a minute",
    ]
    assert all(len(frame) <= 79 for frame in shown.split("\r"))


# --- The pins ----------------------------------------------------------------------------------------------------


def test_everything_that_pyproject_asks_for_is_pinned():
    project = tomllib.loads((environment.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    lines = (environment.ROOT / "scripts/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split(";")[0].strip().split("==") for line in lines if not line.startswith("#"))
    for requirement in asked:
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        assert name in pins, f"{name} is not in scripts/constraints.txt: run the command at the head of that file"
    assert [name for name, version in pins.items() if "+" in version] == []  # a local build, as of torch for CPU
