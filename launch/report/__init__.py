"""What a run has to show: a page and a few lines of text, both from the files on disk."""

from __future__ import annotations

from launch.report.page import write_report
from launch.report.text import report_text, summary_text

__all__ = ["report_text", "summary_text", "write_report"]
