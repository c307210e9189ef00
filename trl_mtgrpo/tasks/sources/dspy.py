"""
Programs written with [DSPy](https://dspy.ai) as tasks: `Task(..., program=module, reward_funcs=dspy_reward(metric))`.

What is trained is taken at the language model: exactly the messages that an adapter rendered and the tokens that were
sampled. So any adapter, demonstrations and instructions of a prompt optimizer stay as they are.
"""

import copy
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from datasets import Dataset
from dspy.lm15 import Message, Request, Response, Usage
from dspy.utils.callback import BaseCallback


# Under this name the way of a rollout to the model travels in DSPy's settings, which its own threads inherit.
_CALL = "trl_mtgrpo_call"
_TRACE = "_trl_mtgrpo_trace"
# Options of a request that a batch with one configuration can serve only where they are the trainer's.
_OPTIONS = ("temperature", "max_tokens", "top_p", "top_k")


class _Engine:
    """The model behind one predictor: asks for the rollout that it is called in."""

    def __init__(self, name: str, sampling: Mapping[str, Any]) -> None:
        self.name, self.sampling = name, sampling

    def complete(self, request: Request) -> Response:
        call = dspy.settings.get(_CALL)
        if call is None:
            raise RuntimeError(
                f"The predictor '{self.name}' must be called by the program that is trained, got a call from outside."
            )
        for option in _OPTIONS:
            asked, used = getattr(request.config, option, None), self.sampling.get(option)
            if asked is not None and asked != used:
                call.refuse(
                    f"must sample with the trainer's `{option}` = {used}, got {asked} from the predictor "
                    f"'{self.name}'. Leave it out of the predictor, or set it for the whole run."
                )
        answer = call.answer(self.name, _messages(request, call))
        return _response(request, answer.text, len(answer.prompt_ids), len(answer.completion_ids))


class _ParseFailures(BaseCallback):  # type: ignore[misc]
    """Hears of answers that an adapter cannot read, also where the program goes on without them."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if exception is not None:
            self.call.mark_unparsed()


class DspyProgram:
    """
    A DSPy module as `program(example, call)`.

    Works on a copy. Predictors without a language model of their own get the policy; the others keep theirs and are
    not trained. Modules are the predictors' names, such as `solve.predict`.

    Args:
        module (`dspy.Module`):
            The module. It is called with those columns of a row that it takes.

    Raises:
        ValueError: when no predictor is left to train.
    """

    unparsed = (dspy.utils.exceptions.AdapterParseError,)

    def __init__(self, module: Any) -> None:
        self.sampling: dict[str, Any] = {}
        self.module = copy.deepcopy(module)
        names = []
        for name, predictor in self.module.named_predictors():
            if predictor.lm is None:
                names.append(name)
                predictor.lm = dspy.LM("policy", engine=_Engine(name, self.sampling), cache=False, num_retries=0)
        if not names:
            raise ValueError(
                "`program` must have a predictor without a language model of its own, got none. The policy takes the "
                "place of those that have none: do not call `set_lm` on what is to be trained."
            )
        self.module_names = tuple(names)

    def __call__(self, example: Mapping[str, Any], call: Any) -> Any:
        trace: list[Any] = []
        options = {
            _CALL: call,
            "adapter": _without_fallback(dspy.settings.adapter),
            "callbacks": [*(dspy.settings.callbacks or []), _ParseFailures(call)],
            "trace": trace,
            "disable_history": True,
        }
        with dspy.context(**options):
            output = self.module(**_inputs(self.module, example))
        if isinstance(output, dspy.Prediction):
            object.__setattr__(output, _TRACE, trace)
        return output


def dspy_reward(metric: Callable[..., Any]) -> Callable[..., list[float | None]]:
    """
    A DSPy metric as a reward function.

    Args:
        metric (`Callable`):
            `metric(example, prediction, trace)`, which returns a number, a truth value, or a `dspy.Prediction` with a
            `score`.

    Returns:
        `Callable`: a reward function for a task with a DSPy program. The metric gets the columns of the row as a
        `dspy.Example` and DSPy's own trace of the rollout; rollouts without a prediction are not shown to it.
    """

    def reward(outputs: list[Any], failed: list[bool], **columns: Any) -> list[float | None]:
        rewards: list[float | None] = []
        lists = {
            name: values
            for name, values in columns.items()
            if isinstance(values, list) and len(values) == len(outputs) and name not in _OF_THE_TRAINER
        }
        for i, (output, dead) in enumerate(zip(outputs, failed, strict=True)):
            if dead:
                rewards.append(None)
                continue
            example = dspy.Example(**{name: values[i] for name, values in lists.items()})
            score = metric(example, output, getattr(output, _TRACE, None))
            rewards.append(float(getattr(score, "score", score)))
        return rewards

    reward.__name__ = getattr(metric, "__name__", type(metric).__name__)
    return reward


def dspy_rows(examples: Sequence[Any]) -> Dataset:
    """
    Examples of DSPy as the rows of a task.

    Args:
        examples (`list[dspy.Example]`):
            The examples, all with the same fields.

    Returns:
        [`~datasets.Dataset`]: their fields, and a column `prompt` with the inputs as text. A program renders prompts
        of its own; this one names the row in tables.
    """
    rows = []
    for example in examples:
        inputs = example.inputs().toDict() if example._input_keys else example.toDict()
        text = "\n".join(f"{name}: {value}" for name, value in inputs.items())
        rows.append({"prompt": [{"role": "user", "content": text}], **example.toDict()})
    return Dataset.from_list(rows)


def policy_lm(trainer: Any) -> Any:
    """
    The trained model as a language model of DSPy, for `dspy.Evaluate` or a program's use after training.

    Args:
        trainer ([`MultiTaskGRPOTrainer`]):
            The trainer. Its generation settings are used.

    Returns:
        `dspy.LM`
    """
    return dspy.LM("policy", engine=_TrainerEngine(trainer), cache=False, num_retries=0)


class _TrainerEngine:
    """Generates one call at a time with the trainer's model."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self._lock = trainer, threading.Lock()

    def complete(self, request: Request) -> Response:
        trainer = self.trainer
        with self._lock:  # evaluations of DSPy call from several threads
            ids, _, fields = trainer._tokenize_prompts([_messages(request)])
            completion_ids, _ = trainer._generate_single_turn(ids, None, fields, 1)
        text = trainer.processing_class.batch_decode(completion_ids, skip_special_tokens=True)[0]
        return _response(request, text, len(ids[0]), len(completion_ids[0]))


# Lists that reward functions get besides the columns of their rows.
_OF_THE_TRAINER = ("prompts", "completions", "completion_ids", "traces")


def _messages(request: Request, call: Any = None) -> list[dict[str, str]]:
    """The request as the messages of a chat template."""
    messages = []
    system = request.system
    if system:
        messages.append({"role": "system", "content": system if isinstance(system, str) else _text(system, call)})
    return messages + [{"role": message.role, "content": _text(message.parts, call)} for message in request.messages]


def _text(parts: Sequence[Any], call: Any) -> str:
    for part in parts:
        if part.type != "text":
            message = f"must send text to the policy, got a part of type {part.type!r}. Keep such fields out of it."
            if call is not None:
                call.refuse(message)
            raise ValueError(
                f"`program` must send text to the policy, got a part of type {part.type!r}. Keep such fields out of "
                "its signatures."
            )
    return "".join(part.text for part in parts)


def _response(request: Request, text: str, prompt_tokens: int, completion_tokens: int) -> Response:
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant(text),
        finish_reason="stop",
        usage=Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens),
    )


def _without_fallback(adapter: Any) -> Any:
    """The adapter without its second call in another format, which would be a call of the same module."""
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False) if adapter is None else adapter
    if getattr(adapter, "use_json_adapter_fallback", False):
        adapter = copy.copy(adapter)
        adapter.use_json_adapter_fallback = False
    return adapter


def _inputs(module: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    """Those columns of a row that the module takes."""
    fields = [name for _, predictor in module.named_predictors() for name in predictor.signature.input_fields]
    if isinstance(module, dspy.Predict):
        return {name: example[name] for name in module.signature.input_fields if name in example}
    parameters = inspect.signature(module.forward).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {k: v for k, v in example.items() if k in names or (takes_all and k in fields)}
