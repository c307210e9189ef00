"""The calls of programs at the host's generation: one batch per wave, and the host's metrics of what was generated."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts.traces import Answer, Call, Refusal
from .agents import Agents
from .turns import Turns


_TEXT = Refusal(
    "must send messages in a run in which tasks have images, got text. Write `[{'role': 'user', 'content': text}]`.",
    is_bug=True,
)


class CallGeneration:
    """
    Generates the calls of a wave. Ranks with fewer of them than others add rows that nobody reads, so that every rank
    brings the same number to generation engines and to sharded weights.

    The host's `_generate` is not used: it takes prompts to come in runs of G, and would count what nobody reads.

    Args:
        trainer (`Any`):
            The trainer.
        turns ([`Turns`]):
            Bounds how long an answer may be.
        agents ([`Agents`], *optional*):
            Says to the host which tools a prompt is shown with, where any task has some: none.
        messages_only (`bool`, *optional*, defaults to `False`):
            Whether calls must be messages, which is all that the host can lay out beside images.
    """

    def __init__(self, trainer: Any, turns: Turns, agents: Agents | None = None, messages_only: bool = False) -> None:
        self.trainer, self.turns, self.agents, self.messages_only = trainer, turns, agents, messages_only
        self.host: GRPOTrainer | None = None
        self._fields: dict[str, Any] = {}

    def prepare(self, calls: Sequence[Call]) -> list[Any]:
        """
        The tokens of each prompt.

        Args:
            calls (`list[Call]`):
                Calls of this rank.

        Returns:
            `list`: tokens, or a [`Refusal`].
        """
        found: list[Any] = [None] * len(calls)
        fields: dict[str, Any] = {}
        kinds = [[i for i, call in enumerate(calls) if isinstance(call.prompt, str) == kind] for kind in (True, False)]
        for index in kinds:
            prompts = [calls[i].prompt for i in index]
            if prompts:
                with self.agents.without_tools([calls[i].task_id for i in index]) if self.agents else nullcontext():
                    ids, fields = self._tokens(prompts)
                for i, tokens in zip(index, ids, strict=True):
                    found[i] = tokens
        self._fields = fields if not all(kinds) else {}
        if self.messages_only:
            found = [_TEXT if isinstance(call.prompt, str) else ids for call, ids in zip(calls, found, strict=True)]
        limit = self._limit()
        for i, tokens in enumerate(found):
            longest = self.turns.limits[calls[i].task_id]
            if limit is not None and not isinstance(tokens, Refusal) and len(tokens) + longest > limit:
                found[i] = Refusal(f"a prompt of {len(tokens)} tokens, with {longest} to come, in {limit}", False)
        return found

    def generate(self, calls: Sequence[Call], prepared: Sequence[Any], num_rows: int) -> list[Answer]:
        """
        Answers the calls of this rank.

        Args:
            calls (`list[Call]`):
                Calls of this rank.
            prepared (`list[list[int]]`):
                Tokens of their prompts.
            num_rows (`int`):
                Rows of every rank.

        Returns:
            `list[Answer]`
        """
        missing = num_rows - len(calls)
        prompts = [*prepared, *([[self.trainer._tokenizer.pad_token_id]] * missing)]
        fields = {} if missing else self._fields
        assert self.host is not None
        # Rows that nobody reads are as short as any.
        of_tasks = [*(call.task_id for call in calls), *[int(np.argmin(self.turns.limits))] * missing]
        with self.turns.of(of_tasks):
            ids, logprobs = self.turns.single(self.host, prompts, None, fields, 1)
        # Decoding no rows gives one empty text.
        texts = (
            self.trainer.processing_class.batch_decode(ids[: len(calls)], skip_special_tokens=True) if calls else []
        )
        return [
            Answer(
                text=text,
                completion=text if isinstance(call.prompt, str) else [{"role": "assistant", "content": text}],
                prompt_ids=prompts[i],
                completion_ids=ids[i],
                logprobs=None if logprobs is None else logprobs[i],
            )
            for i, (call, text) in enumerate(zip(calls, texts, strict=True))
        ]

    def record(
        self, prompt_tokens: NDArray[np.int64], tokens: NDArray[np.int64], truncated: NDArray[np.int64]
    ) -> None:
        """
        The host's metrics of completions, by its own formulas, over what all ranks generated.

        Args:
            prompt_tokens (`numpy.ndarray` of `int`, shape `(M,)`):
                Length of each prompt.
            tokens (`numpy.ndarray` of `int`, shape `(M,)`):
                Length of each completion.
            truncated (`numpy.ndarray` of `int`, shape `(M,)`):
                1 for completions without an end, 0 for others.
        """
        mode = "train" if self.trainer.model.training else "eval"
        metrics, state = self.trainer._metrics[mode], self.trainer.state
        if mode == "train":
            state.num_input_tokens_seen += int(prompt_tokens.sum() + tokens.sum())
        metrics["num_tokens"] = [state.num_input_tokens_seen]
        if not len(tokens):
            return
        lengths = torch.tensor(tokens, device=self.trainer.accelerator.device).float()
        cut = torch.tensor(truncated, device=lengths.device).bool()
        ended = lengths[~cut] if not bool(cut.all()) else torch.zeros(1)
        for name, values in (("", lengths), ("terminated_", ended)):
            metrics[f"completions/mean_{name}length"].append(values.mean().item())
            metrics[f"completions/min_{name}length"].append(values.min().item())
            metrics[f"completions/max_{name}length"].append(values.max().item())
        metrics["completions/clipped_ratio"].append(cut.float().mean().item())

    def _tokens(self, prompts: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        assert self.host is not None
        try:
            ids, _, fields = self.host._tokenize_prompts(prompts)
            return list(ids), dict(fields)
        except Exception as error:  # a chat template may refuse a dialogue; said on every rank together
            if len(prompts) == 1:
                return [
                    Refusal(
                        "must send prompts that the chat template renders, got "
                        f"{type(error).__name__}: {str(error)[:200]} for {repr(prompts[0])[:80]}. Send what the model "
                        "was made for.",
                        True,
                    )
                ], {}
        return [ids for prompt in prompts for ids in self._tokens([prompt])[0]], {}

    def _limit(self) -> int | None:
        """The longest sequence that the model takes, where it is known."""
        config = self.trainer.accelerator.unwrap_model(self.trainer.model).config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        known = [getattr(config, "max_position_embeddings", None)]
        if self.trainer.use_vllm:
            known.append(getattr(self.trainer.args, "vllm_max_model_length", None))
        lengths = [length for length in known if isinstance(length, int) and length > 0]
        return min(lengths) if lengths else None
