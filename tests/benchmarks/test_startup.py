"""The benchmark of the start runs, and writes what it found; how long anything takes is not looked at."""

from __future__ import annotations

import json


def test_it_answers_for_each_command_and_keeps_what_others_have_answered(perform, tmp_path):
    answers = tmp_path / "answers.json"
    answers.write_text('{"another question": {"figures": []}}')
    printed = perform("startup", "--rounds", 1, "--json", answers)
    found = json.loads(answers.read_text())
    assert set(found) == {"another question", "a start"}
    figures = found["a start"]["figures"]
    commands = ("--help", "list", "compare no-such-column")
    assert [one["what"] for one in figures] == [
        what for name in commands for what in (name, f"{name}, processor time")
    ]
    for one in figures:
        assert one["low"] <= one["value"] <= one["high"]
        assert one["met"] is (one["value"] <= one["target"])
        assert one["what"] in printed
