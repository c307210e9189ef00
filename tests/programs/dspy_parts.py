"""DSPy programs of the tests, with an adapter that a tiny model can answer."""

from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from trl_mtgrpo import Task
from trl_mtgrpo.tasks.sources.dspy import dspy_reward, dspy_rows


class Plain(dspy.Adapter):
    """Renders the inputs of a predictor, and takes any answer but those with an exclamation mark."""

    def format(self, signature: Any, demos: Any, inputs: dict[str, Any]) -> list[dict[str, str]]:
        shown = [f"{k}:{v}" for demo in demos for k, v in demo.items() if k in signature.fields]
        content = "|".join([*shown, *(f"{k}={v}" for k, v in inputs.items())])
        return [{"role": "system", "content": signature.instructions[:3]}, {"role": "user", "content": content}]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        if "!" in completion:
            raise AdapterParseError("Plain", signature, completion, parsed_result={})
        return dict.fromkeys(signature.output_fields, completion)


class TwoSteps(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> draft")
        self.answer = dspy.Predict("draft -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(draft=self.draft(question=question).draft)


def vowels(example: Any, prediction: Any, trace: Any = None) -> float:
    text = str(prediction.answer)
    return sum(character in "aeiou" for character in text) / max(len(text), 1)


def dspy_tasks(module: Any, **options: Any) -> list[Task]:
    """One task of 24 questions, rewarded for its vowels."""
    examples = [dspy.Example(question=f"q{i}", label=i).with_inputs("question") for i in range(24)]
    return [Task("dspy", dspy_rows(examples), dspy_reward(vowels), program=module, **options)]
