"""What a DSPy program may send to the policy."""

from types import SimpleNamespace

import pytest


def test_parts_that_are_no_text_are_refused() -> None:
    pytest.importorskip("dspy")
    from trl_mtgrpo.tasks.sources.dspy import _text

    with pytest.raises(ValueError, match="`program` must send text to the policy, got a part of type 'image'"):
        _text([SimpleNamespace(type="image")], None)
