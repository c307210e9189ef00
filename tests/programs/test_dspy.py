"""Real DSPy programs as tasks, and one test for each defect that DSPy's own trainer of programs has."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM

from tests.host_runs import parameters_of
from tests.tiny import rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.rollouts.traces import Answer, Call, Job, Trace
from trl_mtgrpo.rollouts.waves import Waves


dspy = pytest.importorskip("dspy", reason="the extra [dspy] is not installed")

from dspy.utils.exceptions import AdapterParseError  # noqa: E402

from tests.programs.dspy_parts import Plain, TwoSteps, dspy_tasks, vowels  # noqa: E402
from trl_mtgrpo.tasks.sources.dspy import DspyProgram, dspy_reward, dspy_rows, policy_lm  # noqa: E402


class Model:
    """Answers in turn, by rollout and call, and remembers what it was asked."""

    def __init__(self, answers: Callable[[int, int], str]) -> None:
        self.answers, self.asked = answers, [0] * 99

    def prepare(self, calls: Sequence[Call]) -> list[Any]:
        return [[1, 2, 3] for _ in calls]

    def generate(self, calls: Sequence[Call], prepared: Sequence[Any], rows: int) -> list[Answer]:
        found = []
        for call in calls:
            rollout = int(re.search(r"#(\d)", str(call.prompt))[1])
            text = self.answers(rollout, self.asked[rollout])
            self.asked[rollout] += 1
            found.append(Answer(text, text, [1, 2, 3], [ord(c) for c in text]))
        return found


def run(module: Any, answers: Callable[[int, int], str], rollouts: int = 4, adapter: Any = None) -> list[Trace]:
    """Rollouts of a module; the rollout's number is in its question, and answers carry it on."""
    program, model = DspyProgram(module), Model(answers)
    waves = Waves(model.prepare, model.generate, lambda number: number, max_calls=8)
    with dspy.context(adapter=Plain() if adapter is None else adapter):
        traces, bug = waves.run(
            [Job(program, {"question": f"#{i}"}, program.unparsed, program.unparsed) for i in range(rollouts)]
        )
    assert not bug, [trace.bug + trace.details for trace in traces if trace.bug]
    return traces


def ok(rollout: int, call: int) -> str:
    return f"ok{call}#{rollout}"


def modules(trace: Trace) -> list[str]:
    return [call.module for call in trace.calls]


def test_a_module_runs_with_each_predictor_as_a_module_of_its_own() -> None:
    traces = run(TwoSteps(), ok)
    assert [modules(trace) for trace in traces] == [["draft", "answer"]] * 4
    assert [trace.output.answer for trace in traces] == [f"ok1#{i}" for i in range(4)]
    assert traces[1].calls[1].prompt[1] == {"role": "user", "content": "draft=ok0#1"}


# One test for each of the twelve defects.


def test_1_a_rollout_that_never_reaches_a_module_costs_the_others_nothing() -> None:
    traces = run(TwoSteps(), lambda rollout, call: "!" if (rollout, call) == (0, 0) else ok(rollout, call))
    assert [modules(trace) for trace in traces] == [["draft"], *[["draft", "answer"]] * 3]


def test_2_rollouts_of_different_length_are_rollouts() -> None:
    class Loop(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = dspy.Predict("question -> text")

        def forward(self, question: str) -> Any:
            for _ in range(1 + int(question[1])):
                result = self.step(question=question)
            return result

    traces = run(Loop(), ok)
    assert [len(trace.calls) for trace in traces] == [1, 2, 3, 4]
    assert [call.occurrence for call in traces[3].calls] == [0, 1, 2, 3]


def test_3_answers_that_are_read_in_part_keep_their_rollout_and_its_calls() -> None:
    class Half(Plain):
        def parse(self, signature: Any, completion: str) -> dict[str, Any]:
            raise AdapterParseError("Half", signature, completion, parsed_result={"draft": "half"})

    traces = run(TwoSteps(), ok, adapter=Half())
    assert [(trace.ending, len(trace.calls)) for trace in traces] == [("unparsed", 1)] * 4


def test_4_a_failing_call_is_kept_with_the_prompt_that_was_sent() -> None:
    trace = run(TwoSteps(), lambda rollout, call: "!" if call == 1 else ok(rollout, call), rollouts=1)[0]
    assert trace.calls[1].prompt[1]["content"] == "draft=ok0#0"
    assert [call.unparsed for call in trace.calls] == [False, True]


def test_5_what_is_trained_is_what_was_sampled() -> None:
    def preamble(rollout: int, call: int) -> str:
        return f"I think so. [[ ## draft ## ]] 42#{rollout}"

    trace = run(TwoSteps(), preamble, rollouts=1)[0]
    assert bytes(trace.calls[0].answer.completion_ids).decode() == preamble(0, 0)


def test_6_an_unreadable_answer_brings_no_second_call_in_another_format() -> None:
    for adapter in (dspy.ChatAdapter(), dspy.ChatAdapter(use_json_adapter_fallback=True)):
        trace = run(dspy.Predict("question -> answer"), ok, rollouts=1, adapter=adapter)[0]
        assert (modules(trace), trace.ending) == (["self"], "unparsed")


def test_7_predictors_that_share_a_signature_are_two_modules() -> None:
    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = dspy.Signature("question -> text")
            self.one, self.two = dspy.Predict(shared), dspy.Predict(shared)

        def forward(self, question: str) -> Any:
            self.one(question=question)
            return self.two(question=question)

    assert modules(run(Twice(), ok, rollouts=1)[0]) == ["one", "two"]


def test_8_a_program_that_catches_its_errors_still_has_format_failures() -> None:
    class Careful(TwoSteps):
        def forward(self, question: str) -> Any:
            try:
                return super().forward(question)
            except Exception:
                return dspy.Prediction(answer="sorry")

    trace = run(Careful(), lambda rollout, call: "!", rollouts=1)[0]
    assert trace.output.answer == "sorry"
    assert [call.unparsed for call in trace.calls] == [True]


def test_9_the_metric_sees_the_trace() -> None:
    seen: list[Any] = []

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        seen.append((example.label, prediction.answer, [type(step[0]).__name__ for step in trace]))
        return 0.5

    traces = run(TwoSteps(), ok, rollouts=2)
    rewards = dspy_reward(metric)(
        outputs=[trace.output for trace in traces],
        failed=[False, True],
        label=["a", "b"],
        prompts=["", ""],
        traces=[trace.calls for trace in traces],
    )
    assert rewards == [0.5, None]
    assert seen == [("a", "ok1#0", ["Predict", "Predict"])]


def larger_model() -> Qwen2ForCausalLM:
    config = tiny_model().config
    config.max_position_embeddings = 4096
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config)


def trainer(folder: Path, module: Any, adapter: Any = None, **changes: Any) -> MultiTaskGRPOTrainer:
    dspy.configure(adapter=Plain() if adapter is None else adapter)
    task = {name: changes.pop(name) for name in ("trainable_modules", "format_failure_reward") if name in changes}
    torch.manual_seed(0)
    return MultiTaskGRPOTrainer(
        model=larger_model(),
        tasks=dspy_tasks(module, **task),
        args=tiny_config(folder, **({"max_steps": 2} | changes)),
        processing_class=tiny_tokenizer(chat=True),
    )


def collected(own: MultiTaskGRPOTrainer, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    batches: list[Any] = []
    run_type = type(own._run)
    prepare = run_type._prepare_loss

    def recording(self: Any, host: Any, batch: Any, state: Any) -> dict[str, Any]:
        batches.append(batch)
        return prepare(self, host, batch, state)

    monkeypatch.setattr(run_type, "_prepare_loss", recording)
    own.train()
    return batches


def test_10_no_group_waits_longer_than_it_may_and_every_one_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = trainer(tmp_path, TwoSteps(), max_surplus_age=0, max_steps=3)
    for step, batch in enumerate(collected(own, monkeypatch)):
        assert set(batch.groups.generation.tolist()) == {step}
        assert batch.group_ledger.imbalance.tolist() == [0]
        assert batch.group_ledger.carried_out.tolist() == [0]


def test_11_no_member_is_repeated_to_fill_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in collected(trainer(tmp_path, TwoSteps(), format_failure_reward=0.0), monkeypatch):
        places = batch.groups.select(~batch.is_filler).place.reshape(-1, 2)
        real = [tuple(place) for place in places.tolist() if place[1] >= 0]
        assert len(real) == len(set(real))


def test_12_modules_are_reported_and_filtered_and_a_run_is_resumed(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    whole = trainer(tmp_path / "whole", TwoSteps(), **options)
    whole.train()
    resumed = trainer(tmp_path / "resumed", TwoSteps(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert torch.equal(parameters_of(whole), parameters_of(resumed))
    line = whole.state.log_history[0]
    assert line["modules/dspy.draft/groups"] > 0
    assert 0 <= line["modules/dspy.answer/filtered_ratio"] <= 1


# What else is asked of programs written with DSPy.


def test_unreadable_answers_of_the_usual_adapter_train_on_with_their_own_reward(tmp_path: Path) -> None:
    own = trainer(tmp_path, TwoSteps(), dspy.ChatAdapter(), group_filter="none", method="grpo")
    own.train()
    line = own.state.log_history[0]
    assert line["tasks/dspy/format_failures"] == 1.0
    assert line["tasks/dspy/failed_rollouts"] == 1.0
    assert line["reward"] == -1.0
    assert line["tasks/dspy/calls_per_rollout"] == 1.0


def test_demonstrations_of_a_compiled_program_are_sent_and_kept() -> None:
    module = TwoSteps()
    module.draft.demos = [dspy.Example(question="2+2", draft="4")]
    trace = run(module, ok, rollouts=1)[0]
    assert trace.calls[0].prompt[1]["content"].startswith("question:2+2|draft:4|question=#0")
    assert module.draft.lm is None  # the user's module is not changed


def test_predictors_with_a_model_of_their_own_are_neither_asked_nor_trained() -> None:
    class Fixed:
        def complete(self, request: Any) -> Any:
            from dspy.lm15 import Message, Response, Usage

            return Response(None, "fixed", Message.assistant("fixed#0"), "stop", Usage())

    module = TwoSteps()
    module.draft.lm = dspy.LM("fixed", engine=Fixed(), cache=False)
    trace = run(module, ok, rollouts=1)[0]
    assert modules(trace) == ["answer"]
    assert trace.calls[0].prompt[1]["content"] == "draft=fixed#0"


def test_a_program_without_a_predictor_to_train_is_an_error() -> None:
    module = TwoSteps()
    module.set_lm(dspy.LM("some/model"))
    with pytest.raises(ValueError, match="must have a predictor without a language model of its own"):
        DspyProgram(module)


def test_an_unknown_predictor_to_train_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must name modules of its program, got \\['drft'\\]"):
        trainer(tmp_path, TwoSteps(), trainable_modules=["drft"])


def test_sampling_options_of_a_predictor_that_the_run_does_not_have_are_an_error(tmp_path: Path) -> None:
    module = TwoSteps()
    module.draft = dspy.Predict("question -> draft", temperature=0.3)
    with pytest.raises(RuntimeError, match=r"must sample with the trainer's `temperature` = 1\.0, got 0\.3"):
        trainer(tmp_path, module).train()


def test_calls_in_parallel_are_an_error() -> None:
    class Parallel(TwoSteps):
        def forward(self, question: str) -> Any:
            pairs = [(self.draft, {"question": question}) for _ in range(2)]
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    with pytest.raises(AssertionError, match="from the thread that it runs in"):
        run(Parallel(), ok, rollouts=1)


def test_the_trained_model_answers_for_a_program(tmp_path: Path) -> None:
    own = trainer(tmp_path, TwoSteps())
    own.train()
    examples = [dspy.Example(question=f"q{i}").with_inputs("question") for i in range(4)]
    with dspy.context(lm=policy_lm(own), adapter=Plain()):
        evaluate = dspy.Evaluate(devset=examples, metric=vowels, num_threads=2, display_progress=False)
        score = evaluate(TwoSteps()).score
    assert 0 <= score <= 100


@pytest.mark.slow
def test_a_program_learns(tmp_path: Path) -> None:
    own = trainer(tmp_path, TwoSteps(), max_steps=25, learning_rate=2e-2, per_device_train_batch_size=32)
    own.train()
    rewards = [line["tasks/dspy/reward"] for line in own.state.log_history if "tasks/dspy/reward" in line]
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 0.2


def test_rows_are_made_of_examples() -> None:
    made = dspy_rows([dspy.Example(question="a", label=1).with_inputs("question")])
    assert made[0] == {"prompt": [{"role": "user", "content": "question: a"}], "question": "a", "label": 1}
    assert rows("p", 1)[0]["prompt"] == "p0"
