"""The benchmark prints every budget; it never fails for being slow."""

import json
import subprocess
import sys

from concrete_steps.course import load_course
from concrete_steps.paths import course_root


def test_quick_benchmark_shows_every_row_but_the_executed_notebooks(tmp_path):
    command = [sys.executable, "scripts/benchmark.py", "--quick", "--only", "0", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, cwd=course_root(), capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))}
    expected = {"size of data/", "import concrete_steps", "first check", "later checks, median", "later checks, worst"}
    expected |= {"SmolLM2, later load", "SmolLM2, forward of 15 tokens, all activations cached"}
    expected |= {f"0_start_here, size in {folder}/" for folder in ("notebooks", "solutions")}
    assert set(rows) == expected
    assert all(row["measured"] > 0 for row in rows.values())
    assert all(
        row["exceeded"] == (row["budget"] is not None and row["measured"] > row["budget"]) for row in rows.values()
    )
    assert "import concrete_steps" in done.stdout and "later checks, median" in done.stdout
    assert "NOT PASSED" not in done.stdout


def test_ci_is_projected_from_reports(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<testsuites><testsuite time="180"><testcase classname="tests.course.test_plot" name="test_line" time="60"/>'
        '<testcase classname="tests.course.test_mistakes" name="test_m[1.1-one_hot-adds]" time="120"/>'
        '<testcase classname="tests.test_5_3_grokking" name="test_fft2d" time="60"/>'
        '<testcase classname="tests.course.test_browser" name="test_wrong[0]" time="120"/></testsuite></testsuites>'
    )
    command = [sys.executable, "scripts/benchmark.py", "--ci", str(tmp_path)]
    done = subprocess.run(command, cwd=course_root(), capture_output=True, encoding="utf-8", timeout=100)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    each = 3 / len(load_course().notebooks)
    assert f"{(1 + 2 + 40 * each) / 2:.3g} min" in shown and "2.0 tests at a time" in shown
