"""What the command of fine-tuning says at its end."""

from __future__ import annotations

from ai_models.training.language.command import of_no_use


def test_a_writer_whose_drafts_nobody_can_read_is_called_of_no_use() -> None:
    assert "5 of 8 drafts" in of_no_use({"all": {"drafts": 8, "unreadable": 5}, "CT": {}})
    assert of_no_use({"all": {"drafts": 8, "unreadable": 4}}) == ""
    assert of_no_use({}) == of_no_use(None) == ""
