"""What nbgrader's own preprocessors leave to us when a solutions notebook becomes an assignment."""

from __future__ import annotations

import re

from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor


class ClearAnswers(ClearSolutions):
    """nbgrader's ClearSolutions with two stubs: a body raises, an answer at top level stays None."""

    def _replace_solution_region(self, cell, language):
        at_top_level = re.search(r"^### BEGIN SOLUTION", cell.source, re.MULTILINE)
        stub = "# Your answer: replace the None above." if at_top_level else "raise NotImplementedError  # Your code."
        self.code_stub = {language: stub}
        return super()._replace_solution_region(cell, language)


class LetExperimentsFail(NbGraderPreprocessor):
    """An experiment on an exercise that is not done yet shows its error, and does not stop "run all"."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "code" and "nbgrader" not in cell.metadata:
            cell.metadata["tags"] = ["raises-exception"]
        return cell, resources
