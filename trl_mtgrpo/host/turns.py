"""
The model's turns, first ones and those after tool calls: no longer than each task allows, and in step over the ranks.

Ranks call tools differently often, but a generation backend may need all of them for each call. So in every turn they
agree on the largest number of rows that one of them has; the others fill up with rows that are thrown away, and a rank
that is done goes on until all are.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from trl import GRPOTrainer

from ..tasks import TaskMixture
from .contract import check_tool_rows
from .distributed import Ranks
from .sight import filled, picked, tensors


class _FailedElsewhere(RuntimeError):
    """The tools of another rank failed; that rank raises why."""


class Turns:
    """
    Wraps the two methods in which the host generates.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
        parses_responses (`bool`):
            Whether the tokenizer came with a way to read completions, which the host then uses for all tasks.
    """

    def __init__(self, trainer: Any, mixture: TaskMixture, ranks: Ranks, parses_responses: bool) -> None:
        self.trainer, self.ranks, self.parses_responses = trainer, ranks, parses_responses
        self.limits = [task.max_completion_length or trainer.max_completion_length for task in mixture.tasks]
        # On every rank the same, whatever rows it has.
        self.distinct = sorted(set(self.limits))
        # Environments may add to each prompt, and rows of programs stand between others.
        self.has_own_prompts = any(task.is_agentic or task.program is not None for task in mixture.tasks)
        self._task_ids: list[int] | None = None
        self._spare: list[int] | None = None

    @contextmanager
    def of(self, task_ids: Sequence[int]) -> Iterator[None]:
        """While it lasts the host generates for rows of these tasks."""
        self._task_ids = list(task_ids)
        try:
            yield
        finally:
            self._task_ids = None

    def single(
        self, host: GRPOTrainer, prompt_ids: list[Any], images: Any, fields: Any, *args: Any, **kwargs: Any
    ) -> tuple[list[Any], Any]:
        """The host's `_generate_single_turn`."""
        if self._spare is not None:
            most = self._most(len(prompt_ids))
            return self._filled(host, most, prompt_ids, images, fields, args, kwargs, self._spare)
        if self._task_ids is None or len(self.distinct) == 1:
            if self.has_own_prompts and self.trainer.use_vllm and self.trainer.vllm_mode == "server":
                # Of a group's prompts the server reads the first one.
                args, kwargs = _one_each(args, kwargs)
            with self._within(self.distinct[0]) if self._task_ids is not None else nullcontext():
                return host._generate_single_turn(prompt_ids, images, fields, *args, **kwargs)
        ids: list[Any] = [None] * len(prompt_ids)
        logps: list[Any] = [None] * len(prompt_ids)
        for limit, mine in self._by_limit():
            with self._within(limit):
                found, found_logps = self._filled(
                    host,
                    self._most(len(mine)),
                    [prompt_ids[i] for i in mine],
                    None if images is None else [images[i] for i in mine],
                    picked(fields, images, mine),
                    args,
                    kwargs,
                    self._text_only(prompt_ids[0]),
                )
            for i, row in enumerate(mine):
                ids[row], logps[row] = found[i], None if found_logps is None else found_logps[i]
        return ids, None if all(row is None for row in logps) else logps

    def loop(
        self, host: GRPOTrainer, prompts: list[Any], prompt_ids: list[Any], completion_ids: list[Any], *args: Any
    ) -> tuple[Any, ...]:
        """The host's `_tool_call_loop`."""
        completions, logprobs, images, fields = args
        rest = [logprobs, images, tensors(fields)]
        check_tool_rows(self.trainer, len(prompts))
        for i, name in enumerate(self.trainer._batch_environments):
            if not self.trainer._env_tools[name]:  # what looks like a call is text of this task
                completions[i] = self._as_text(completions[i], completion_ids[i])
        if self._task_ids is None or len(self.distinct) == 1:
            with self._within(self.distinct[0]), self._in_step(host, self._text_only(prompt_ids[0])):
                return host._tool_call_loop(prompts, prompt_ids, completion_ids, completions, *rest)
        per_row = [prompts, prompt_ids, completion_ids, completions]
        results = []
        for limit, mine in self._by_limit():
            own = [[column[i] for i in mine] for column in per_row]
            further = [column and [column[i] for i in mine] for column in (logprobs, images)]
            further.append(picked(fields, images, mine))
            with self._only(mine), self._within(limit), self._in_step(host, self._text_only(prompt_ids[0])):
                results.append((mine, host._tool_call_loop(*own, *further)))
        return _merged(results, len(prompts))

    def _as_text(self, completion: list[dict[str, Any]], ids: list[int]) -> list[dict[str, Any]]:
        """A completion as the host gives it in a run without tools."""
        if self.parses_responses:
            return [{name: value for name, value in part.items() if name != "tool_calls"} for part in completion]
        text = self.trainer.processing_class.batch_decode([ids], skip_special_tokens=True)[0]
        return [{"role": "assistant", "content": text}]

    def _text_only(self, ids: list[int]) -> list[int]:
        """A prompt that may come without its images."""
        of_image = getattr(self.trainer.processing_class, "image_token_id", None)
        return [token for token in ids if token != of_image]

    def _by_limit(self) -> list[tuple[int, list[int]]]:
        """Positions of this rank's rows by their limit."""
        assert self._task_ids is not None
        limits = [self.limits[task_id] for task_id in self._task_ids]
        return [(limit, [i for i, own in enumerate(limits) if own == limit]) for limit in self.distinct]

    @contextmanager
    def _within(self, limit: int) -> Iterator[None]:
        """While it lasts no turn is longer than `limit`, and no completion with its tools' answers."""
        trainer = self.trainer
        if limit == trainer.max_completion_length:
            yield
            return
        backend = trainer.vllm_generation if trainer.use_vllm else trainer.generation_config
        name = "max_completion_length" if trainer.use_vllm else "max_new_tokens"
        before = trainer.max_completion_length, getattr(backend, name)
        trainer.max_completion_length = limit
        setattr(backend, name, limit)
        try:
            yield
        finally:
            trainer.max_completion_length = before[0]
            setattr(backend, name, before[1])

    @contextmanager
    def _only(self, rows: list[int]) -> Iterator[None]:
        """While it lasts the host knows of these rows alone."""
        names = ("_batch_environments", "_sync_tool_dicts", "_async_tool_dicts")
        before = {name: getattr(self.trainer, name) for name in names}
        for name, values in before.items():
            setattr(self.trainer, name, [values[i] for i in rows])
        try:
            yield
        finally:
            for name, values in before.items():
                setattr(self.trainer, name, values)

    @contextmanager
    def _in_step(self, host: GRPOTrainer, spare: list[int]) -> Iterator[None]:
        """While it lasts every turn is taken by all ranks; at its end this one goes on until the others are done."""
        self._spare, others_know = spare, False
        try:
            yield
            while most := self._most(0):
                self._filled(host, most, [], None, {}, (), {}, spare)
            others_know = True
        except (_FailedElsewhere, KeyboardInterrupt):  # nobody may wait for an answer once the user has ended the run
            others_know = True
            raise
        finally:
            self._spare = None
            if not others_know:
                self._most(0, failed=True)

    def _filled(
        self,
        host: GRPOTrainer,
        most: int,
        prompt_ids: list[Any],
        images: Any,
        fields: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        spare: list[int],
    ) -> tuple[list[Any], Any]:
        """A turn of all ranks with `most` rows each, of which this rank's are the first."""
        if not most:
            return [], None
        own = len(prompt_ids)
        missing = most - own
        args, kwargs = _one_each(args, kwargs)
        ids, logps = host._generate_single_turn(
            prompt_ids + [spare] * missing,
            None if images is None else images + [None] * missing,
            filled(fields, missing, len(spare)),
            *args,
            **kwargs,
        )
        return ids[:own], None if logps is None else logps[:own]

    def _most(self, rows: int, failed: bool = False) -> int:
        """The largest number of rows that a rank has."""
        if self.ranks.size == 1:
            return rows
        known = self.ranks.gather([[rows, int(failed)]])
        if known[:, 1].any() and not failed:
            raise _FailedElsewhere("Answering tool calls failed on another rank, whose own error says why.")
        return int(known[:, 0].max())


def _one_each(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a turn in which every row has a prompt of its own; older releases have no word for it."""
    parameters = list(inspect.signature(GRPOTrainer._generate_single_turn).parameters)
    if "num_generations" not in parameters:
        return args, kwargs
    place = parameters.index("num_generations") - 4  # after `self` and three that are always given
    if len(args) > place:
        return (*args[:place], 1, *args[place + 1 :]), kwargs
    return args, {**kwargs, "num_generations": 1}


def _merged(results: list[tuple[list[int], tuple[Any, ...]]], num_rows: int) -> tuple[Any, ...]:
    """Answers for some rows each as one for all: lists by row, numbers summed."""
    merged: list[Any] = []
    for values in zip(*(result for _, result in results), strict=True):
        if all(value is None for value in values):
            merged.append(None)
        elif not any(isinstance(value, list) for value in values):
            merged.append(sum(values))
        else:
            column: list[Any] = [None] * num_rows
            for (rows, _), value in zip(results, values, strict=True):
                for i, row in enumerate(rows):
                    column[row] = value[i]
            merged.append(column)
    return tuple(merged)
