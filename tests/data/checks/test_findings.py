"""Findings: actions by kind, deferred errors, and refused kinds and actions."""

from __future__ import annotations

import pytest

from geoguesser.data.checks.findings import FINDING_KINDS, Finding, Findings
from geoguesser.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", FINDING_KINDS)
def test_each_kind_is_what_is_asked(kind: str) -> None:
    finding = Finding(kind, "there", "is bad")
    message = rf"\(1 {kind}\):\n  {kind}: there is bad\n.*data\.on_bad\.{kind}=skip$"
    with pytest.raises(DataError, match=message):
        Findings({kind: "error"}).record([finding])
    findings = Findings({kind: "skip"})
    findings.record([finding])
    findings.record([finding])
    assert findings.count_skipped() == {kind: 2}
    if not FINDING_KINDS[kind].can_keep:
        with pytest.raises(ConfigError, match=f"^data.on_bad.{kind} must be one of error, skip, got 'keep'"):
            Findings({kind: "keep"})
        return
    findings = Findings({kind: "keep"})
    findings.record([finding])
    assert (findings.skipped, findings.kept, findings.count_skipped()) == ([], [finding], {})


def test_defaults_stop_at_mistakes_and_note_curiosities() -> None:
    mistakes = {"bad_row", "duplicate_id", "missing_images", "missing_view", "broken_image", "far_outside", "gone"}
    assert {kind for kind in FINDING_KINDS if Findings().action(kind) == "error"} == mistakes
    noted = {kind for kind in FINDING_KINDS if Findings().action(kind) == "keep"}
    assert {"same_coordinates", "unusual_mode", "turned_image", "odd_aspect"} <= noted
    assert "near_duplicate" not in noted


def test_deferred_errors_are_gathered_and_raised_once() -> None:
    findings = Findings({"odd_aspect": "skip"}, defer=True)
    found = [Finding("bad_row", "a", "is bad"), Finding("odd_aspect", "b", "is long")]
    findings.record(found)
    findings.record([Finding("gone", "c", "is no more"), Finding("turned_image", "d", "lies")])
    rows = findings.to_table().to_numpy().tolist()
    assert rows == [
        ["error", "bad_row", "a", "is bad"],
        ["error", "gone", "c", "is no more"],
        ["skip", "odd_aspect", "b", "is long"],
        ["keep", "turned_image", "d", "lies"],
    ]
    message = r"\(1 bad_row, 1 gone\):(\n.*)+data\.on_bad\.bad_row=skip data\.on_bad\.gone=skip$"
    with pytest.raises(DataError, match=message):
        findings.raise_fatal()


def test_unknown_kinds_and_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.on_bad\.broken_images must be one of the kinds bad_row, "):
        Findings({"broken_images": "skip"})
    for action in ("ignore", None, True, ["skip"]):
        with pytest.raises(ConfigError, match=r"data\.on_bad\.bad_row must be one of error, skip"):
            Findings({"bad_row": action})  # type: ignore[dict-item]
