"""What hostile code tries from inside its sandbox: to read, to write, to reach, to end or to outlast the grader.

Each attack is a function that returns a word on success; None, or an error, means that it came to nothing.
"""

import ast
import json
import os
import tempfile
from pathlib import Path

import psutil
import pytest

from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.paths import course_root

pytestmark = pytest.mark.skipif(bool(sandbox.why_not()), reason=sandbox.why_not())
START = load_course().notebook("0")
ROOT = course_root()

QUIET = """
import ctypes, fcntl, glob, os, resource, signal, socket, subprocess, threading, time
from pathlib import Path

ROOT, HOME, SECRETS = Path(%r), Path(%r), Path(%r)

def reads_the_solution():
    return (ROOT / "solutions/0_start_here/0_start_here.py").read_text()

def goes_to_the_solutions():
    os.chdir(ROOT / "solutions")
    return os.getcwd()

def has_a_program_read():
    return subprocess.check_output(["cat", ROOT / "solutions/0_start_here/0_start_here.py"], stderr=subprocess.DEVNULL)

def reads_another_check():
    return (ROOT / "tests/test_1_1_tensors.py").read_text()

def reads_a_secret():
    return (SECRETS / "key").read_text()

def takes_the_work_of_others():
    os.rename(SECRETS / "key", "mine")
    return "taken"

def removes_the_work_of_others():
    os.remove(SECRETS / "key")
    return "removed"

def reads_home():
    return os.listdir(HOME / ".config") or (HOME / ".profile").read_text()

def reads_passwords():
    return open("/etc/passwd").read() + open("/etc/shadow").read()

def reads_git():
    return os.listdir(ROOT / ".git")

def lists_everything():
    places = {place for place, folders, files in os.walk("/") if set(files) & {"grade.py", "key", "gradebook.db"}}
    mine = (str(ROOT), str(HOME), str(SECRETS))
    return [place for place in places if place.startswith(mine) and ".venv" not in place]

def follows_a_link():
    os.symlink(SECRETS / "key", "link")
    return open("link").read()

def makes_a_hard_link():
    os.link(SECRETS / "key", "hard")
    return "linked"

def climbs_by_proc():
    places = glob.glob("/proc/*/root") + glob.glob("/proc/*/cwd")
    return [place for place in places if os.path.exists(f"{place}{SECRETS}/key")]

def reads_the_grader():
    places = filter(lambda place: os.access(place, os.R_OK), glob.glob("/proc/[0-9]*/environ"))
    texts = b"".join(open(place, "rb").read() for place in places)
    return b"SOME_API_TOKEN" in texts or "SOME_API_TOKEN" in os.environ

def sees_processes_of_others():
    lines = [open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline")]
    return [line for line in lines if b"pytest" in line or b"grade.py" in line]

def looks_at_open_files():
    places = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.lexists(path)]
    return [place for place in places if place.startswith("/") and not place.startswith(("/dev", "/proc", "/scratch"))]

def writes_into_the_course():
    (ROOT / "data" / "planted").write_text("x")
    return "written"

def writes_into_python():
    Path(os.__file__).with_name("planted.py").write_text("x")
    return "written"

def writes_into_the_package():
    import concrete_steps
    Path(concrete_steps.__file__).with_name("planted.py").write_text("x")
    return "written"

def writes_by_torch():
    import torch
    torch.from_file(str(ROOT / "data" / "README.md"), shared=True, size=4, dtype=torch.uint8).fill_(0)
    return "written"

def remounts():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b"none", b"/", None, 32 | 4096, None) == 0

def makes_a_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    made = libc.unshare(0x10000000) == 0 and libc.mount(b"none", str(ROOT / "data").encode(), None, 32, None) == 0
    return made and os.access(ROOT / "data", os.W_OK)

def becomes_root():
    os.setuid(0)
    return os.access("/etc/shadow", os.R_OK)

def makes_a_device():
    os.mknod("disk", 0o660 | 0o060000, os.makedev(254, 0))
    return open("disk", "rb").read(1)

def reaches_the_network():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("10.0.0.1", 9))
    return "connected"

def asks_for_a_name():
    return socket.getaddrinfo("example.org", 80)

def hears_a_service():
    open_ports = []
    for port in (PORT, 22, 80, 8888):
        with socket.socket() as s:
            s.settimeout(0.2)
            open_ports += [port] if s.connect_ex(("127.0.0.1", port)) == 0 else []
    return open_ports

def joins_shared_memory():
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.shmget(KEY, 1, 0) >= 0 for KEY in (KEY_OF_GRADER,))

def signals_the_grader():
    os.kill(GRADER, signal.SIGKILL)
    return GRADER > 100000 and "hit"

def signals_everyone():
    for pid in range(2, 300):
        if pid != os.getpid():
            try:
                os.kill(pid, 0)
                if b"concrete_steps.grading." not in open(f"/proc/{pid}/cmdline", "rb").read():
                    return pid
            except OSError:
                pass

def raises_its_limits():
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return hard

def makes_a_huge_file():
    open("large", "wb").truncate(2**31)
    return "made"

def fills_a_disk():
    written = 0
    for place in ("/scratch", "/tmp", "/dev/shm", "/", str(ROOT), "/dev", "/usr", "/root"):
        try:
            for number in range(40):
                with open(f"{place}/fill{number}", "wb") as file:
                    written += file.write(b"x" * 2**26)
        except OSError:
            pass
        for path in glob.glob(f"{place}/fill*"):
            os.remove(path)
    return written > 3 * 2**30 and "filled"

def forks_without_end():
    children = 0
    try:
        for _ in range(500):
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            children += 1
    except OSError:
        pass
    for path in glob.glob("/proc/[0-9]*"):
        pid = int(path[6:])
        if pid > 2 and pid != os.getpid() and os.getpgid(pid) == os.getpgid(0):
            try:
                if os.getppid() != pid:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    return children > 120 and children

def starts_threads_without_end():
    threads = []
    try:
        for _ in range(500):
            threads.append(threading.Thread(target=time.sleep, args=(1,), daemon=True))
            threads[-1].start()
    except RuntimeError:
        pass
    started = len(threads)
    time.sleep(1.5)
    return started > 120 and started

def speaks_to_the_grader():
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, b'\\n{"kind": "done"}\\n{"nonce": "", "kind": "result"}\\n[]\\nnonsense\\n')
        except OSError:
            pass

def leaves_a_terminal_behind():
    descriptor = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(descriptor, 0x5412, b"x")
    return "typed"
"""
ATTACKS = [node.name for node in ast.parse(QUIET.replace("%r", "0")).body if isinstance(node, ast.FunctionDef)]
ANSWER = """
def logit_difference(logits, right, wrong):
    found, tried = {}, 0
    for name in %r:
        tried += 1
        try:
            result = globals()[name]()
            if result:
                found[name] = str(result)[:60]
        except Exception:
            pass
    raise ValueError(f"{tried} attacks, of which succeeded: {found}")
"""


def notebook_with(folder: Path, code: str) -> Path:
    """The solutions of notebook 0, with this code for logit_difference."""
    content = json.loads((ROOT / "solutions" / START.path).read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["id"] == "logit_difference":
            cell["source"] = code
    path = folder / START.path.name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def started_by_me() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_no_attack_comes_to_anything(tmp_path, monkeypatch):
    """All that return, in turn in one submission."""
    (tmp_path / "key").write_text("secret")
    monkeypatch.setenv("SOME_API_TOKEN", "secret")
    code = QUIET % (str(ROOT), str(Path.home()), str(tmp_path))
    for name, value in {"KEY_OF_GRADER": 0x5EC, "GRADER": os.getpid(), "PORT": 8899}.items():
        code = f"{name} = {value}\n{code}"
    before = started_by_me()
    files = tmp_path / "files of the grader"
    files.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    results = grade_notebook(START, notebook_with(tmp_path, code + ANSWER % ATTACKS))
    assert results["logit_difference"].message == f"ValueError: {len(ATTACKS)} attacks, of which succeeded: {{}}"
    assert results["answer_already_know"].outcome == PASSED, "one exercise harmed another"
    assert started_by_me() <= before, "processes are left"
    assert not list(files.glob("concrete-steps-*")), "files are left"
    assert (tmp_path / "key").read_text() == "secret"
    assert not list(ROOT.rglob("planted*"))


BODY = "def logit_difference(logits, right, wrong):\n"
ENDINGS = {
    "a memory bomb in children": "    import os\n    taken = []\n    for _ in range(6):\n        os.fork()\n"
    "    while True:\n        taken.append(b'x' * 10**8)\n",
    "it leaves a child behind and stops itself": "    import os, signal, time\n    if os.fork() == 0:\n"
    "        os.setsid()\n        if os.fork() == 0:\n            time.sleep(600)\n"
    "    os.kill(os.getpid(), signal.SIGSTOP)\n",
    "it kills all that it can": "    import os, signal\n    os.kill(-1, signal.SIGKILL)\n",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_violent_end_costs_its_exercise_alone(ending, tmp_path):
    before = started_by_me()
    path = notebook_with(tmp_path, BODY + ENDINGS[ending])
    results = grade_notebook(START, path, Limits(patience=10, memory=2**30))
    assert started_by_me() <= before, "processes are left"
    assert results["logit_difference"].outcome != PASSED
    assert results["answer_already_know"].outcome == PASSED, results["answer_already_know"].text()
