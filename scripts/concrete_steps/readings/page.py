"""A learner's review as one page: papers, notes by claim, what they disagree on, and what to replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown

# A note's fields, in the template's order
FIELDS = ("paper", "claim", "evidence", "where", "falsifier", "disputed by", "replicate", "on", "minutes")
TEMPLATE = """\
paper: a short name of yours
claim: one sentence that can be wrong
evidence: what was measured, beside which null
where: Figure 2, Table 1 or Section 4.3
falsifier: the result that would change your mind
disputed by: who says otherwise, or where you looked
replicate: one figure of it, made small
on: a model of this course
minutes: what that costs"""


def page(review: dict[str, Any]) -> Markdown:
    """The review as a page of the notebook; what is missing is left blank."""
    from IPython.display import Markdown

    papers = review.get("papers", {})
    lines = [f"## {review.get('question', '')}", ""]
    lines += [f"- **{name}**: [{its.get('link', '')}]({its.get('link', '')}). {its.get('shows', '')}"
              for name, its in papers.items()]  # fmt: skip
    for number, note in enumerate(review.get("notes", ()), 1):
        said = {field: str(note.get(field, "")).strip() for field in FIELDS}
        lines += [
            "",
            f"**{number}. {said['claim']}** ({said['paper']}, {said['where']})",
            "",
            f"- Evidence: {said['evidence']}",
            f"- I would change my mind: {said['falsifier']}",
            f"- Disputed: {said['disputed by']}",
            f"- To replicate: {said['replicate']} ({said['on']}, {said['minutes']} minutes)",
        ]
    apart = review.get("disagreement", {})
    between = " and ".join(apart.get("between", ())) or "no two of these papers"
    lines += ["", f"**Disagreement** ({between}): {apart.get('about', '')} {apart.get('settled by', '')}".rstrip()]
    lines += ["", f"**Where I stand**: {review.get('verdict', '')}"]
    return Markdown("\n".join(lines))
