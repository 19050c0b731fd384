"""nbgrader in folders with any letters: it makes regular expressions and glob patterns of paths, and escapes few.

`C:\\users`, `course (1)`, `c++` and `[x]` would otherwise mean something else, or nothing: then nbgrader finds no
notebook, or forgets what it was told to ignore. And a learner called `[x]` has as good a name as any.
"""

import glob
import os
import re
import types

from nbgrader import utils
from nbgrader.apps import api
from nbgrader.converters import base
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import full_split

_format_path = CourseDirectory.format_path


def take_paths_by_their_letters() -> None:
    """Mend nbgrader in this process."""
    CourseDirectory.format_path = format_path
    for module in (api, base, utils):
        module.glob = types.SimpleNamespace(glob=glob_of)


def format_path(self, nbgrader_step: str, student_id: str, assignment_id: str, escape: bool = False) -> str:
    """In place of CourseDirectory's own. `escape` asks for a regular expression; ids may be parts of one already."""
    if not escape:
        return _format_path(self, nbgrader_step, student_id, assignment_id)
    return regular_expression(self.root, nbgrader_step, self.directory_structure, student_id, assignment_id)


def regular_expression(root: str, folder: str, structure: str, student: str, assignment: str, system=os.path) -> str:
    """The path of assignments as a regular expression; `folder` may lie elsewhere. `system`: another's os.path."""
    parts = full_split(structure)
    names = {"student_id": student, "assignment_id": assignment}
    if parts[0] == "{nbgrader_step}":
        built = [re.escape(system.join(root, folder))]
    else:
        built = [re.escape(root), parts[0].format(nbgrader_step=re.escape(folder), **names)]
    built += [part.format(nbgrader_step=re.escape(folder), **names) for part in parts[1:]]
    return re.escape(system.sep).join(built)


def glob_of(pattern: str) -> list[str]:
    """glob.glob, in which as much of the pattern as is there is meant by its letters."""
    there, rest = pattern, ""
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there, name = os.path.split(there)
        rest = os.path.join(name, rest) if rest else name
    return glob.glob(os.path.join(glob.escape(there), rest)) if rest else [there]
