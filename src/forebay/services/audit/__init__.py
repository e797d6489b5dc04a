"""The audit: what was received against what is stored, and against the truth in a lab."""

from forebay.services.audit.report import (
    AuditReport,
    Made,
    Problem,
    StageDigest,
    StreamAudit,
    render_html,
)
from forebay.services.audit.run import Use, run_audit
from forebay.services.audit.truth import Truth

__all__ = [
    "AuditReport",
    "Made",
    "Problem",
    "StageDigest",
    "StreamAudit",
    "Truth",
    "Use",
    "render_html",
    "run_audit",
]
