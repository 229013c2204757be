"""`ray job submit --working-dir . -- podium train ...` against a Ray head of our own, with token authentication."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_a_submitted_job_trains(job: Job) -> None:
    assert [row["step"] for row in job.run.metrics()] == [1, 2, 3]
    assert job.run.summary() is not None


def test_a_job_without_the_token_is_refused(job: Job) -> None:
    assert job.code_without_token != 0
