"""The audit: what was received against what is stored, and against the truth in a lab."""

from forebay.services.audit.html import render_html
from forebay.services.audit.report import AuditReport, GapRow, Problem, Stage, StreamReport
from forebay.services.audit.run import run_audit
from forebay.services.audit.truth import truth_document

__all__ = [
    "AuditReport",
    "GapRow",
    "Problem",
    "Stage",
    "StreamReport",
    "render_html",
    "run_audit",
    "truth_document",
]
